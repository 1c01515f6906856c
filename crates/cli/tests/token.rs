//! `cuttlebone token` as scripts use it: a service and its clients as processes.
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};

fn cuttlebone(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cuttlebone"));
    for variable in ["CEPH_ARGS", "CUTTLEBONE_TOKEN_SERVER", "CUTTLEBONE_EPOCH", "CUTTLEBONE_NAME"] {
        command.env_remove(variable);
    }
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Ended with its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Not SIGKILL: it has a command of its own to end.
        if let Ok(None) = self.0.try_wait()
            && let Some(pid) = self.0.id().try_into().ok().and_then(rustix::process::Pid::from_raw)
        {
            let _ended_already = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _status = self.0.wait();
    }
}

struct Service {
    _process: Running,
    url: String,
    _state: tempfile::TempDir,
}

impl Service {
    fn start(listen: &str) -> Self {
        let state = tempfile::tempdir().unwrap();
        let directory = state.path().join("epochs");
        let listen = listen.replace("DIR", state.path().to_str().unwrap());
        let mut process = cuttlebone(&[
            "token",
            "serve",
            "--json",
            "--listen",
            &listen,
            "--state",
            directory.to_str().unwrap(),
        ])
        .spawn()
        .unwrap();
        let line = line(&mut process);
        let listening: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&listening["schema"], &listening["event"]), (&1.into(), &"listening".into()));
        let url = listening["address"].as_str().unwrap().to_owned();
        Self { _process: Running(process), url, _state: state }
    }

    fn run(&self, verb: &str, arguments: &[&str]) -> Output {
        cuttlebone(&[&["token", verb, "--server", &self.url], arguments].concat()).output().unwrap()
    }

    fn spawn(&self, verb: &str, arguments: &[&str]) -> Running {
        Running(cuttlebone(&[&["token", verb, "--server", &self.url], arguments].concat()).spawn().unwrap())
    }

    fn ls(&self) -> Vec<serde_json::Value> {
        let output = self.run("ls", &["--json"]);
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        answer["registrations"].as_array().unwrap().clone()
    }

    fn until(&self, what: impl Fn(&[serde_json::Value]) -> bool) {
        while !what(&self.ls()) {}
    }
}

