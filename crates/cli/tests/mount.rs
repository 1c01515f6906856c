//! `cuttlebone mount` as scripts use it: a service and its clients as processes.
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

fn cuttlebone(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cuttlebone"));
    for variable in ["CEPH_ARGS", "CUTTLEBONE_MOUNT_TABLE", "CUTTLEBONE_TOKEN_FILE", "CUTTLEBONE_EPOCH"] {
        command.env_remove(variable);
    }
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Ended with its test.
struct Running(Child);

impl Running {
    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.0.id().try_into().unwrap()).unwrap();
        // It may have ended by itself.
        let _ = rustix::process::kill_process(pid, signal);
    }

    fn status(&mut self) -> Option<i32> {
        self.0.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            // Not SIGKILL: it has a command of its own to end.
            self.signal(rustix::process::Signal::TERM);
        }
        let _status = self.0.wait();
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

struct Service {
    process: Running,
    url: String,
}

impl Service {
    fn start(arguments: &[&str]) -> Self {
        let mut process = cuttlebone(&[&["mount", "serve", "--json"], arguments].concat()).spawn().unwrap();
        let listening: Value = serde_json::from_str(&line(&mut process)).unwrap();
        assert_eq!((&listening["schema"], &listening["event"]), (&1.into(), &"listening".into()));
        let url = listening["address"].as_str().unwrap().to_owned();
        Self { process: Running(process), url }
    }

    fn open() -> Self {
        Self::start(&["--listen", "127.0.0.1:0"])
    }

    fn command(&self, verb: &str, arguments: &[&str]) -> Command {
        cuttlebone(&[&["mount", verb, "--table", &self.url], arguments].concat())
    }

    fn run(&self, verb: &str, arguments: &[&str]) -> Output {
        self.command(verb, arguments).output().unwrap()
    }

    fn publish(&self, arguments: &[&str]) -> Running {
        Running(self.command("publish", arguments).spawn().unwrap())
    }

    /// The servers of a name; none if it leads nowhere.
    fn servers(&self, name: &str) -> Vec<String> {
        let output = self.run("resolve", &[name]);
        let expected = if output.stdout.is_empty() { 4 } else { 0 };
        assert_eq!(output.status.code(), Some(expected), "{output:?}");
        text(&output.stdout).lines().map(Into::into).collect()
    }

    /// Waits for what other processes bring about; the test's own time limit ends it.
    fn until(&self, name: &str, servers: &[&str]) {
        while self.servers(name) != servers {}
    }
}

fn port() -> u16 {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap().port()
}

#[test]
fn a_name_is_up_while_the_command_runs_and_the_status_is_the_commands_own() {
    let directory = tempfile::tempdir().unwrap();
    let socket = format!("unix:{}", directory.path().join("socket").display());
    for listen in ["127.0.0.1:0", &socket] {
        let service = Service::start(&["--listen", listen]);
        assert_eq!(service.run("resolve", &["a/b"]).status.code(), Some(4));
        let mut command = service
            .command("publish", &["--name", "a/b", "--server", "h:1/x", "--", "sh", "-c", "cat; exit 42"]);
        let mut running = Running(command.stdin(Stdio::piped()).spawn().unwrap());
        service.until("a/b", &["h:1/x"]);
        assert_eq!(service.servers("a/b/c"), ["h:1/x/c"], "with what is to be asked for there");
        let ls: Value = serde_json::from_slice(&service.run("ls", &["--json", "a/*"]).stdout).unwrap();
        assert_eq!((&ls["schema"], &ls["name"], &ls["kind"]), (&1.into(), &"a/b".into(), &"server".into()));
        assert_eq!(ls["servers"][0]["server"], "h:1/x");
        assert!(ls["servers"][0]["left_ms"].as_u64().unwrap() > 20_000);
        drop(running.0.stdin.take()); // and with it ends the command
        assert_eq!(running.status(), Some(42));
        assert_eq!(service.servers("a/b"), [""; 0], "withdrawn before it ended");
        let killed =
            service.run("publish", &["--name", "a", "--server", "h:1", "--", "sh", "-c", "kill -9 $$"]);
        assert_eq!(killed.status.code(), Some(137), "as shells say it: {killed:?}");
    }
}

