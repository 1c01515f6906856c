//! A writer in a process of its own that is killed without warning, again and again.

#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use bytes::Bytes;
use cuttlebone_store::{Keep, Limits, NewPoint, Pull, Reader, Selector, Writer, verify};
use cuttlebone_wire::{Decode, Encode, Features, Op, Transaction};

/// Where the child works. Without it, the child's test has nothing to do.
const DIR: &str = "CUTTLEBONE_STORE_KILL_DIR";
const ROUNDS: u64 = 52;

fn encoded(ops: Vec<Op>) -> Bytes {
    Transaction::new(ops).to_bytes(Features::PACIFIC)
}

/// Says on standard output where it is. What follows `point` has been acknowledged.
fn say(word: &str, number: u64) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n{word} {number}").unwrap();
    out.flush().unwrap();
}

fn pull(writer: &mut Writer, pull: Pull, version: u64) {
    let mut ingest = writer.begin(pull).unwrap();
    say("begin", version);
    let change = encoded(vec![
        Op::put("osdmap", version.to_string(), vec![0; 3000]),
        Op::put("osdmap", "last_committed", version.to_le_bytes().to_vec()),
        Op::put("osdmap", "first_committed", version.to_le_bytes().to_vec()),
    ]);
    let mut chunks = vec![encoded(vec![Op::put("paxos", version.to_string(), change)])];
    if matches!(pull, Pull::Full { .. }) {
        let keys = |n: u64| (0..40).map(move |k| Op::put("auth", format!("{n:03}.{k:03}"), vec![0; 1000]));
        chunks.extend((0..40).map(|n| encoded(keys(n).collect())));
    }
    for (n, raw) in (0..).zip(&chunks) {
        ingest.append(raw, &Transaction::decode(&mut cuttlebone_wire::Reader::new(raw)).unwrap()).unwrap();
        say("chunk", n);
    }
    ingest.replay(version..=version).unwrap();
    say("replayed", version);
    let point = ingest.commit(NewPoint { last_committed: version, ..NewPoint::default() }).unwrap();
    say("point", point.id.0);
}

#[test]
#[ignore = "the other test starts this one, to kill it"]
fn child() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let mut limits = Limits::default();
    limits.tail_points_max = 2;
    limits.runs_max = 2;
    let mut writer = Writer::open(Path::new(&dir), limits).unwrap();
    for round in 0.. {
        let version = writer.latest().map_or(1, |point| point.last_committed + 1);
        if round % 5 == 0 {
            pull(&mut writer, Pull::Full { start: version }, version);
            writer.prune(Keep::Generations(2)).unwrap();
            say("pruned", version);
        } else {
            pull(&mut writer, Pull::Recent { from: version - 1 }, version);
        }
    }
}

struct Victim {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Victim {
    fn start(dir: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["child", "--exact", "--ignored", "--nocapture", "--test-threads=1"])
            .env(DIR, dir)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Self { child, out }
    }

    /// Kills the child after it has said so many words, and answers the last point that it had announced by then.
    fn kill_after(mut self, words: u64) -> Option<u64> {
        let mut last = None;
        let mut seen = 0;
        let mut killed = false;
        let mut line = String::new();
        while self.out.read_line(&mut line).unwrap() > 0 {
            if let Some((word, number)) = line.trim().split_once(' ')
                && let Ok(number) = number.parse::<u64>()
            {
                seen += 1;
                last = if word == "point" { Some(number) } else { last };
            }
            line.clear();
            if seen >= words && !killed {
                self.child.kill().unwrap();
                killed = true;
                // What is in the pipe already was said before it died, and counts.
            }
        }
        self.child.wait().unwrap();
        assert!(killed, "the child ended by itself");
        last
    }
}

#[test]
fn a_writer_killed_at_any_moment_has_lost_nothing_that_it_announced() {
    let dir = tempfile::tempdir().unwrap();
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut announced = 0;
    for round in 0..ROUNDS {
        random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        let last = Victim::start(dir.path()).kill_after(1 + (random >> 33) % 70);
        announced = announced.max(last.unwrap_or(0));
        let reader = Reader::open(dir.path());
        if announced == 0 && reader.is_err() {
            continue;
        }
        let reader = reader.unwrap();
        let latest = reader.points().next_back().map_or(0, |point| point.id.0);
        assert!(latest >= announced, "round {round}: point {announced} was announced, {latest} is there");
        if latest > 0 {
            let view = reader.at(Selector::Latest).unwrap();
            for entry in view.entries(None).unwrap() {
                view.value(&entry.unwrap()).unwrap();
            }
            if round % 4 == 0 {
                let report = verify(dir.path()).unwrap();
                assert!(report.is_sound(), "round {round}: {report:?}");
            }
        }
    }
    assert!(announced > 20, "only {announced} points in {ROUNDS} rounds");
}
