//! Debian's Chromium without a window, over the pipe of its debugging protocol: that shows a page also where scripts are
//! switched off.
//!
//! Source: <https://chromedevtools.github.io/devtools-protocol/>, and `chromium/chromium:content/browser/devtools/devtools_pipe_handler.cc`
//! for the pipe: file descriptor 3 in, 4 out, a NUL byte after each message.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

pub(crate) struct Browser {
    child: Child,
    _profile: tempfile::TempDir,
    input: File,
    output: BufReader<File>,
    last: u64,
    session: Option<String>,
    /// What it told without being asked.
    events: Vec<Value>,
}

/// How a page is looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    pub(crate) width: u32,
    pub(crate) scheme: &'static str,
    pub(crate) scripts: bool,
}

impl Browser {
    pub(crate) fn start() -> Result<Self> {
        let profile = tempfile::tempdir()?;
        let pipe = |name: &str| profile.path().join(name);
        let made = Command::new("mkfifo").args([pipe("in"), pipe("out")]).status()?;
        ensure!(made.success(), "mkfifo: {made}");
        let data = format!("--user-data-dir={}", profile.path().join("data").display());
        // The shell opens what the browser expects to be open. It ends with the test, also when that is killed.
        let script = "exec chromium \"$@\" 3<\"$IN\" 4>\"$OUT\"";
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", "sh", "-c", script, "sh", "--headless=new", "--no-sandbox"])
            .args(["--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--no-first-run"])
            .args(["--disable-background-networking", "--remote-debugging-pipe", &data])
            .env("IN", pipe("in"))
            .env("OUT", pipe("out"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("chromium: install chromium")?;
        let input = File::options().write(true).open(pipe("in"))?;
        let output = BufReader::new(File::open(pipe("out"))?);
        let mut browser =
            Self { child, _profile: profile, input, output, last: 0, session: None, events: Vec::new() };
        let target = browser.call("Target.createTarget", &json!({ "url": "about:blank" }))?;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let session = browser.call("Target.attachToTarget", &attach)?;
        browser.session = Some(session["sessionId"].as_str().context("a session")?.into());
        for domain in ["Page", "Runtime", "Log"] {
            browser.call(&format!("{domain}.enable"), &json!({}))?;
        }
        Ok(browser)
    }

    /// Loads a page anew, and returns when it is there with everything that belongs to it.
    pub(crate) fn open(&mut self, url: &str, view: View) -> Result<()> {
        let View { width, scheme, scripts } = view;
        self.call("Emulation.setScriptExecutionDisabled", &json!({ "value": !scripts }))?;
        let scheme = json!({ "name": "prefers-color-scheme", "value": scheme });
        self.call("Emulation.setEmulatedMedia", &json!({ "features": [scheme] }))?;
        let size = json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", &size)?;
        self.events.clear();
        let answer = self.call("Page.navigate", &json!({ "url": url }))?;
        ensure!(answer.get("errorText").is_none(), "{url}: {answer}");
        self.wait_for("Page.loadEventFired")
    }

    /// What an expression is on the page. The browser's own, so it works also where the page has no scripts.
    pub(crate) fn evaluate(&mut self, expression: &str) -> Result<Value> {
        let asked = json!({ "expression": expression, "returnByValue": true });
        let answer = self.call("Runtime.evaluate", &asked)?;
        ensure!(answer.get("exceptionDetails").is_none(), "{expression}: {answer}");
        Ok(answer["result"]["value"].clone())
    }

    /// The whole page as a picture.
    pub(crate) fn picture(&mut self) -> Result<Vec<u8>> {
        let asked = json!({ "format": "png", "captureBeyondViewport": true });
        let answer = self.call("Page.captureScreenshot", &asked)?;
        Ok(BASE64_STANDARD.decode(answer["data"].as_str().context("a picture")?)?)
    }

    /// What a screen reader is told: role and name of everything.
    pub(crate) fn spoken(&mut self) -> Result<Vec<(String, String)>> {
        let tree = self.call("Accessibility.getFullAXTree", &json!({}))?;
        let nodes =
            tree["nodes"].as_array().context("a tree")?.iter().filter(|node| node["ignored"] == false);
        let word = |value: &Value| value["value"].as_str().unwrap_or_default().trim().to_owned();
        Ok(nodes.map(|node| (word(&node["role"]), word(&node["name"]))).collect())
    }

    /// What the page had to complain about since it was opened.
    pub(crate) fn complaints(&self) -> Vec<&Value> {
        let kinds = ["Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled"];
        self.events.iter().filter(|event| kinds.iter().any(|kind| event["method"] == *kind)).collect()
    }

    /// Waits for something that happens by itself.
    pub(crate) fn wait_for(&mut self, event: &str) -> Result<()> {
        loop {
            if let Some(at) = self.events.iter().position(|it| it["method"] == event) {
                self.events.remove(at);
                return Ok(());
            }
            let next = self.read()?;
            self.events.push(next);
        }
    }

    fn call(&mut self, method: &str, parameters: &Value) -> Result<Value> {
        self.last += 1;
        let id = self.last;
        let mut message = json!({ "id": id, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        self.input.write_all(&bytes)?;
        loop {
            let mut answer = self.read().with_context(|| method.to_owned())?;
            if answer["id"] == id {
                ensure!(answer.get("error").is_none(), "{method}: {answer}");
                return Ok(answer["result"].take());
            }
            self.events.push(answer);
        }
    }

    fn read(&mut self) -> Result<Value> {
        let mut bytes = Vec::new();
        self.output.read_until(0, &mut bytes)?;
        ensure!(bytes.pop() == Some(0), "the browser has ended");
        Ok(serde_json::from_slice(&bytes)?)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