#[test]
fn several_names_and_servers_are_all_published() {
    let service = Service::open();
    let mut running = service.publish(&[
        "--name", "a", "--name", "b/c", "--server", "h:1", "--server", "h:2", "--kind", "leaf", "--",
        "sleep", "600",
    ]);
    for name in ["a", "b/c"] {
        while service.servers(name).len() < 2 {}
    }
    let resolved: Value = serde_json::from_slice(&service.run("resolve", &["--json", "b/c"]).stdout).unwrap();
    assert_eq!((&resolved["kind"], &resolved["mount"]), (&"leaf".into(), &"b/c".into()));
    running.signal(rustix::process::Signal::TERM);
    assert_eq!(running.status(), Some(143));
    assert!(service.run("ls", &[]).stdout.is_empty());
}

#[test]
fn a_signal_withdraws_the_name_and_then_ends_the_command() {
    let service = Service::open();
    let witness = tempfile::NamedTempFile::new().unwrap();
    let me = env!("CARGO_BIN_EXE_cuttlebone");
    // When the command hears of its end, it asks whether its name still leads to it.
    let script = format!(
        "trap '{me} mount resolve --table {} a > {}; echo asked; exit 7' TERM INT; echo up; while :; do sleep 0.05; done",
        service.url,
        witness.path().display()
    );
    for signal in [rustix::process::Signal::TERM, rustix::process::Signal::INT] {
        let mut running = service.publish(&["--name", "a", "--server", "h:1", "--", "sh", "-c", &script]);
        assert_eq!(line(&mut running.0), "up\n");
        service.until("a", &["h:1"]);
        running.signal(signal);
        assert_eq!(line(&mut running.0), "asked\n");
        assert_eq!(running.status(), Some(7), "the command's own");
        assert_eq!(std::fs::read_to_string(witness.path()).unwrap(), "");
    }
}

#[test]
fn a_command_that_is_not_ready_is_not_found() {
    let service = Service::open();
    let flag = tempfile::tempdir().unwrap().path().join("ready");
    std::fs::create_dir(flag.parent().unwrap()).unwrap();
    let probe = format!("cmd:test -e {}", flag.display());
    let mut running = service.publish(&[
        "--name",
        "a",
        "--server",
        "h:1",
        "--ready",
        &probe,
        "--",
        "sh",
        "-c",
        "echo up; sleep 600",
    ]);
    assert_eq!(line(&mut running.0), "up\n");
    for _ in 0..3 {
        assert!(service.servers("a").is_empty(), "it runs and is not ready");
    }
    for _ in 0..2 {
        std::fs::write(&flag, "").unwrap();
        service.until("a", &["h:1"]);
        std::fs::remove_file(&flag).unwrap();
        service.until("a", &[]);
    }
    std::fs::remove_dir_all(flag.parent().unwrap()).unwrap();
}

#[test]
fn a_server_is_probed_by_its_port_or_by_a_page() {
    let table = Service::open();
    for (probe, works) in [("tcp", true), ("http:/healthz", true), ("http:/nothing", false)] {
        // The command is a mount table itself: something that listens and has a page.
        let port = port();
        let (listen, me) = (format!("127.0.0.1:{port}"), env!("CARGO_BIN_EXE_cuttlebone"));
        let mut running = table.publish(&[
            "--name", "mt", "--server", &listen, "--kind", "table", "--ready", probe, "--", me, "mount",
            "serve", "--listen", &listen,
        ]);
        assert!(line(&mut running.0).starts_with("listening on"));
        if works {
            table.until("mt", &[&listen]);
            // Names go on in the table that was published.
            let inner =
                cuttlebone(&["mount", "publish", "--table", &format!("http://{listen}"), "--name", "deep/x"])
                    .args(["--server", "h:9", "--", "sleep", "600"])
                    .spawn();
            let _inner = Running(inner.unwrap());
            table.until("mt/deep/x/y", &["h:9/y"]);
            let lines = text(&table.run("ls", &["mt/..."]).stdout);
            let names: Vec<_> = lines.lines().map(|line| line.split('\t').next().unwrap()).collect();
            assert_eq!(names, ["mt", "mt/deep/x"]);
            assert_eq!(table.run("unmount", &["mt/deep/x", "--server", "h:8"]).status.code(), Some(0));
            assert_eq!(table.servers("mt/deep/x"), ["h:9"], "another server stays");
        } else {
            for _ in 0..5 {
                assert!(table.servers("mt").is_empty(), "{probe}");
            }
        }
    }
}

