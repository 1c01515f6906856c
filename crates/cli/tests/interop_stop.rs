//! The end of a node under load: a real monitor goes on committing, clients read, follow, and take tokens. Nothing that
//! was acknowledged as durable is lost, by a stop or by a kill, and no client can hold a stop up beyond its deadlines.
//!
//! `CUTTLEBONE_ROUNDS=<n>` ends it a tenth of that often each way, since each time takes seconds.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use std::io::Write;
use std::net::TcpStream;
use std::thread::{Scope, ScopedJoinHandle};

use anyhow::{Context, Result, bail, ensure};
use cuttlebone_http::message::{Event, LeaseTerms, RegisterRequest, TakeoverName, TokenRequest};
use cuttlebone_http::{Client, ClientError, Life};
use cuttlebone_testkit::{Cluster, Deadline};
use rustix::process::Signal;

mod running;

use running::follower::{Follower, Known};
use running::{Running, rounds};

const WITHIN: Duration = Duration::from_secs(60);
/// Long enough for everybody who gives back when told to, and short enough for a test of those who do not.
const STOP: &str = "[stop]\nnames_s = 5\ntokens_s = 5\nsources_s = 5\nflush_s = 20\nservices_s = 2\n";
/// Clients of each kind.
const CLIENTS: usize = 4;

/// What clients were told, and may rely on.
#[derive(Default)]
struct Told {
    /// The last seqno that the status called persisted.
    persisted: AtomicU64,
    /// The highest epoch that a registration was given.
    epoch: AtomicU64,
    /// Answers that came whole.
    answers: AtomicU64,
    tokens: AtomicU64,
    over: AtomicBool,
}

fn request(name: &str) -> RegisterRequest {
    RegisterRequest {
        name: name.into(),
        takeover: TakeoverName::Wait,
        limit: Some(1),
        lease: LeaseTerms::Response,
    }
}

/// Registers and takes a token; both live as long as the answer.
async fn token(client: &Client, name: &str) -> Result<(u64, Life, Life), ClientError> {
    let mut owner = client.register(&request(name)).await?;
    let Event::Registered { epoch, .. } = owner.held(|_| {}).await? else {
        return Err(ClientError::Malformed("no registration"));
    };
    let request = TokenRequest { epoch: Some(epoch), slots: 1, wait: true, ..Default::default() };
    let mut token = client.token(name, &request).await?;
    token.held(|_| {}).await?;
    Ok((epoch, owner, token))
}

/// Clients that never rest; each ends when nobody answers any more. What they say of it is an error that no stop explains.
fn clients<'scope>(
    scope: &'scope Scope<'scope, '_>,
    server: &str,
    told: &'scope Told,
) -> Result<Vec<ScopedJoinHandle<'scope, Result<()>>>> {
    let client = Client::new(server.parse()?, None);
    let mut all = Vec::new();
    for at in 0..CLIENTS {
        let (reads, takes, looks) = (client.clone(), client.clone(), client.clone());
        all.push(scope.spawn(move || {
            until_unreachable(told, async || {
                reads.list_crc(0).await.map(|list| assert!(list.ends_with('\n')))
            })
        }));
        all.push(scope.spawn(move || {
            until_unreachable(told, async || {
                let (epoch, ..) = token(&takes, &format!("work-{at}")).await?;
                told.epoch.fetch_max(epoch, Ordering::Relaxed);
                told.tokens.fetch_add(1, Ordering::Relaxed);
                Ok(())
            })
        }));
        all.push(scope.spawn(move || {
            until_unreachable(told, async || {
                let status = looks.status().await?;
                let persisted = status.buckets.first().and_then(|bucket| bucket.vbuckets.rows.first());
                let persisted = persisted.map_or(0, |vbucket| vbucket.persisted_seqno);
                told.persisted.fetch_max(persisted, Ordering::Relaxed);
                Ok(())
            })
        }));
    }
    Ok(all)
}

fn until_unreachable(told: &Told, call: impl AsyncFn() -> Result<(), ClientError>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        loop {
            match call().await {
                Ok(()) => drop(told.answers.fetch_add(1, Ordering::Relaxed)),
                // Told so, or cut off; both are for ever.
                Err(ClientError::Unreachable(..)) => return Ok(()),
                // A node that stops gives no more tokens, and ends streams of those who wait for one.
                Err(ClientError::Refused(..) | ClientError::Malformed(_)) => {
                    if told.over.load(Ordering::Relaxed) {
                        continue;
                    }
                    bail!("refused without a reason");
                }
                Err(error) => return Err(error.into()),
            }
        }
    })
}

/// A client that takes a token and does not give it back; one that asked for changes and does not read; one that never
/// ends its request.
fn stubborn(server: &str) -> Result<impl Sized + use<>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let client = Client::new(server.parse()?, None);
    let held = runtime.block_on(token(&client, "stubborn"))?;
    let mut streams = Vec::new();
    for request in [
        "GET /v1/changes?cursor=stubborn HTTP/1.1\r\nhost: x\r\n\r\n",
        "POST /v1/registrations HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{",
        "GET / HTT",
    ] {
        let mut stream = TcpStream::connect(server)?;
        stream.write_all(request.as_bytes())?;
        streams.push(stream);
    }
    Ok((held, streams, runtime))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Stop,
    StopAmongStubborn,
    Kill,
}

