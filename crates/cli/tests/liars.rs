//! Providers that lie, and networks that damage: each ends in an error that names the fault, and the copy that was
//! there before stays as it was.

mod provider;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use cuttlebone_monsync::Version;
use cuttlebone_monsync::v2::{Message, Op};
use cuttlebone_testkit::{Ended, Flip, Program};
use cuttlebone_wire::{Encode, Features, Op as StoreOp};
use provider::{Act, Provider, carried, message, transaction};
use tempfile::TempDir;

/// More address space than the program ever needs, and less than any of the lengths that are lied about.
const ADDRESS_SPACE_KIB: u32 = 1024 * 1024;
/// The version of the point that was made before the lies.
const BEFORE: u64 = 3;
/// The version of the store while it is lied about.
const NOW: u64 = 6;

/// The program, unable to use much memory: it aborts if it tries, which no test here takes for an answer.
fn program() -> Program {
    Program::new("/bin/sh")
}

fn arguments(arguments: &[&str]) -> Vec<String> {
    let script = format!("ulimit -v {ADDRESS_SPACE_KIB} && exec \"$0\" \"$@\"");
    let program = env!("CARGO_BIN_EXE_cuttlebone").to_owned();
    ["-c".into(), script, program].into_iter().chain(arguments.iter().map(ToString::to_string)).collect()
}

/// A provider, and a copy with one point that it made while it was honest.
struct Scene {
    provider: Provider,
    scratch: TempDir,
    before: String,
}

impl Scene {
    fn set() -> Result<Self> {
        Self::set_with(Provider::start(BEFORE)?)
    }

    fn set_with(provider: Provider) -> Result<Self> {
        let scratch = tempfile::tempdir()?;
        let mut scene = Self { provider, scratch, before: String::new() };
        program().ok(arguments(&[
            "mon",
            "backup",
            "--mon",
            &scene.provider.addr(),
            "--store",
            &scene.store(),
        ]))?;
        scene.before = scene.list()?;
        ensure!(scene.before.lines().count() > 400, "{}", scene.before);
        scene.provider.tell_the_truth(NOW);
        Ok(scene)
    }

    fn store(&self) -> String {
        self.scratch.path().join("copy").display().to_string()
    }

    fn list(&self) -> Result<String> {
        Ok(program().ok(arguments(&["store", "list-crc", "--store", &self.store(), "--point", "1"]))?.stdout)
    }

    fn backup(&self, flags: &[&str]) -> Result<Ended> {
        let (mon, store) = (self.provider.addr(), self.store());
        let patience = ["--stall-timeout", "1", "--connect-timeout", "3"];
        let all = [&["mon", "backup", "--mon", &mon, "--store", &store], &patience[..], flags].concat();
        program().run(arguments(&all))
    }

    /// The backup has failed like this, and the copy is what it was.
    fn failed(&self, ended: &Ended, code: i32, says: &str) -> Result<()> {
        ensure!(ended.code == Some(code), "{says:?}: {ended:?}");
        let error = ended.stderr.lines().last().unwrap_or_default();
        ensure!(error.contains(says), "{says:?} is not in {error:?}");
        ensure!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
        ensure!(self.list()? == self.before, "{says:?}: the point has changed");
        let report = program().json(arguments(&["store", "verify", "--json", "--store", &self.store()]))?;
        ensure!(report["sound"] == true && report["points"] == 1, "{report}");
        Ok(())
    }

    /// The truth brings the copy up to date, whatever was lied before.
    fn recovers(&self) -> Result<()> {
        self.provider.tell_the_truth(NOW);
        let ended = self.backup(&["--json"])?;
        let summary: serde_json::Value = serde_json::from_str(&ended.stdout).context(ended.stderr)?;
        ensure!(summary["kind"] == "incremental" && summary["version"] == NOW, "{summary}");
        ensure!(self.list()? == self.before, "the earlier point has changed");
        Ok(())
    }
}

/// Lies in every chunk from the second on when everything is pulled, and in the first one when only news are.
fn lying(
    change: impl Fn(&mut Message) + Send + Sync + 'static,
    from: usize,
) -> impl Fn(usize, Option<Message>) -> Vec<Act> + Send + Sync {
    move |answer, truth| {
        let Some(mut message) = truth else { return Vec::new() };
        if answer >= from && matches!(message.op, Op::Chunk | Op::LastChunk) {
            change(&mut message);
        }
        vec![Act::Say(message)]
    }
}

