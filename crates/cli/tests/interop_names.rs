//! Names that nodes announce follow the living: one that is killed loses its names within their time to live, one that
//! stops takes them back while it still serves, and one that comes again is there again.

use core::time::Duration;
use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use cuttlebone_testkit::Deadline;
use rustix::process::Signal;

mod running;

use running::{Running, program};

/// A period of a second and the publisher's slack of twenty.
const TTL: Duration = Duration::from_secs(21);
/// How long anything may take that is not bounded by a time to live, on a machine that is busy.
const SOON: Duration = Duration::from_secs(30);

const NAME: &str = "cell/store";
const SERVERS: [&str; 3] = ["127.0.0.1:7001", "127.0.0.1:7002", "127.0.0.1:7003"];

/// The first has a table, in which all three announce themselves.
fn three(dir: &std::path::Path) -> Result<[Running; 3]> {
    let publish = |server| format!("[publish]\nnames = [\"{NAME}\"]\nserver = \"{server}\"\nperiod_s = 1\n");
    let mut first = Running::new(dir, "n1", &publish(SERVERS[0]))?;
    first.start()?;
    let there = |server| format!("{}table = \"{}\"\n", publish(server), first.server());
    let (mut second, mut third) =
        (Running::new(dir, "n2", &there(SERVERS[1]))?, Running::new(dir, "n3", &there(SERVERS[2]))?);
    second.start()?;
    third.start()?;
    Ok([first, second, third])
}

/// Who is there, as anybody may ask.
fn resolved(table: &Running) -> Result<BTreeSet<String>> {
    let url = format!("http://{}", table.server());
    let ended = program().run(["mount", "resolve", NAME, "--table", &url])?;
    // 4: there is no such name.
    ensure!(matches!(ended.code, Some(0 | 4)), "{ended:?}");
    Ok(ended.stdout.lines().map(String::from).collect())
}

/// Waits until exactly `expected` are there; who lives is there at every look in between.
fn becomes(table: &Running, expected: &[&str], living: &[&str], within: Duration) -> Result<()> {
    let expected: BTreeSet<_> = expected.iter().copied().map(String::from).collect();
    let mut lost = None;
    Deadline::after(within).wait_for(format!("{expected:?} under {NAME}"), || {
        let found = resolved(table).ok()?;
        lost = lost.take().or_else(|| living.iter().find(|server| !found.contains(**server)));
        (lost.is_some() || found == expected).then_some(())
    })?;
    ensure!(lost.is_none(), "{lost:?} was lost although it lives");
    Ok(())
}

#[test]
fn names_end_with_a_kill_are_withdrawn_before_a_stop_and_come_back() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let [mut first, mut second, mut third] = three(dir.path())?;
    let [one, two, three] = SERVERS;
    becomes(&first, &SERVERS, &[], SOON)?;
    let status = second.status()?;
    let row = &status["published"]["rows"][0];
    ensure!(row["name"] == NAME && row["server"] == two && row["mounted"] == true, "{status}");
    ensure!(first.status()?["mounts"]["total"] == 3, "the table's own node does not show it");

    // Killed: it is there until its time to live is over, and not longer; the others stay.
    second.kill()?;
    ensure!(resolved(&first)?.contains(two), "nobody has withdrawn it");
    becomes(&first, &[one, three], &[one, three], TTL + SOON)?;
    second.start()?;
    becomes(&first, &SERVERS, &[one, three], SOON)?;

    // Killed and back before its time was over: it stays, and it is there once.
    third.kill()?;
    third.start()?;
    // Mounted by the new one, too: the table cannot tell, since the old one's entry is still there.
    Deadline::after(SOON).wait_for("the third announces itself again", || {
        (third.status().ok()?["published"]["rows"][0]["mounted"] == true).then_some(())
    })?;
    becomes(&first, &SERVERS, &SERVERS, SOON)?;

    // Stopped: as long as its name cannot be withdrawn, it serves.
    first.signal(Signal::STOP)?;
    third.signal(Signal::TERM)?;
    Deadline::after(SOON).wait_for("it withdraws its names", || {
        (third.status().ok()?["node"]["detail"] == "withdrawing names").then_some(())
    })?;
    first.signal(Signal::CONT)?;
    let ended = third.wait()?;
    ensure!(ended.success(), "{ended}");
    ensure!(!resolved(&first)?.contains(three), "it has ended, and its name is still there");
    becomes(&first, &[one, two], &[one, two], SOON)?;
    third.start()?;
    becomes(&first, &SERVERS, &[one, two], SOON)?;

    // The table itself is killed: it comes back empty, and everybody is in it again after a period.
    first.kill()?;
    first.start()?;
    becomes(&first, &SERVERS, &[], SOON)?;
    // And without it, a stop is as good as any: what could not be withdrawn lapses.
    first.kill()?;
    second.stop()?;
    third.stop()
}