#[test]
fn kill_9_of_a_publisher_takes_its_name_away_after_its_time_to_live() {
    let service = Service::open();
    let mut watch = Running(service.command("watch", &["--json"]).spawn().unwrap());
    let listed: Value = serde_json::from_str(&line(&mut watch.0)).unwrap();
    assert_eq!(listed["event"], "listed");
    let mut command =
        service.command("publish", &["--name", "a", "--server", "h:1", "--ttl", "2", "--", "cat"]);
    let mut running = Running(command.stdin(Stdio::piped()).spawn().unwrap());
    let mut event = || -> Value { serde_json::from_str(&line(&mut watch.0)).unwrap() };
    assert_eq!(event()["event"], "mounted");
    let input = running.0.stdin.take();
    running.0.kill().unwrap(); // SIGKILL
    running.status();
    let gone = event();
    assert_eq!(
        (&gone["event"], &gone["name"], &gone["server"]),
        (&"expired".into(), &"a".into(), &"h:1".into())
    );
    assert!(service.servers("a").is_empty());
    drop(input); // the command had gone on without its name, and ends now
}

#[test]
fn an_earlier_incarnation_that_is_killed_or_late_does_not_take_the_later_ones_name() {
    let service = Service::open();
    let publish = |epoch: &str| {
        service.publish(&["--name", "a", "--server", "h:1", "--epoch", epoch, "--", "sleep", "600"])
    };
    let mut first = publish("7");
    service.until("a", &["h:1"]);
    let _second = publish("8");
    let epoch = || {
        let resolved: Value =
            serde_json::from_slice(&service.run("resolve", &["--json", "a"]).stdout).unwrap();
        resolved["servers"][0]["epoch"].as_u64().unwrap()
    };
    while epoch() != 8 {}
    first.signal(rustix::process::Signal::TERM);
    assert_eq!(first.status(), Some(143));
    assert_eq!(epoch(), 8, "its withdrawal was its own");
}

#[test]
fn names_come_back_when_the_table_was_killed_and_started_again() {
    let listen = format!("127.0.0.1:{}", port());
    let mut service = Service::start(&["--listen", &listen]);
    let running = service.publish(&["--name", "a", "--server", "h:1", "--ttl", "4", "--", "sleep", "600"]);
    service.until("a", &["h:1"]);
    service.process.0.kill().unwrap(); // SIGKILL
    service.process.status();
    assert_eq!(service.run("resolve", &["a"]).status.code(), Some(6), "nobody answers");
    let again = Service::start(&["--listen", &listen]);
    again.until("a", &["h:1"]);
    drop(running); // while there is a table to withdraw from
}

#[test]
fn unmount_takes_servers_away_and_watch_tells_so() {
    let service = Service::open();
    let publish = |server: &str| {
        let mut command =
            service.command("publish", &["--name", "a/b", "--server", server, "--", "sleep", "600"]);
        Running(command.spawn().unwrap())
    };
    let _first = publish("h:1");
    service.until("a/b", &["h:1"]);
    let mut watch = Running(service.command("watch", &["a/*"]).spawn().unwrap());
    assert_eq!(line(&mut watch.0), "present\ta/b\th:1\n");
    let _second = publish("h:2");
    assert_eq!(line(&mut watch.0), "mounted\ta/b\th:2\n");
    assert_eq!(service.run("unmount", &["a/b", "--server", "h:2"]).status.code(), Some(0));
    assert_eq!(line(&mut watch.0), "unmounted\ta/b\th:2\n");
    assert_eq!(service.run("unmount", &["a/b"]).status.code(), Some(0));
    assert_eq!(line(&mut watch.0), "unmounted\ta/b\th:1\n");
    assert_eq!(service.run("unmount", &["a/b"]).status.code(), Some(0), "what was wanted is so");
    watch.signal(rustix::process::Signal::TERM);
    assert_eq!(watch.status(), Some(0));
}