fn check(change: impl Fn(&mut Message) + Clone + Send + Sync + 'static, code: i32, says: &str) -> Result<()> {
    let scene = Scene::set()?;
    scene.provider.lie(lying(change.clone(), 3));
    scene.failed(&scene.backup(&["--full"])?, code, says)?;
    scene.provider.lie(lying(change, 2));
    scene.failed(&scene.backup(&[])?, code, says)?;
    scene.recovers()
}

#[test]
fn an_answer_for_another_cookie_is_named() -> Result<()> {
    check(|message| message.cookie.0 ^= 1, 7, "an answer for cookie")
}

#[test]
fn a_gap_in_the_versions_is_named() -> Result<()> {
    check(|message| message.last_committed = Version(message.last_committed.0 + 1), 7, "version 7 is missing")
}

#[test]
fn a_last_committed_that_goes_back_is_named() -> Result<()> {
    check(|message| message.last_committed = Version(2), 7, "last_committed went back from")
}

#[test]
fn a_truncated_transaction_is_named() -> Result<()> {
    check(
        |message| message.chunk.truncate(message.chunk.len() - 1),
        7,
        "a chunk that no true copy can contain: the transaction does not follow the encoding",
    )
}

#[test]
fn an_operation_in_a_transaction_that_nobody_knows_is_named() -> Result<()> {
    let change = |message: &mut Message| {
        let mut bytes = message.chunk.to_vec();
        bytes[16] = 9;
        message.chunk = bytes.into();
    };
    check(change, 7, "op type at byte 17: unknown value 0x9")
}

#[test]
fn an_operation_that_is_no_put_is_named() -> Result<()> {
    // After the version that is due, where one is.
    let change = |message: &mut Message| {
        message.last_committed = Version(message.last_committed.0.min(BEFORE));
        message.chunk = transaction(vec![StoreOp::erase("zz", "z")]);
    };
    let scene = Scene::set()?;
    scene.provider.lie(lying(change, 2));
    scene.failed(&scene.backup(&[])?, 7, "no put")
}

#[test]
fn a_count_that_promises_four_billion_operations_is_named_and_reserves_nothing() -> Result<()> {
    let change = |message: &mut Message| {
        let mut bytes = message.chunk.to_vec();
        bytes[6..10].fill(0xff);
        message.chunk = bytes.into();
    };
    check(change, 7, "the transaction does not follow the encoding")
}

#[test]
fn chunks_that_hold_nothing_for_ever_are_named() -> Result<()> {
    let scene = Scene::set()?;
    for (flags, last_committed) in [(&["--full"][..], NOW), (&[], BEFORE)] {
        scene.provider.lie(move |answer, truth| match truth {
            Some(truth) if answer > 1 => {
                let empty = message(Op::Chunk);
                let chunk = transaction(Vec::new());
                let last_committed = Version(last_committed);
                vec![Act::Say(Message { cookie: truth.cookie, last_committed, chunk, ..empty })]
            }
            truth => truth.map(Act::Say).into_iter().collect(),
        });
        scene.failed(&scene.backup(flags)?, 7, "chunks in a row hold nothing")?;
    }
    scene.recovers()
}

#[test]
fn a_version_that_is_no_transaction_is_named() -> Result<()> {
    let scene = Scene::set()?;
    scene.provider.lie(|_, truth| {
        let Some(mut message) = truth else { return Vec::new() };
        if message.op == Op::LastChunk {
            let junk = |version: u64| StoreOp::put("paxos", version.to_string(), vec![0xff; 100]);
            message.chunk = transaction((BEFORE + 1..=NOW).map(junk).collect());
        }
        vec![Act::Say(message)]
    });
    scene.failed(&scene.backup(&[])?, 7, "paxos version 4 is not a transaction")?;
    scene.recovers()
}

