//! What a service manager and a shell see of a node: signals, exit statuses, and what it says of itself.

use core::time::Duration;
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;

use anyhow::{Context, Result, ensure};
use cuttlebone_http::Client;
use cuttlebone_testkit::Deadline;
use rustix::process::Signal;

mod running;

use running::holder::hold;
use running::{Running, program};

const WITHIN: Duration = Duration::from_secs(30);

/// A service manager's socket.
struct Ear(UnixDatagram);

impl Ear {
    fn of(node: &mut Running) -> Result<Self> {
        let path = node.dir().join("notify");
        let ear = UnixDatagram::bind(&path)?;
        ear.set_read_timeout(Some(WITHIN))?;
        node.env("NOTIFY_SOCKET", path.display().to_string());
        Ok(Self(ear))
    }

    /// The next thing said, but for signs of life.
    fn hear(&self) -> Result<String> {
        let mut bytes = [0; 512];
        loop {
            let len = self.0.recv(&mut bytes).context("the manager hears nothing")?;
            let said = String::from_utf8_lossy(&bytes[..len]).into_owned();
            if said != "WATCHDOG=1\n" {
                return Ok(said);
            }
        }
    }

    /// Everything said until something begins with `word`.
    fn hear_until(&self, word: &str) -> Result<Vec<String>> {
        let mut all = Vec::new();
        loop {
            let said = self.hear()?;
            all.push(said.clone());
            if said.starts_with(word) {
                return Ok(all);
            }
        }
    }

    fn expect(&self, word: &str) -> Result<()> {
        let said = self.hear()?;
        ensure!(said.starts_with(word), "{said:?} instead of {word}");
        Ok(())
    }

    /// What was said and not heard yet.
    fn rest(&self) -> Result<Vec<String>> {
        self.0.set_nonblocking(true)?;
        let mut all = Vec::new();
        while let Ok(said) = self.hear() {
            all.push(said);
        }
        Ok(all)
    }
}

#[test]
fn a_service_manager_hears_every_state_and_nothing_that_is_not_so() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut node = Running::new(dir.path(), "n1", "")?;
    let ear = Ear::of(&mut node)?;
    node.env("WATCHDOG_USEC", "30000000");
    node.spawn()?;
    ear.expect("STATUS=warming up\n")?;
    // From its first word on a signal does not kill it.
    node.signal(Signal::HUP)?;
    let said = ear.hear_until("READY=1\n")?;
    ensure!(said.iter().all(|line| !line.starts_with("RELOADING=1")), "not ready, and ready again: {said:?}");
    node.wait_until_served()?;
    node.signal(Signal::HUP)?;
    ear.expect("RELOADING=1\nMONOTONIC_USEC=")?;
    ear.expect("READY=1\n")?;
    let mut bytes = [0; 64];
    let len = ear.0.recv(&mut bytes)?;
    ensure!(&bytes[..len] == b"WATCHDOG=1\n", "no sign of life");
    node.signal(Signal::TERM)?;
    ear.expect("STOPPING=1\nSTATUS=stopping\nEXTEND_TIMEOUT_USEC=100000000\n")?;
    ensure!(node.wait()?.success());
    ensure!(ear.rest()?.is_empty(), "after the end");
    Ok(())
}

#[test]
fn a_node_that_catches_up_is_not_ready_because_it_was_told_to_reload() -> Result<()> {
    let dir = tempfile::tempdir()?;
    // Nobody greets there.
    let silent = TcpListener::bind("127.0.0.1:0")?;
    let follow = format!("[source.follow]\norigin = \"{}\"\n", silent.local_addr()?);
    let mut node = Running::new(dir.path(), "n1", &follow)?;
    let ear = Ear::of(&mut node)?;
    node.start()?;
    node.signal(Signal::HUP)?;
    Deadline::after(WITHIN).wait_for("the configuration is read anew", || {
        node.logged().iter().any(|line| line["message"] == "the configuration was read anew").then_some(())
    })?;
    ensure!(node.status()?["node"]["stage"] == "catching_up");
    node.stop()?;
    let said = ear.rest()?;
    ensure!(said.iter().all(|line| !line.starts_with("READY") && !line.starts_with("RELOADING")), "{said:?}");
    Ok(())
}

