//! `cuttlebone fs` against a real metadata server, beside Ceph's own client.

use core::time::Duration;
use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use cuttlebone_testkit::{Cluster, Ended, FsSpec, Program, Running};
use serde_json::{Value, json};

/// How long anything may take that ends by itself.
const PATIENCE: Duration = Duration::from_secs(60);

struct Fs {
    program: Program,
    mon_host: String,
}

impl Fs {
    fn arguments<'a>(&'a self, words: &[&'a str]) -> Vec<&'a str> {
        [&["fs", "--mon", &self.mon_host], words].concat()
    }

    /// Runs it to a good end, and answers its lines.
    fn ok(&self, words: &[&str]) -> Result<Vec<String>> {
        let ended = self.program.ok(self.arguments(words))?;
        Ok(ended.stdout.lines().map(String::from).collect())
    }

    fn run(&self, words: &[&str]) -> Result<Ended> {
        self.program.run(self.arguments(words))
    }

    /// The same as objects, one a line.
    fn json(&self, words: &[&str]) -> Result<Vec<Value>> {
        let lines = self.ok(&[&["--json"], words].concat())?;
        lines.iter().map(|line| serde_json::from_str(line).with_context(|| line.clone())).collect()
    }

    fn spawn(&self, words: &[&str]) -> Result<Running> {
        self.program.spawn(self.arguments(words))
    }
}

fn start() -> Result<(Cluster, Fs)> {
    let cluster = Cluster::builder().fs(FsSpec { active: 1, standby: 0 }).start()?;
    let program = Program::new(env!("CARGO_BIN_EXE_cuttlebone"));
    let mon_host = cluster.mon_host();
    Ok((cluster, Fs { program, mon_host }))
}

fn paths(lines: &[Value]) -> BTreeSet<&str> {
    lines.iter().filter_map(|line| line["path"].as_str()).collect()
}

#[test]
fn a_tree_is_made_looked_at_and_removed() -> Result<()> {
    let (cluster, fs) = start()?;
    fs.ok(&["mkdir", "-p", "/a/b/c"])?;
    fs.ok(&["create", "/a/one.txt", "/a/two.txt", "/a/b/three.txt", "/a/.hidden"])?;
    fs.ok(&["ln", "-s", "one.txt", "/a/link"])?;
    fs.ok(&["ln", "/a/one.txt", "/a/b/uno"])?;
    assert_eq!(fs.ok(&["ls", "/a"])?, ["b", "link", "one.txt", "two.txt"]);
    assert_eq!(fs.ok(&["ls", "-d", "/a/*.txt"])?, ["/a/one.txt", "/a/two.txt"]);
    let long = fs.ok(&["ls", "-l", "/a"])?;
    ensure!(long[0].starts_with("drwxr-xr-x") && long[1].ends_with("link -> one.txt"), "{long:?}");
    assert_eq!(
        fs.ok(&["tree", "/a"])?,
        [
            "/a",
            "├── .hidden",
            "├── b",
            "│   ├── c",
            "│   ├── three.txt",
            "│   └── uno",
            "├── link -> one.txt",
            "├── one.txt",
            "└── two.txt"
        ]
    );
    let found = fs.json(&["find", "/a", "--glob", "*.txt", "--type", "f"])?;
    assert_eq!(paths(&found), BTreeSet::from(["/a/one.txt", "/a/two.txt", "/a/b/three.txt"]));
    assert_eq!(found[0]["schema"], json!(1));
    let stat = &fs.json(&["stat", "/a/one.txt"])?[0];
    assert_eq!((&stat["type"], &stat["nlink"], &stat["mode"]), (&json!("file"), &json!(2), &json!("0644")));
    // The other client sees the same.
    let mut second = cluster.second_client()?;
    assert_eq!(second.ok("stat", &[json!("/a/one.txt")])?["ino"], stat["ino"]);
    fs.ok(&["mv", "/a/one.txt", "/a/two.txt", "/a/b"])?;
    fs.ok(&["mv", "/a/b/c", "/a/d"])?;
    let names = second.ok("readdir", &[json!("/a/b")])?;
    let names: Vec<_> = names.as_array().context("names")?.iter().map(|name| name[0].clone()).collect();
    assert_eq!(json!(names), json!(["one.txt", "three.txt", "two.txt", "uno"]));
    fs.ok(&["xattr", "set", "/a/d", "user.note", "hello"])?;
    assert_eq!(fs.ok(&["xattr", "get", "/a/d", "user.note"])?, ["hello"]);
    assert_eq!(fs.ok(&["xattr", "ls", "/a/d"])?, ["user.note"]);
    assert_eq!(second.ok("getxattr", &[json!("/a/d"), json!("user.note")])?, json!("hello"));
    fs.ok(&["xattr", "rm", "/a/d", "user.note"])?;
    let would = fs.ok(&["rm", "-r", "--dry-run", "/a"])?;
    ensure!(would.contains(&"/a/b/three.txt".into()) && would.last() == Some(&"/a".into()), "{would:?}");
    fs.ok(&["rm", "-r", "/a"])?;
    assert_eq!(second.ok("readdir", &[json!("/")])?, json!([]));
    second.unmount()?;
    cluster.wait_until_healthy()
}

#[test]
fn failures_have_the_statuses_that_scripts_rely_on() -> Result<()> {
    let (cluster, fs) = start()?;
    fs.ok(&["mkdir", "/a", "/a/b"])?;
    let check = |words: &[&str], code: i32, message: &str| -> Result<()> {
        let ended = fs.run(words)?;
        ensure!(
            ended.code == Some(code) && ended.stderr.contains(message),
            "{words:?}: {:?}, {}",
            ended.code,
            ended.stderr
        );
        Ok(())
    };
    check(&["stat", "/none"], 4, "/none: no such file or directory")?;
    check(&["ls", "/a/*.x"], 4, "nothing fits")?;
    check(&["ls", "/a", "/none"], 3, "/none")?;
    check(&["mkdir", "/a"], 1, "mkdir /a: file exists")?;
    check(&["rm", "/a"], 2, "is a directory")?;
    check(&["rm", "--dir", "/a"], 1, "not empty")?;
    check(&["xattr", "get", "/a", "user.none"], 4, "no data")?;
    check(&["create", "/none/x"], 4, "create /none/x")?;
    check(&["--fs", "other", "ls"], 4, "no file system \"other\"")?;
    check(&["--name", "osd.0", "ls"], 2, "is no client")?;
    let nobody = fs.program.run(["fs", "--mon", "v2:127.0.0.1:1", "--connect-timeout", "2", "ls"])?;
    assert_eq!(nobody.code, Some(6), "{}", nobody.stderr);
    cluster.wait_until_healthy()
}

#[test]
fn sums_and_what_changed_are_told_without_visiting_what_cannot_have() -> Result<()> {
    let (cluster, fs) = start()?;
    fs.ok(&["mkdir", "-p", "/old/deep/er", "/new/deep"])?;
    fs.ok(&["create", "/old/deep/er/f", "/new/deep/f"])?;
    let stat = &fs.json(&["stat", "/new/deep/f"])?[0];
    let since = stat["ctime"].as_str().context("ctime")?.to_owned();
    // Sums reach the directories above on the server's own time.
    cuttlebone_testkit::Deadline::after(PATIENCE).wait_for("the sums", || {
        let sums = fs.json(&["du", "-d", "1", "/"]).ok()?;
        let files = |path: &str| sums.iter().find(|sum| sum["path"] == path).map(|sum| sum["rfiles"].clone());
        (files("/old") == Some(json!(1)) && files("/new") == Some(json!(1))).then_some(())
    })?;
    fs.ok(&["create", "/new/deep/g"])?;
    let later = fs.json(&["stat", "/new/deep/g"])?[0]["ctime"].as_str().context("ctime")?.to_owned();
    let changed = || fs.json(&["changed", "--since", &later, "/"]);
    cuttlebone_testkit::Deadline::after(PATIENCE).wait_for("the newest change reaches the root", || {
        paths(&changed().ok()?).contains("/new/deep/g").then_some(())
    })?;
    let lines = changed()?;
    ensure!(!paths(&lines).contains("/old/deep/er/f") && !paths(&lines).contains("/new/deep/f"), "{lines:?}");
    let end = lines.last().context("an end")?;
    ensure!(end["directories_passed_over"].as_u64() >= Some(1), "{end}");
    ensure!(paths(&fs.json(&["changed", "--since", &since])?).contains("/new/deep/f"));
    cluster.wait_until_healthy()
}

#[test]
fn a_watcher_that_was_frozen_past_the_timeout_comes_back_and_goes_on() -> Result<()> {
    let (cluster, fs) = start()?;
    // The least that a server allows.
    cluster.ceph(&["fs", "set", "cephfs", "session_timeout", "30"])?;
    let mut second = cluster.second_client()?;
    fs.ok(&["mkdir", "/w"])?;
    let mut watcher = fs.spawn(&["--json", "watch", "/w"])?;
    watcher.wait_for("watching", PATIENCE)?;
    second.ok("create", &[json!("/w/a")])?;
    watcher.wait_for("\"path\":\"/w\"", PATIENCE)?;
    watcher.freeze(true)?;
    // The other client waits for what the frozen one holds, until the server has had enough of it.
    second.send("mkdir", &[json!("/w/b")])?;
    second.wait(2 * PATIENCE)?.map_err(|errno| anyhow::anyhow!("mkdir: errno {errno}"))?;
    watcher.freeze(false)?;
    watcher.wait_for("unknown", PATIENCE)?;
    let before = watcher.stdout().lines().count();
    // What it hears of from now on is right again.
    cuttlebone_testkit::Deadline::after(PATIENCE).wait_for("a change after the thaw", || {
        let _ = second.ok("create", &[json!(format!("/w/c{}", watcher.stdout().len()))]);
        (watcher.stdout().lines().count() > before).then_some(())
    })?;
    let status = watcher.stop()?;
    assert_eq!(status.code(), Some(130), "interrupted, and unmounted in good order");
    second.unmount()?;
    cluster.wait_until_healthy()
}
