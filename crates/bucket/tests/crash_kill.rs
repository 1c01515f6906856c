//! `kill -9` at random moments, on a real file: what was acknowledged as persisted is there, and nothing of a window
//! that was not completed is.
//!
//! The test starts itself again as the process to be killed. `CUTTLEBONE_ROUNDS=<n>` kills more often.

#![expect(clippy::unwrap_used, reason = "a failure in a test is a panic")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use cuttlebone_bucket::engine::LogEngine;
use cuttlebone_bucket::{Bucket, BucketLimits, Mode, Now, VbucketState};
use cuttlebone_checkpoint::{Item, Limits};
use cuttlebone_machine::{Entropy, SplitMix};

const ROUNDS: u64 = 25;
const VBUCKETS: u16 = 4;
const KEYS: u64 = 200;
const FOLDER: &str = "CUTTLEBONE_CRASH_FOLDER";

fn open(folder: &Path, seed: u64) -> Bucket<LogEngine> {
    let limits =
        BucketLimits { log: Limits { items_max: 50, ..Limits::default() }, ..BucketLimits::default() };
    Bucket::open(LogEngine::open(folder).unwrap(), limits, Now::default(), seed).unwrap()
}

fn key(number: u64) -> (u16, String) {
    (u16::try_from(number % u64::from(VBUCKETS)).unwrap(), format!("key{number}"))
}

/// The process to be killed: writes generations of all keys, and says on its output what is acknowledged.
#[test]
fn victim() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let bucket = open(Path::new(&folder), std::process::id().into());
    let now = Now::default();
    for id in 0..VBUCKETS {
        // It is there after the first round.
        let _ = bucket.create(id, now, VbucketState::Active);
    }
    let mut chance = SplitMix::new(std::process::id().into());
    let say = |line: String| {
        let mut out = std::io::stderr().lock();
        writeln!(out, "ACK {line}").unwrap();
    };
    let write = |name: &str, from: u64, to: u64| {
        for number in from..to {
            let (id, key) = key(number);
            let item = Item::set(key.as_bytes(), name.as_bytes()).unwrap();
            bucket.set(id, now, item, Mode::Set).unwrap();
        }
    };
    let start: u64 = std::env::var("CUTTLEBONE_CRASH_START").unwrap().parse().unwrap();
    for generation in start.. {
        say(format!("begin {generation}"));
        write(&generation.to_string(), 0, KEYS);
        bucket.flush_all().unwrap();
        say(format!("durable {generation}"));
        bucket.start_update(now).unwrap();
        write("window", 0, chance.below(KEYS));
        bucket.flush_all().unwrap();
        if chance.below(2) == 0 {
            say("reverting".into());
            bucket.revert_update(now, || now).unwrap();
            say("reverted".into());
        } else {
            // Over it again before it is completed, so that completion shows in one value.
            write(&format!("{generation}"), 0, KEYS);
            say("completing".into());
            bucket.complete_update(now).unwrap();
        }
        bucket.flush_all().unwrap();
        say(format!("durable {generation}"));
    }
}

struct Victim(Child);

impl Drop for Victim {
    fn drop(&mut self) {
        // It may be dead already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn what_was_acknowledged_survives_a_kill_and_windows_do_not() {
    let rounds =
        std::env::var("CUTTLEBONE_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(ROUNDS);
    let seed = std::env::var("CUTTLEBONE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let mut chance = SplitMix::new(seed);
    let folder = tempfile::tempdir().unwrap();
    let (mut durable, mut begun, mut kills) = (0, 0, BTreeMap::<String, u32>::new());
    for round in 0..rounds {
        let mut victim = Victim(
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "victim", "--nocapture"])
                .env(FOLDER, folder.path())
                .env("CUTTLEBONE_CRASH_START", (begun + 1).to_string())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap(),
        );
        // Killed after a random number of acknowledgements, while it is doing what follows.
        let mut patience = 2 + i64::try_from(chance.below(25)).unwrap();
        let mut last = String::new();
        for line in BufReader::new(victim.0.stderr.take().unwrap()).lines() {
            let line = line.unwrap();
            let Some(said) = line.strip_prefix("ACK ") else { panic!("the victim said: {line}") };
            match said.split_once(' ') {
                Some(("durable", generation)) => durable = generation.parse().unwrap(),
                Some(("begin", generation)) => begun = generation.parse().unwrap(),
                _ => {}
            }
            said.split(' ').next().unwrap().clone_into(&mut last);
            patience -= 1;
            if patience == 0 {
                // What it said before it died is read to the end.
                victim.0.kill().unwrap();
            }
        }
        drop(victim);
        *kills.entry(last).or_default() += 1;
        let bucket = open(folder.path(), round);
        if durable == 0 {
            continue;
        }
        for number in 0..KEYS {
            let (id, key) = key(number);
            let found = bucket.get(id, Now::default(), key.as_bytes()).unwrap();
            let value = String::from_utf8_lossy(found.item.value()).into_owned();
            let generation: u64 =
                value.parse().unwrap_or_else(|_| panic!("round {round}: {key} is {value:?}"));
            assert!(
                (durable..=begun).contains(&generation),
                "round {round}: {key} is {generation}, durable {durable}"
            );
        }
        assert!((0..VBUCKETS).all(|id| !bucket.status(id).unwrap().in_window));
        bucket.recount().unwrap();
    }
    println!("killed after: {kills:?}");
    assert!(durable > 0, "no victim lived long enough");
}