/// The next line of its standard output.
fn line(process: &mut Child) -> String {
    let mut line = String::new();
    let out = process.stdout.as_mut().unwrap();
    BufReader::with_capacity(1, out).read_line(&mut line).unwrap();
    line
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_command_runs_under_a_token_with_its_fence_and_ends_with_its_own_status() {
    for listen in ["127.0.0.1:0", "unix:DIR/socket"] {
        let service = Service::start(listen);
        let script = "echo $CUTTLEBONE_NAME $CUTTLEBONE_EPOCH $CUTTLEBONE_SEQ $CUTTLEBONE_FENCE; exit 42";
        let output = service.run("exec", &["--name", "backup", "--limit", "2", "--", "sh", "-c", script]);
        assert_eq!(output.status.code(), Some(42), "{output:?}");
        let said = text(&output.stdout);
        let words: Vec<_> = said.split_whitespace().collect();
        assert_eq!(words[..3], ["backup", "1", "1"]);
        assert!(words[3].len() == 48 && words[3].ends_with("00000000000000010000000000000001"), "{said}");
        let killed = service.run("exec", &["--name", "backup", "--", "sh", "-c", "kill -9 $$"]);
        assert_eq!(killed.status.code(), Some(137), "as shells say it");
        assert!(service.ls().is_empty());
    }
}

#[test]
fn no_more_than_the_limit_run_at_a_time_and_the_next_begins_when_one_ends() {
    let service = Service::start("127.0.0.1:0");
    let start = || {
        let mut running =
            service.spawn("exec", &["--name", "n", "--limit", "2", "--", "sh", "-c", "echo up; sleep 600"]);
        assert_eq!(line(&mut running.0), "up\n");
        running
    };
    let (first, _second) = (start(), start());
    let refused = service.run("exec", &["--name", "n", "--limit", "2", "--no-wait", "--", "true"]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(text(&refused.stderr).contains("no token is free"));
    let mut third = service.spawn("exec", &["--name", "n", "--limit", "2", "--", "echo", "mine"]);
    service.until(|names| names[0]["waiting"] == 1);
    // The orderly end: SIGTERM goes to the command, and the token comes back when the command has ended.
    let pid = rustix::process::Pid::from_raw(first.0.id().try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(line(&mut third.0), "mine\n");
    assert_eq!(third.0.wait().unwrap().code(), Some(0));
}

#[test]
fn a_revoked_command_is_ended_and_says_so() {
    let service = Service::start("127.0.0.1:0");
    let mut running = service.spawn("exec", &["--name", "n", "--", "sh", "-c", "echo up; sleep 600"]);
    assert_eq!(line(&mut running.0), "up\n");
    assert_eq!(service.run("revoke", &["n"]).status.code(), Some(0));
    assert_eq!(running.0.wait().unwrap().code(), Some(5));
    assert_eq!(service.run("revoke", &["n"]).status.code(), Some(4), "nobody has it any more");
    assert_eq!(service.run("revoke", &["n", "--force"]).status.code(), Some(2), "--force needs --yes");
}

#[test]
fn a_killed_exec_leaves_its_token_with_the_command_that_runs_on() {
    let service = Service::start("127.0.0.1:0");
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let script = format!("echo up; read line < {}", fifo.display());
    let mut running = service.spawn("exec", &["--name", "n", "--", "sh", "-c", &script]);
    assert_eq!(line(&mut running.0), "up\n");
    running.0.kill().unwrap(); // SIGKILL
    running.0.wait().unwrap();
    let refused = service.run("exec", &["--name", "n", "--no-wait", "--", "true"]);
    assert_eq!(refused.status.code(), Some(1), "the command is still at work: {refused:?}");
    std::fs::write(&fifo, "end\n").unwrap();
    service.until(<[serde_json::Value]>::is_empty);
}

#[test]
fn a_killed_agent_is_followed_by_one_with_a_greater_epoch_and_its_workers_are_fenced() {
    let service = Service::start("unix:DIR/socket");
    let agent = |takeover: &str| {
        let script = "echo $CUTTLEBONE_EPOCH; sleep 600";
        let mut agent =
            service.spawn("register", &["--name", "agent", "--takeover", takeover, "--", "sh", "-c", script]);
        let epoch = line(&mut agent.0).trim().to_owned();
        (agent, epoch)
    };
    let (mut first, old) = agent("deny");
    let denied = service.run("register", &["--name", "agent", "--", "true"]);
    assert_eq!(denied.status.code(), Some(1));
    assert!(text(&denied.stderr).contains("the name is taken"));
    let (_second, new) = agent("preempt");
    assert!(new.parse::<u64>().unwrap() > old.parse::<u64>().unwrap());
    assert_eq!(first.0.wait().unwrap().code(), Some(5), "the fenced agent was ended");
    let stale = service.run("exec", &["--name", "agent", "--epoch", &old, "--", "true"]);
    assert_eq!((stale.status.code(), text(&stale.stderr).contains("fenced")), (Some(1), true));
    let current = service.run("exec", &["--name", "agent", "--epoch", &new, "--", "true"]);
    assert_eq!(current.status.code(), Some(0), "{current:?}");
}

#[test]
fn a_service_that_is_not_there_or_not_safe_is_a_readable_error() {
    let gone = cuttlebone(&["token", "ls", "--server", "http://127.0.0.1:1"]).output().unwrap();
    assert_eq!(gone.status.code(), Some(6), "{gone:?}");
    let open = cuttlebone(&["token", "serve", "--listen", "0.0.0.0:0", "--quiet"]).output().unwrap();
    assert_eq!(open.status.code(), Some(2));
    assert!(text(&open.stderr).contains("bearer token is required"), "{open:?}");
    let nonsense = cuttlebone(&["token", "ls", "--server", "nonsense"]).output().unwrap();
    assert_eq!(nonsense.status.code(), Some(2));
}
