//! A node as a process, that can be killed and started again where it was.

#![allow(dead_code, reason = "each suite uses a part")]

use core::time::Duration;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};

use anyhow::{Context, Result, ensure};
use cuttlebone_testkit::{Deadline, Program};
use rustix::process::{Pid, Signal};
use serde_json::Value;

pub(crate) mod follower;
pub(crate) mod holder;
pub(crate) mod three;

const WITHIN: Duration = Duration::from_secs(60);

/// How many times something is killed.
pub(crate) fn rounds(default: u32) -> u32 {
    std::env::var("CUTTLEBONE_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

pub(crate) struct Running {
    name: String,
    dir: PathBuf,
    config: PathBuf,
    replicas: bool,
    environment: Vec<(String, String)>,
    child: Option<Child>,
    lines: Option<Receiver<Value>>,
    links: Option<String>,
    http: Option<String>,
}

impl Running {
    /// A node with a bucket, tokens and an HTTP face; `parts` is the rest of its configuration.
    pub(crate) fn new(dir: &Path, name: &str, parts: &str) -> Result<Self> {
        let dir = dir.join(name);
        fs::create_dir(&dir)?;
        let config = dir.join("node.toml");
        let path = |name: &str| dir.join(name).display().to_string();
        let (bucket, tokens) = (path("bucket"), path("tokens"));
        let text = format!(
            "[node]\nname = \"{name}\"\n[bucket]\ndir = \"{bucket}\"\n[tokens]\ndir = \"{tokens}\"\n\
             [http]\nlisten = \"127.0.0.1:0\"\nlease_s = 2\n{parts}"
        );
        fs::write(&config, text)?;
        let name = name.into();
        let environment = Vec::new();
        Ok(Self {
            name,
            dir,
            config,
            replicas: false,
            environment,
            child: None,
            lines: None,
            links: None,
            http: None,
        })
    }

    /// Others may follow it.
    pub(crate) fn serve_replicas(&mut self) {
        self.replicas = true;
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// With this variable in its environment.
    pub(crate) fn env(&mut self, name: &str, value: impl Into<String>) {
        self.environment.push((name.into(), value.into()));
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Writes its configuration anew, with something else in it.
    pub(crate) fn configure(&self, change: impl FnOnce(String) -> String) -> Result<()> {
        Ok(fs::write(&self.config, change(fs::read_to_string(&self.config)?))?)
    }

    /// Starts it, at the addresses that it had before, and waits until it says where it is.
    pub(crate) fn start(&mut self) -> Result<()> {
        self.spawn()?;
        self.wait_until_served()
    }

    /// Starts it, and waits for nothing.
    pub(crate) fn spawn(&mut self) -> Result<()> {
        // Ends with the test, also when that is killed.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", env!("CARGO_BIN_EXE_cuttlebone")]);
        command.args(["node", "run", "--json", "--log-format", "json", "--config"]).arg(&self.config);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        if self.replicas {
            let links = self.links.clone().unwrap_or_else(|| "127.0.0.1:0".into());
            command.arg("--set").arg(format!("links.listen={links}")).args(["--set", "links.replicas=true"]);
        }
        if let Some(http) = &self.http {
            command.arg("--set").arg(format!("http.listen={http}"));
        }
        let log = fs::OpenOptions::new().create(true).append(true).open(self.dir.join("log"))?;
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn()?;
        let stdout = child.stdout.take().context("standard output")?;
        self.lines = Some(read(stdout));
        self.child = Some(child);
        Ok(())
    }

    /// Waits until it says where it is.
    pub(crate) fn wait_until_served(&mut self) -> Result<()> {
        Deadline::after(WITHIN)
            .wait_for(format!("{} says where it is", self.name), || {
                let line = self.lines.as_ref()?.try_recv().ok()?;
                self.http = Some(line["http"].as_str()?.trim_start_matches("http://").into());
                if self.replicas {
                    let links = line["links"].as_str()?;
                    self.links = Some(links.trim_start_matches("v2:").trim_end_matches("/0").into());
                }
                Some(())
            })
            .with_context(|| self.log())
    }

    /// Waits until it serves.
    pub(crate) fn wait_until_serving(&self) -> Result<()> {
        Deadline::after(WITHIN).wait_for(format!("{} serves", self.name), || {
            (self.status().ok()?["node"]["stage"] == "serving").then_some(())
        })
    }

    pub(crate) fn links(&self) -> Result<String> {
        self.links.clone().context("it accepts no links")
    }

    pub(crate) fn server(&self) -> &str {
        self.http.as_deref().unwrap_or_default()
    }

    pub(crate) fn kill(&mut self) -> Result<()> {
        let mut child = self.child.take().context("it is not running")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Asks it to end, which it has to do well.
    pub(crate) fn stop(&mut self) -> Result<()> {
        self.signal(Signal::TERM)?;
        let ended = self.wait()?;
        ensure!(ended.success(), "{ended}: {}", self.log());
        Ok(())
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        let child = self.child.as_ref().context("it is not running")?;
        Ok(rustix::process::kill_process(Pid::from_child(child), signal)?)
    }

    /// Whether it has not ended.
    pub(crate) fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.as_mut().context("it is not running")?.try_wait()?.is_none())
    }

    /// Waits for its end, and tells how it was.
    pub(crate) fn wait(&mut self) -> Result<ExitStatus> {
        let mut child = self.child.take().context("it is not running")?;
        let ended = Deadline::after(WITHIN).wait_for("it ends", || child.try_wait().ok().flatten());
        if ended.is_err() {
            self.child = Some(child);
        }
        ended.with_context(|| self.log())
    }

    pub(crate) fn list_crc(&self) -> Result<String> {
        Ok(program().ok(["node", "list-crc", "--server", self.server()])?.stdout)
    }

    pub(crate) fn status(&self) -> Result<Value> {
        program().json(["node", "status", "--json", "--server", self.server()])
    }

    pub(crate) fn update(&self, step: &str) -> Result<Value> {
        program().json(["node", "update", step, "--json", "--server", self.server()])
    }

    /// What it logged, from the first start on.
    pub(crate) fn logged(&self) -> Vec<Value> {
        let log = fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    pub(crate) fn log(&self) -> String {
        let log = fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().rev().take(30).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("{}:\n{}", self.name, self.log());
        }
    }
}

pub(crate) fn program() -> Program {
    Program::new(env!("CARGO_BIN_EXE_cuttlebone"))
}

/// What it says, line by line, as it comes.
fn read(stdout: ChildStdout) -> Receiver<Value> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let Ok(line) = serde_json::from_str(&line) else { return };
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}