#[test]
fn a_full_copy_without_the_version_that_it_starts_from_is_named() -> Result<()> {
    let scene = Scene::set()?;
    scene.provider.lie(|answer, truth| {
        let Some(mut message) = truth else { return Vec::new() };
        if answer == 3 {
            message.op = Op::LastChunk;
        }
        vec![Act::Say(message)]
    });
    scene.failed(&scene.backup(&["--full"])?, 7, "version 6 is missing")
}

/// Answers the first request of a synchronisation with these bytes.
fn with_body(body: Bytes) -> impl Fn(usize, Option<Message>) -> Vec<Act> + Send + Sync {
    move |_, truth| truth.map(|_| Act::Send(carried(body.clone()))).into_iter().collect()
}

#[test]
fn a_message_with_an_operation_that_nobody_knows_is_named() -> Result<()> {
    let scene = Scene::set()?;
    let mut body = message(Op::Cookie).to_bytes(Features::PACIFIC).to_vec();
    body[0] = 7;
    scene.provider.lie(with_body(body.into()));
    scene.failed(
        &scene.backup(&[])?,
        7,
        "a message does not follow the encoding: op at byte 4: unknown value 0x7",
    )?;
    scene.recovers()
}

#[test]
fn a_length_of_four_billion_bytes_is_named_and_reserves_nothing() -> Result<()> {
    let scene = Scene::set()?;
    // Behind operation, cookie and version: two empty halves of a key, then the chunk.
    for (at, field) in [(20, "last_key prefix"), (24, "last_key key"), (28, "chunk")] {
        let mut body = message(Op::Cookie).to_bytes(Features::PACIFIC).to_vec();
        body[at..at + 4].fill(0xff);
        scene.provider.lie(with_body(body.into()));
        scene.failed(&scene.backup(&[])?, 7, field)?;
    }
    scene.recovers()
}

#[test]
fn a_message_above_every_limit_is_refused_before_it_is_held() -> Result<()> {
    let scene = Scene::set()?;
    scene.provider.lie(with_body(vec![0; 65 << 20].into()));
    scene.failed(&scene.backup(&[])?, 6, "bytes is above the limit of")?;
    scene.recovers()
}

#[test]
fn a_body_of_another_version_is_named() -> Result<()> {
    let scene = Scene::set()?;
    scene.provider.lie(|_, truth| {
        truth
            .map(|truth| {
                let body = carried(truth.to_bytes(Features::PACIFIC));
                Act::Send(cuttlebone_wire::Message { version: 3, compat_version: 3, ..body })
            })
            .into_iter()
            .collect()
    });
    scene.failed(&scene.backup(&[])?, 7, "a message does not follow the encoding")
}

#[test]
fn a_refusal_at_once_and_a_copy_that_is_forgotten_are_named() -> Result<()> {
    let scene = Scene::set()?;
    scene.provider.lie(|_, truth| truth.map(|_| Act::Say(message(Op::NoCookie))).into_iter().collect());
    scene.failed(&scene.backup(&[])?, 6, "the provider refuses to start a copy")?;
    scene.provider.lie(|answer, truth| {
        let Some(mut truth) = truth else { return Vec::new() };
        if answer > 4 {
            truth.op = Op::NoCookie;
        }
        vec![Act::Say(truth)]
    });
    scene.failed(&scene.backup(&["--full"])?, 6, "the provider has forgotten the copy")?;
    scene.recovers()
}

#[test]
fn silence_is_named_with_what_was_waited_for() -> Result<()> {
    let scene = Scene::set()?;
    for (silent_from, says) in
        [(1, "no cookie within 1s"), (2, "no chunk within 1s"), (5, "no chunk within 1s")]
    {
        scene.provider.lie(move |answer, truth| {
            truth.filter(|_| answer < silent_from).map(Act::Say).into_iter().collect()
        });
        scene.failed(&scene.backup(&["--full"])?, 6, says)?;
    }
    scene.recovers()
}

#[test]
fn a_provider_that_hangs_up_after_each_message_in_turn_is_unreachable() -> Result<()> {
    let scene = Scene::set()?;
    for last in 0..8 {
        scene.provider.lie(move |answer, truth| {
            if answer == last { vec![Act::HangUp] } else { truth.map(Act::Say).into_iter().collect() }
        });
        scene.failed(&scene.backup(&["--full"])?, 6, "")?;
    }
    scene.recovers()
}

