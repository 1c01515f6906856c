//! `mon serve` among peers that ask what is not theirs, talk nonsense, flood, or never listen: each of them gets
//! nothing by it, and a good peer gets its copy all the same.

mod peer;
mod provider;

use core::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use cuttlebone_mon::{Body, Map};
use cuttlebone_monsync::MESSAGE_TYPE;
use cuttlebone_monsync::v2::{Cookie, Op};
use cuttlebone_testkit::{Program, Running};
use cuttlebone_wire::{EntityAddr, Message, MessageType};
use peer::{Peer, asks_and_never_reads, get_chunk, get_cookie, runtime, silent, subscribe, sync, sync_body};
use provider::Provider;
use serde_json::Value;
use tempfile::TempDir;

/// How long anything here may take on a busy machine.
const STEP_MAX: Duration = Duration::from_secs(30);

fn program() -> Program {
    Program::new(env!("CARGO_BIN_EXE_cuttlebone"))
}

/// A served copy.
struct Scene {
    scratch: TempDir,
    serving: Running,
    addr: EntityAddr,
}

impl Scene {
    fn set() -> Result<Self> {
        let provider = Provider::start(50)?;
        let scratch = tempfile::tempdir()?;
        let store = scratch.path().join("copy").display().to_string();
        program().ok(["mon", "backup", "--mon", &provider.addr(), "--store", &store])?;
        let serve = ["mon", "serve", "--json", "--chunk-bytes", "65536", "--store", &store];
        let mut serving = program().spawn(serve.into_iter().chain(["--listen", "127.0.0.1:0"]))?;
        let listening: Value = serde_json::from_str(&serving.wait_for("listening", STEP_MAX)?)?;
        let addr = listening["addrs"].as_str().context("no address")?.parse()?;
        Ok(Self { scratch, serving, addr })
    }

    /// A good peer gets everything, and in time; the provider is still there.
    fn serves(&mut self, name: &str) -> Result<()> {
        let store = self.scratch.path().join(name).display().to_string();
        let mon = self.addr.to_string();
        let patience = ["--connect-timeout", "10", "--stall-timeout", "10"];
        program().ok(["mon", "backup", "--mon", &mon, "--store", &store].into_iter().chain(patience))?;
        let original = self.scratch.path().join("copy").display().to_string();
        let same = program().run(["store", "diff", "--store", &store, "--with", &original])?;
        ensure!(same.code == Some(0), "{same:?}");
        ensure!(self.serving.ended()?.is_none(), "{}", self.serving.stderr());
        ensure!(!self.serving.stderr().contains("panicked"), "{}", self.serving.stderr());
        Ok(())
    }
}

#[test]
fn a_client_that_asks_for_a_copy_gets_nothing() -> Result<()> {
    let mut scene = Scene::set()?;
    runtime()?.block_on(async {
        let mut client = Peer::client(&scene.addr).await?;
        for question in [get_cookie(), get_chunk(Cookie(1)), sync(Op::GetCookieRecent, Cookie(0))] {
            client.send(question).await?;
        }
        let got = client.everything_so_far().await?;
        ensure!(got.is_empty(), "{got:?}");
        Ok(())
    })?;
    scene.serves("after")
}

#[test]
fn what_makes_no_sense_is_dropped_and_the_session_goes_on() -> Result<()> {
    let mut scene = Scene::set()?;
    runtime()?.block_on(async {
        let mut monitor = Peer::monitor(&scene.addr).await?;
        for op in [Op::NoCookie, Op::Cookie, Op::Chunk, Op::LastChunk] {
            monitor.send(sync(op, Cookie(1))).await?;
        }
        let unknown = sync(Op::NoCookie, Cookie(1));
        for number in [0, 7, 9, 0xff] {
            let mut front = unknown.front.to_vec();
            front[0] = number;
            monitor.send(sync_body(front.into())).await?;
        }
        for front in [Bytes::new(), Bytes::from_static(&[0xff; 64]), unknown.front.slice(..20)] {
            monitor.send(sync_body(front)).await?;
        }
        monitor.send(Message { version: 9, compat_version: 9, ..unknown }).await?;
        // Every type of message there is or may be, a forwarded one (46) among them, without a body worth the name.
        for kind in 0..512 {
            if kind != Map::KIND.0 + 1 {
                let front = Bytes::from_static(&[0xff; 16]);
                monitor.send(Message { kind: MessageType(kind), front, ..Message::default() }).await?;
            }
        }
        let got = monitor.everything_so_far().await?;
        ensure!(got.iter().all(|message| message.kind != MESSAGE_TYPE), "{got:?}");
        // The same session can have a copy.
        monitor.send(get_cookie()).await?;
        let cookie = cuttlebone_monsync::v2::Message::from_message(&monitor.recv().await?)?;
        ensure!(cookie.op == Op::Cookie, "{cookie:?}");
        Ok(())
    })?;
    scene.serves("after")
}

#[test]
fn peers_that_ask_and_never_read_hold_nobody_up() -> Result<()> {
    let mut scene = Scene::set()?;
    let runtime = runtime()?;
    let mut deaf = Vec::new();
    for _ in 0..8 {
        deaf.push(runtime.block_on(asks_and_never_reads(&scene.addr, 64))?);
    }
    scene.serves("meanwhile")?;
    drop(deaf);
    scene.serves("after")
}

#[test]
fn peers_that_flood_with_questions_hold_nobody_up() -> Result<()> {
    let mut scene = Scene::set()?;
    let runtime = runtime()?;
    // The peers lose their sessions some time, and come back for more.
    let flood: Vec<_> = (0..4)
        .map(|_| {
            let addr = scene.addr.clone();
            runtime.spawn(async move {
                loop {
                    let Ok(peer) = Peer::monitor(&addr).await else { continue };
                    while peer.send(subscribe()).await.is_ok() {}
                }
            })
        })
        .collect();
    for round in 0..5 {
        scene.serves(&format!("meanwhile-{round}"))?;
    }
    flood.iter().for_each(tokio::task::JoinHandle::abort);
    scene.serves("after")
}

#[test]
fn connections_that_say_nothing_keep_nobody_out() -> Result<()> {
    let mut scene = Scene::set()?;
    let silent = silent(scene.addr.socket_addr().context("no address")?, 200)?;
    scene.serves("meanwhile")?;
    drop(silent);
    scene.serves("after")
}