#[test]
fn a_reload_changes_what_can_change_and_names_what_cannot() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut node = Running::new(dir.path(), "n1", "[stop]\ntokens_s = 3600\n[log]\nlevel = \"warn\"\n")?;
    node.start()?;
    let hang_up = |node: &Running, message: &str| -> Result<serde_json::Value> {
        let before = node.logged().len();
        node.signal(Signal::HUP)?;
        Deadline::after(WITHIN).wait_for(format!("{message:?} in the log"), || {
            node.logged().into_iter().skip(before).find(|line| line["message"] == message)
        })
    };
    let client = ["--server", node.server()].map(String::from);
    let reload = || program().run(["node", "reload", "--json"].map(String::from).iter().chain(&client));

    node.configure(|text| text.replace("\"warn\"", "\"info\"").replace("3600", "1"))?;
    let line = hang_up(&node, "the configuration was read anew")?;
    let changes = line["changes"].to_string();
    ensure!(changes.contains("log.level") && changes.contains("stop.tokens_s"), "{line}");
    let ended = reload()?;
    let answer: serde_json::Value = serde_json::from_str(&ended.stdout)?;
    ensure!(ended.code == Some(0) && answer["changes"] == serde_json::json!([]), "{ended:?}");

    // One that cannot change holds back all that could, and both ways say which it is.
    node.configure(|text| {
        text.replace("name = \"n1\"", "name = \"other\"").replace("\"info\"", "\"debug\"")
    })?;
    let line = hang_up(&node, "cannot change while the node runs; nothing has changed")?;
    ensure!(line["changes"].to_string().contains("node.name"), "{line}");
    let ended = reload()?;
    ensure!(ended.code == Some(1) && ended.stderr.contains("node.name"), "{ended:?}");
    ensure!(node.status()?["node"]["name"] == "n1");

    // Nonsense changes nothing either.
    node.configure(|text| text.replace("name = \"other\"", "nmae = \"n1\""))?;
    let line = hang_up(&node, "the configuration makes no sense; nothing has changed")?;
    ensure!(line["faults"].to_string().contains("node.nmae"), "{line}");
    let ended = reload()?;
    ensure!(ended.code != Some(0) && ended.stderr.contains("node.nmae"), "{ended:?}");

    // What was changed counts: with the deadline that it started with, this would wait for an hour.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let _held = runtime.block_on(hold(&Client::new(node.server().parse()?, None), "work"))?;
    node.stop()
}

#[test]
fn a_second_signal_ends_a_node_that_waits() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut node = Running::new(dir.path(), "n1", "[stop]\ntokens_s = 3600\n")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    for (first, second) in
        [(Signal::TERM, Signal::TERM), (Signal::INT, Signal::TERM), (Signal::TERM, Signal::INT)]
    {
        node.start()?;
        let _held = runtime.block_on(hold(&Client::new(node.server().parse()?, None), "work"))?;
        node.signal(first)?;
        Deadline::after(WITHIN).wait_for("it waits for the token", || {
            (node.status().ok()?["node"]["detail"] == "draining tokens").then_some(())
        })?;
        ensure!(node.is_running()?);
        node.signal(second)?;
        let ended = node.wait()?;
        ensure!(ended.code() == Some(130), "{ended}");
    }
    Ok(())
}

#[test]
fn the_exit_status_says_how_it_ended() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut node = Running::new(dir.path(), "n1", "")?;
    for signal in [Signal::TERM, Signal::INT] {
        node.start()?;
        node.wait_until_serving()?;
        node.signal(signal)?;
        let ended = node.wait()?;
        ensure!(ended.code() == Some(0), "{ended}");
    }
    // A signal while it opens its disk is a stop like any other.
    let ear = Ear::of(&mut node)?;
    node.spawn()?;
    ear.expect("STATUS=warming up\n")?;
    node.signal(Signal::TERM)?;
    let ended = node.wait()?;
    ensure!(ended.code() == Some(0), "{ended}");

    let config = |text: &str| -> Result<String> {
        let path = dir.path().join("other.toml");
        std::fs::write(&path, text)?;
        Ok(path.display().to_string())
    };
    let run = |config: &str| program().run(["node", "run", "--config", config]);
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let bad = run(&config("[node]\nnmae = \"x\"\n[http]\nlisten = \"127.0.0.1:0\"\n")?)?;
    ensure!(bad.code == Some(2) && bad.stdout.is_empty() && bad.stderr.contains(":2: node.nmae"), "{bad:?}");
    let in_use = run(&config(&format!("[http]\nlisten = \"{}\"\n", taken.local_addr()?))?)?;
    ensure!(in_use.code == Some(2) && in_use.stderr.contains(":2: http.listen"), "{in_use:?}");
    let missing = run("/nonexistent/node.toml")?;
    ensure!(missing.code == Some(2) && missing.stderr.contains("/nonexistent/node.toml"), "{missing:?}");

    // Two nodes on one disk: the second one says so, and the first does not notice.
    node.start()?;
    let disk = node.dir().join("bucket").display().to_string();
    let text = format!("[bucket]\ndir = \"{disk}\"\n[http]\nlisten = \"127.0.0.1:0\"\n");
    let second = run(&config(&text)?)?;
    ensure!(second.code == Some(1) && second.stderr.contains("bucket.dir"), "{second:?}");
    node.wait_until_serving()?;
    node.stop()
}