#[test]
fn secrets_permissions_quotas_and_a_state_directory_are_obeyed() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let permissions = r#"{"": {"admin": ["ann"], "read": ["..."]}, "users/%%": {"admin": ["%%"], "read": ["..."]},
        "users": {"create": ["..."], "read": ["..."]}}"#;
    let state = folder.path().join("state");
    let arguments = [
        "--listen",
        "127.0.0.1:0",
        "--state",
        state.to_str().unwrap(),
        "--quota",
        "4",
        "--permissions",
        &file("permissions", permissions),
        "--principals",
        &file("people", "ann a\nbob b\n"),
    ];
    let service = Service::start(&arguments);
    let (bob, ann) = (file("bob", "b\n"), file("ann", "a\n"));
    let publish = |who: &str, name: &str| {
        service.run(
            "publish",
            &["--token-file", who, "--name", name, "--server", "h:1", "--withdraw", "0", "--", "sleep", "1"],
        )
    };
    let mine = publish(&bob, "users/bob/phone");
    assert!(text(&mine.stderr).contains("users/bob/phone leads to h:1"), "{mine:?}");
    let others = publish(&bob, "users/ann/phone");
    assert!(text(&others.stderr).contains("bob may not"), "{others:?}");
    assert_eq!(service.run("resolve", &["users/bob"]).status.code(), Some(5), "nobody");
    assert_eq!(service.run("unmount", &["users", "--token-file", &bob]).status.code(), Some(5));
    assert_eq!(
        service.run("unmount", &["users", "--token-file", &ann]).status.code(),
        Some(5),
        "mount is not manage"
    );
    let bad = file("bad", "{");
    let refused =
        cuttlebone(&["mount", "serve", "--listen", "127.0.0.1:0", "--permissions", &bad]).output().unwrap();
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    let gone =
        cuttlebone(&["mount", "serve", "--listen", "127.0.0.1:0", "--permissions", "/nonexistent"]).output();
    assert_eq!(gone.unwrap().status.code(), Some(4));
    let used = cuttlebone(&["mount", "serve", "--listen", "127.0.0.1:0", "--state", state.to_str().unwrap()])
        .output();
    let used = used.unwrap();
    assert!(text(&used.stderr).contains("another process uses this journal"), "{used:?}");
}

#[test]
fn what_makes_no_sense_is_a_readable_error() {
    let service = Service::open();
    let cmd = ["--", "true"];
    for (arguments, status, part) in [
        (&["resolve", "--table", "http://127.0.0.1:1", "a"][..], 6, "cannot reach"),
        (&["resolve", "--table", "nonsense", "a"], 2, "not an address"),
        (&["resolve", "a"], 2, "--table"),
        (&["ls", "--table", &service.url, "["], 2, "not a pattern"),
        (&["resolve", "--table", &service.url, &"x".repeat(513)], 2, "513 bytes"),
        (&["resolve", "--table", &service.url, ""], 2, "root of a mount table"),
        (
            &["publish", "--table", &service.url, "--name", "a", "--server", "host", "--", "true"],
            2,
            "not a server",
        ),
        (&["publish", "--table", &service.url, "--name", "", "--server", "h:1", "--", "true"], 2, "root"),
        (
            &[
                "publish",
                "--table",
                &service.url,
                "--name",
                "a",
                "--server",
                "h:1",
                "--ready",
                "x",
                "--",
                "true",
            ],
            2,
            "tcp",
        ),
        (
            &["publish", "--table", &service.url, "--name", "a", "--server", "h:1", "--", "/nonexistent"],
            4,
            "/nonexistent",
        ),
        (&["publish", "--table", &service.url, "--name", "a", "--server", "h:1"], 2, "CMD"),
        (&["serve", "--listen", "0.0.0.0:0"], 2, "bearer token is required"),
    ] {
        let output = cuttlebone(&[&["mount"], arguments].concat()).output().unwrap();
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {output:?}");
        assert!(text(&output.stderr).contains(part), "{arguments:?}: {output:?}");
    }
    let quiet = service.run("publish", &[&["--quiet", "--name", "a", "--server", "h:1"][..], &cmd].concat());
    assert!(quiet.stderr.is_empty() && quiet.status.success(), "{quiet:?}");
    if !cfg!(feature = "etcd") {
        let output =
            cuttlebone(&["mount", "resolve", "--table", "etcd://127.0.0.1:1", "a"]).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains("--features etcd"), "{output:?}");
    }
    assert!(!Path::new("a").exists());
}