/// Ends the node in the middle of everything; what a follower knew, and what was promised.
fn end_under_load(cluster: &Cluster, node: &mut Running, end: End, round: u32) -> Result<(Known, Told)> {
    let told = Told::default();
    let known = std::thread::scope(|scope| -> Result<Known> {
        let follower = Follower::start(node.server(), Known::default())?;
        let all = clients(scope, node.server(), &told)?;
        let committing = scope.spawn(|| -> Result<()> {
            for at in 0.. {
                if told.over.load(Ordering::Relaxed) {
                    break;
                }
                cluster.commits(&format!("load-{round}-{at}"), 100, 2000)?;
            }
            Ok(())
        });
        let _stubborn = (end == End::StopAmongStubborn).then(|| stubborn(node.server())).transpose()?;
        let first = node.status()?["buckets"][0]["vbuckets"]["rows"][0]["last_seqno"].as_u64().unwrap_or(0);
        Deadline::after(WITHIN).wait_for("a load", || {
            let persisted = told.persisted.load(Ordering::Relaxed);
            let tokens = told.tokens.load(Ordering::Relaxed);
            (persisted > first + 500 && follower.known().seqno() > first && tokens > 100).then_some(())
        })?;
        told.over.store(true, Ordering::Relaxed);
        if end == End::Kill {
            node.kill()?;
        } else {
            node.signal(Signal::TERM)?;
            let ended = node.wait()?;
            ensure!(ended.success(), "{ended}: {}", node.log());
        }
        let known = follower.stop()?;
        committing.join().map_err(|_| anyhow::anyhow!("the committing client broke off"))??;
        for client in all {
            client.join().map_err(|_| anyhow::anyhow!("a client broke off"))??;
        }
        Ok(known)
    })?;
    Ok((known, told))
}

/// What the node warned of since its log had `before` lines.
fn warnings(node: &Running, before: usize) -> Vec<String> {
    let lines = node.logged().into_iter().skip(before);
    lines
        .filter(|line| line["level"] == "WARN" || line["level"] == "ERROR")
        .map(|line| line.to_string())
        .collect()
}

#[test]
fn nothing_that_was_acknowledged_is_lost_by_an_end_under_load() -> Result<()> {
    let cluster = Cluster::builder().start()?;
    let monitor = cluster.mon("a");
    let dir = tempfile::tempdir()?;
    let source = format!("[source.monsync]\nmonitors = [\"{}\"]\nevery_ms = 10\n{STOP}", monitor.addr());
    let mut node = Running::new(dir.path(), "n1", &source)?;
    for round in 0..rounds(10).div_ceil(10) {
        for end in [End::Stop, End::StopAmongStubborn, End::Kill] {
            node.start()?;
            node.wait_until_serving()?;
            let before = node.logged().len();
            let (mut known, told) = end_under_load(&cluster, &mut node, end, round)
                .with_context(|| format!("round {round}: {end:?}"))?;
            let (persisted, epoch) =
                (told.persisted.load(Ordering::Relaxed), told.epoch.load(Ordering::Relaxed));
            let seen = known.newest();
            let warned = warnings(&node, before);
            eprintln!(
                "{end:?}: seqno {seen} seen, {persisted} persisted; {} answers, {} tokens, {} warnings",
                told.answers.load(Ordering::Relaxed),
                told.tokens.load(Ordering::Relaxed),
                warned.len()
            );
            ensure!(end != End::Stop || warned.is_empty(), "{warned:#?}");
            // Only what is on the disk is there from now on.
            monitor.pause()?;
            node.start()?;
            let last = node.status()?["buckets"][0]["vbuckets"]["rows"][0]["last_seqno"].as_u64();
            let last = last.context("a vbucket")?;
            if end == End::Kill {
                ensure!(last >= persisted, "{persisted} was called persisted, and {last} is there");
                known.back_to(persisted);
            } else {
                ensure!(last >= seen, "{seen} was seen before a good end, and {last} is there");
            }
            let anew = known.rollbacks;
            let follower = Follower::start(node.server(), known)?;
            Deadline::after(WITHIN)
                .wait_for(format!("{end:?}: what was known, and what followed, is there"), || {
                    (follower.known().list_crc() == node.list_crc().ok()?).then_some(())
                })?;
            let known = follower.stop()?;
            ensure!(known.rollbacks == anew, "{end:?}: what was acknowledged is of another history now");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let client = Client::new(node.server().parse()?, None);
            let (later, ..) = runtime.block_on(token(&client, "work-0"))?;
            ensure!(later > epoch, "epoch {later} after {epoch}");
            monitor.resume()?;
            node.stop()?;
        }
    }
    Ok(())
}
