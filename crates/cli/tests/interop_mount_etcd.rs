//! `cuttlebone mount` against real etcd, as processes that are killed.
#![cfg(feature = "etcd")]
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

/// Ended by its process id with its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ended_already = self.0.kill();
        let _status = self.0.wait();
    }
}

struct Etcd {
    folder: tempfile::TempDir,
    ports: (u16, u16),
    process: Option<Running>,
    secret: Option<String>,
}

impl Etcd {
    fn start() -> Self {
        // Held together, so that they differ; between here and etcd's own bind somebody else could take one.
        let sockets = [0, 1].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
        let [client, peer] = sockets.each_ref().map(|socket| socket.local_addr().unwrap().port());
        drop(sockets);
        let folder = tempfile::tempdir().unwrap();
        let mut etcd = Self { folder, ports: (client, peer), process: None, secret: None };
        etcd.restart();
        etcd
    }

    fn restart(&mut self) {
        let [client, peer] = [self.ports.0, self.ports.1].map(|port| format!("http://127.0.0.1:{port}"));
        let process = Command::new("etcd")
            .args(["--logger", "zap", "--log-level", "error", "--data-dir"])
            .arg(self.folder.path().join("data"))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("etcd: install etcd-server");
        self.process = Some(Running(process));
        while !self.run("ls", &[]).status.success() {}
    }

    fn command(&self, verb: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cuttlebone"));
        for variable in ["CEPH_ARGS", "CUTTLEBONE_MOUNT_TABLE", "CUTTLEBONE_TOKEN_FILE", "CUTTLEBONE_EPOCH"] {
            command.env_remove(variable);
        }
        let url = format!("etcd://127.0.0.1:{}/test/mounts", self.ports.0);
        command.args(["mount", verb, "--table", &url]);
        if let Some(secret) = &self.secret {
            command.args(["--token-file", secret]);
        }
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, verb: &str, arguments: &[&str]) -> Output {
        self.command(verb, arguments).output().unwrap()
    }

    /// A command that ends when its input does.
    fn publish(&self, arguments: &[&str]) -> Running {
        let mut command = self.command("publish", &[arguments, &["--", "cat"]].concat());
        Running(command.stdin(Stdio::piped()).spawn().unwrap())
    }

    fn until(&self, name: &str, servers: &str) {
        while self.run("resolve", &[name]).stdout != servers.as_bytes() {}
    }

    fn etcdctl(&self, arguments: &[&str]) {
        let endpoint = format!("127.0.0.1:{}", self.ports.0);
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").args(["--endpoints", &endpoint]).args(arguments);
        let output = command.output().expect("etcdctl: install etcd-client");
        assert!(output.status.success(), "{output:?}");
    }
}

/// The next line of a watch.
fn event(watch: &mut Running) -> Value {
    let mut line = String::new();
    let out = watch.0.stdout.as_mut().unwrap();
    BufReader::with_capacity(1, out).read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap()
}

#[test]
fn a_publisher_that_is_killed_loses_its_name_with_its_lease_and_watchers_hear_of_it() {
    let etcd = Etcd::start();
    let mut watch = Running(etcd.command("watch", &["--json", "a/*"]).spawn().unwrap());
    assert_eq!(event(&mut watch)["event"], "listed");
    let mut running = etcd.publish(&["--name", "a/b", "--server", "h:1", "--ttl", "2"]);
    assert_eq!(event(&mut watch)["event"], "mounted");
    etcd.until("a/b/c", "h:1/c\n");
    assert!(String::from_utf8(etcd.run("ls", &[]).stdout).unwrap().starts_with("a/b\tserver\th:1\t"));
    let input = running.0.stdin.take();
    running.0.kill().unwrap(); // SIGKILL
    running.0.wait().unwrap();
    let gone = event(&mut watch);
    assert_eq!((&gone["event"], &gone["name"]), (&"unmounted".into(), &"a/b".into()));
    assert_eq!(etcd.run("resolve", &["a/b"]).status.code(), Some(4));
    drop(input); // the command had gone on without its name, and ends now
}

#[test]
fn names_survive_kill_9_of_etcd_and_are_withdrawn_at_the_end() {
    let mut etcd = Etcd::start();
    let mut running = etcd.publish(&["--name", "a", "--name", "b", "--server", "h:1", "--ttl", "4"]);
    etcd.until("a", "h:1\n");
    etcd.process = None; // killed
    assert_eq!(etcd.run("resolve", &["a"]).status.code(), Some(6));
    etcd.restart();
    etcd.until("b", "h:1\n");
    drop(running.0.stdin.take());
    assert_eq!(running.0.wait().unwrap().code(), Some(0));
    assert!(etcd.run("ls", &[]).stdout.is_empty());
}

#[test]
fn unmount_takes_away_what_another_process_has_mounted() {
    let etcd = Etcd::start();
    let _first = etcd.publish(&["--name", "a", "--server", "h:1"]);
    etcd.until("a", "h:1\n");
    let _second = etcd.publish(&["--name", "a", "--server", "h:2"]);
    while etcd.run("resolve", &["a"]).stdout.len() < 8 {}
    assert!(etcd.run("unmount", &["a", "--server", "h:1"]).status.success());
    etcd.until("a", "h:2\n");
    assert!(etcd.run("unmount", &["a"]).status.success());
    assert_eq!(etcd.run("resolve", &["a"]).status.code(), Some(4));
}

#[test]
fn a_user_and_a_password_come_from_a_file_and_their_absence_is_an_exit_status() {
    let mut etcd = Etcd::start();
    for command in [
        &["user", "add", "root:secret"][..],
        &["role", "add", "root"],
        &["user", "grant-role", "root", "root"],
        &["auth", "enable"],
    ] {
        etcd.etcdctl(command);
    }
    let refused = etcd.run("resolve", &["a"]);
    assert_eq!(refused.status.code(), Some(5), "{refused:?}");
    let secret = etcd.folder.path().join("secret");
    std::fs::write(&secret, "root:secret\n").unwrap();
    etcd.secret = Some(secret.to_str().unwrap().into());
    let _running = etcd.publish(&["--name", "a", "--server", "h:1"]);
    etcd.until("a", "h:1\n");
    std::fs::write(&secret, "root:wrong\n").unwrap();
    assert_eq!(etcd.run("resolve", &["a"]).status.code(), Some(5));
}
