//! A running `readers`, which answers for one input after the other.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;

pub struct Go {
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Go {
    pub fn start(program: &Path) -> Go {
        let mut command = Command::new(program);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let questions = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Go {
            child,
            questions,
            answers,
        }
    }

    /// What Go makes of an input that is of the kind of this letter.
    pub fn ask(&mut self, letter: u8, input: &[u8]) -> Value {
        let mut question = vec![letter];
        question.extend(u32::try_from(input.len()).unwrap().to_le_bytes());
        question.extend(input);
        self.questions.write_all(&question).unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    pub fn stop(mut self) {
        drop(self.questions);
        assert!(self.child.wait().unwrap().success());
    }
}