/// Somewhere in the values of the first chunk, counted from the start of a connection.
const A_VALUE: u64 = 30_000;

#[test]
fn one_bit_flipped_on_the_wire_costs_a_connection_and_nothing_else() -> Result<()> {
    let scene = Scene::set_with(Provider::start_behind_a_proxy(BEFORE)?)?;
    let proxy = scene.provider.proxy()?;
    proxy.flip(Some(Flip::Once(A_VALUE)));
    let before = proxy.accepted();
    let ended = scene.backup(&["--full"])?;
    ensure!(ended.code == Some(0), "{ended:?}");
    ensure!(proxy.accepted() == before + 2, "the flipped bit was not noticed");
    let store = scene.scratch.path().join("truth").display().to_string();
    program().ok(arguments(&["mon", "backup", "--mon", &scene.provider.addr(), "--store", &store]))?;
    let same = program().run(arguments(&["store", "diff", "--store", &scene.store(), "--with", &store]))?;
    ensure!(same.code == Some(0), "{same:?}");
    Ok(())
}

#[test]
fn a_wire_that_damages_every_connection_ends_with_the_checksum() -> Result<()> {
    let scene = Scene::set_with(Provider::start_behind_a_proxy(BEFORE)?)?;
    let proxy = scene.provider.proxy()?;
    proxy.flip(Some(Flip::Always(A_VALUE)));
    let ended = scene.backup(&["--full"])?;
    scene.failed(&ended, 6, "wrong checksum of segment")?;
    proxy.flip(None);
    scene.recovers()
}

#[test]
fn huge_chunks_one_behind_the_other_do_not_fill_the_memory() -> Result<()> {
    let scene = Scene::set()?;
    // Below every limit of a single message, and together far above the address space that the program has here.
    let huge = transaction(vec![StoreOp::put("mon_config_key", "huge", vec![1; 60 << 20])]);
    scene.provider.lie(move |answer, truth| match truth {
        Some(truth) if answer == 2 => {
            let flood = (0..24).map(|_| {
                let (chunk, cookie, last_committed) = (huge.clone(), truth.cookie, Version(NOW));
                Act::Say(Message { chunk, cookie, last_committed, ..message(Op::Chunk) })
            });
            flood.collect()
        }
        truth => truth.map(Act::Say).into_iter().collect(),
    });
    scene.failed(&scene.backup(&["--full", "--stall-timeout", "30"])?, 7, "keys do not ascend")?;
    scene.recovers()
}

#[test]
fn talk_that_is_no_answer_counts_as_silence() -> Result<()> {
    let scene = Scene::set()?;
    scene.provider.lie(|answer, truth| {
        let Some(truth) = truth else { return Vec::new() };
        if answer < 2 {
            return vec![Act::Say(truth)];
        }
        // Maps of the OSDs (41), as a monitor sends them to those who subscribe.
        let front = Bytes::from_static(&[0; 1000]);
        let kind = cuttlebone_wire::MessageType(41);
        let talk =
            || Act::Send(cuttlebone_wire::Message { kind, front: front.clone(), ..Default::default() });
        (0..200_000).map(|_| talk()).collect()
    });
    scene.failed(&scene.backup(&["--full"])?, 6, "no chunk within 1s")?;
    scene.recovers()
}

#[test]
fn an_honest_monitor_makes_good_what_a_liar_spoilt() -> Result<()> {
    let scene = Scene::set()?;
    let honest = Provider::start(NOW)?;
    scene.provider.lie(lying(|message| message.last_committed = Version(2), 3));
    let mons = format!("{},{}", scene.provider.addr(), honest.addr());
    let store = scene.store();
    let backup = ["mon", "backup", "--json", "--full", "--mon", &mons, "--store", &store];
    let ended = program().ok(arguments(&backup))?;
    let summary: serde_json::Value = serde_json::from_str(&ended.stdout)?;
    let from = summary["monitor"].as_str().unwrap_or_default();
    ensure!(from.ends_with(&honest.addr()), "{summary}");
    ensure!(ended.stderr.contains("last_committed went back"), "{}", ended.stderr);
    ensure!(scene.list()? == scene.before, "the earlier point has changed");
    Ok(())
}
