//! Debian's chromium without a window, told what to do over a pipe. It is a package of the host, or in the Debian of
//! docker 28 where the host is no Debian.
//!
//! Source: Chrome DevTools Protocol; chromium, `--remote-debugging-pipe`: JSON messages on descriptors 3 and 4, each ended
//! by a zero byte.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::engine::Root;
use super::{Engine, Folder};

const PROGRAM: &str = "/usr/bin/chromium-headless-shell";
/// How long a page may take for what it does at once on a machine without other work.
const PATIENCE: Duration = Duration::from_secs(60);

/// A browser with one page. Dropping it kills it.
pub struct Browser {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    session: Option<String>,
    calls: u64,
    /// What happened since the last page was opened.
    events: Vec<Value>,
    // Last: its drop unmounts what the browser uses.
    _folder: Folder,
}

impl Browser {
    /// Starts one.
    #[track_caller]
    pub fn start() -> Self {
        let folder = Folder::new();
        let (program, profile) = match Path::new(PROGRAM).exists() {
            true => (Command::new(PROGRAM), folder.path().to_path_buf()),
            false => {
                let root = Root::new(Engine::Docker28, folder.path());
                (root.command("chromium-headless-shell"), root.inside(""))
            }
        };
        let mut child = Command::new("bash")
            .args(["-c", "exec \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1", "bash"])
            .arg(program.get_program())
            .args(program.get_args())
            .args(["--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"])
            .arg(format!("--user-data-dir={}", profile.join("profile").display()))
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", profile)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (to, from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut browser = Self {
            child,
            to,
            from: BufReader::new(from),
            session: None,
            calls: 0,
            events: Vec::new(),
            _folder: folder,
        };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = browser.call("Target.attachToTarget", attach);
        browser.session = Some(attached["sessionId"].as_str().unwrap().to_owned());
        for domain in ["Page", "Runtime", "Network", "Log", "Accessibility"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    /// Calls a method and waits for its result.
    #[track_caller]
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        let mut answer = self.ask(method, params);
        assert!(answer["error"].is_null(), "{method}: {answer}");
        answer["result"].take()
    }

    #[track_caller]
    fn ask(&mut self, method: &str, params: Value) -> Value {
        self.calls += 1;
        let id = self.calls;
        let mut message = json!({ "id": id, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = session.as_str().into();
        }
        self.to.write_all(format!("{message}\0").as_bytes()).unwrap();
        loop {
            let message = self.read();
            if message["id"] == id {
                return message;
            }
            self.events.push(message);
        }
    }

    #[track_caller]
    fn read(&mut self) -> Value {
        let mut message = Vec::new();
        self.from.read_until(0, &mut message).unwrap();
        assert_eq!(
            message.pop(),
            Some(0),
            "chromium has ended: {:?}",
            self.child.try_wait()
        );
        serde_json::from_slice(&message).unwrap()
    }

    /// Sets the size of the window in CSS pixels, and light or dark.
    #[track_caller]
    pub fn screen(&mut self, width: u32, height: u32, scheme: &str) {
        let is_mobile = width < 600;
        self.call(
            "Emulation.setDeviceMetricsOverride",
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": is_mobile }),
        );
        self.call(
            "Emulation.setEmulatedMedia",
            json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] }),
        );
    }

    /// Opens a page and waits until it is loaded.
    #[track_caller]
    pub fn open(&mut self, url: &str) {
        self.events.clear();
        let opened = self.call("Page.navigate", json!({ "url": url }));
        assert!(opened["errorText"].is_null(), "{url}: {opened}");
        while !self
            .events
            .iter()
            .any(|event| event["method"] == "Page.loadEventFired")
        {
            let event = self.read();
            self.events.push(event);
        }
    }

    /// The value of an expression in the page.
    #[track_caller]
    pub fn value(&mut self, expression: &str) -> Value {
        let asked = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let mut answer = self.call("Runtime.evaluate", asked);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].take()
    }

    /// Waits until an expression is true.
    #[track_caller]
    pub fn until(&mut self, expression: &str) {
        let until = Instant::now() + PATIENCE;
        // Between two pages there is nothing that has a value.
        let asked = json!({ "expression": expression, "returnByValue": true });
        while self.ask("Runtime.evaluate", asked.clone())["result"]["result"]["value"] != true {
            assert!(Instant::now() < until, "{expression}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Presses a key that is a character.
    #[track_caller]
    pub fn press(&mut self, key: &str) {
        for kind in ["keyDown", "keyUp"] {
            self.call(
                "Input.dispatchKeyEvent",
                json!({ "type": kind, "key": key, "text": key }),
            );
        }
    }

    /// Types a text.
    #[track_caller]
    pub fn type_text(&mut self, text: &str) {
        self.call("Input.insertText", json!({ "text": text }));
    }

    /// What it shows, as a PNG.
    #[track_caller]
    pub fn screenshot(&mut self) -> Vec<u8> {
        let taken = self.call("Page.captureScreenshot", json!({ "format": "png" }));
        STANDARD.decode(taken["data"].as_str().unwrap()).unwrap()
    }

    /// Roles and names as a screen reader gets them, such as `columnheader Image`.
    #[track_caller]
    pub fn spoken(&mut self) -> Vec<String> {
        let tree = self.call("Accessibility.getFullAXTree", json!({}));
        let nodes = tree["nodes"].as_array().unwrap().iter();
        let nodes = nodes.filter(|node| node["ignored"] != true);
        let text = |node: &Value, field: &str| node[field]["value"].as_str().unwrap_or_default().to_owned();
        nodes
            .map(|node| {
                format!("{} {}", text(node, "role"), text(node, "name"))
                    .trim()
                    .to_owned()
            })
            .collect()
    }

    /// The addresses that were requested since the page was opened, and what the browser complains of.
    #[track_caller]
    pub fn requests_and_complaints(&mut self) -> (Vec<String>, Vec<String>) {
        // What has happened before is told before the answer.
        self.value("1");
        let of = |method: &str, field: &str| {
            let events = self.events.iter().filter(|event| event["method"] == method);
            let found = events.map(|event| event.pointer(field).map(ToString::to_string).unwrap_or_default());
            found.collect::<Vec<_>>()
        };
        let mut complaints = of("Log.entryAdded", "/params/entry/text");
        complaints.extend(of("Runtime.exceptionThrown", "/params/exceptionDetails"));
        (of("Network.requestWillBeSent", "/params/request/url"), complaints)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
