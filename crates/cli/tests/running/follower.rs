//! A client that follows a node's changes, as any program may.

use core::fmt::Write;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use cuttlebone_http::Client;
use cuttlebone_http::changes::{Change, ChangesQuery, Mutation};
use cuttlebone_wire::crc32c;

/// How long a follower waits before it asks again where nobody answered.
const RETRY: Duration = Duration::from_millis(50);

/// What it knows: each key with the checksum that `list-crc` prints.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    sums: BTreeMap<Vec<u8>, u32>,
    /// How each mutation can be undone: its seqno, its key, and what was there before.
    undo: Vec<(u64, Vec<u8>, Option<u32>)>,
    /// The ends of the snapshots that it has whole.
    wholes: Vec<u64>,
    /// The end of the one that it is reading.
    reading: Option<u64>,
    branch: Option<u64>,
    /// How often it was told to forget everything.
    pub(crate) rollbacks: u32,
    /// How often it was told that a window was undone.
    pub(crate) reverts: u32,
}

impl Known {
    /// Up to where it knows everything.
    pub(crate) fn seqno(&self) -> u64 {
        self.wholes.last().copied().unwrap_or(0)
    }

    /// The newest mutation that it has seen.
    pub(crate) fn newest(&self) -> u64 {
        self.undo.last().map_or(0, |(seqno, ..)| *seqno)
    }

    /// Takes back what came after the last whole snapshot that ends at `seqno` or before.
    pub(crate) fn back_to(&mut self, seqno: u64) {
        self.wholes.retain(|end| *end <= seqno);
        self.undo_from(self.seqno() + 1);
        self.reading = None;
    }

    /// What `list-crc` has to print.
    pub(crate) fn list_crc(&self) -> String {
        let mut text = String::new();
        for (key, sum) in self.sums.iter().filter(|(key, _)| key.first() != Some(&0)) {
            for byte in key {
                match byte {
                    0 => text.push('\t'),
                    b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'/' | b'_' | b'~' => {
                        text.push(char::from(*byte));
                    }
                    _ => {
                        let _infallible = write!(text, "%{byte:02x}");
                    }
                }
            }
            let _infallible = writeln!(text, "\t{sum}");
        }
        text
    }

    fn take(&mut self, change: Change) -> Result<()> {
        match change {
            Change::Rollback => {
                *self = Self { rollbacks: self.rollbacks + 1, reverts: self.reverts, ..Self::default() };
            }
            Change::History { branch, .. } => self.branch = Some(branch.parse()?),
            Change::Snapshot { end, .. } => self.reading = Some(end),
            Change::Set(Mutation { seqno, key, value, .. }) => {
                let (key, value) = (BASE64_STANDARD.decode(key)?, BASE64_STANDARD.decode(value)?);
                let parts = key.splitn(2, |byte| *byte == 0).chain([&value[..]]);
                let sum = parts.fold(0, crc32c);
                let before = self.sums.insert(key.clone(), sum);
                self.has(seqno, key, before);
            }
            Change::Delete(Mutation { seqno, key, .. }) => {
                let key = BASE64_STANDARD.decode(key)?;
                let before = self.sums.remove(&key);
                self.has(seqno, key, before);
            }
            Change::UpdateRevert { first, .. } => {
                self.undo_from(first);
                self.reverts += 1;
            }
            _ => {}
        }
        Ok(())
    }

    fn has(&mut self, seqno: u64, key: Vec<u8>, before: Option<u32>) {
        self.undo.push((seqno, key, before));
        if self.reading.is_some_and(|end| seqno >= end) {
            self.wholes.push(seqno);
        }
    }

    fn undo_from(&mut self, first: u64) {
        while let Some((_, key, before)) = self.undo.pop_if(|(seqno, ..)| *seqno >= first) {
            match before {
                Some(sum) => self.sums.insert(key, sum),
                None => self.sums.remove(&key),
            };
        }
    }
}

/// One that follows on a thread of its own until it is dropped, and asks again when the stream has ended.
pub(crate) struct Follower {
    known: Arc<Mutex<Known>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Follower {
    /// Goes on from what is `known`.
    pub(crate) fn start(server: &str, known: Known) -> Result<Self> {
        let client = Client::new(server.parse()?, None);
        let known = Arc::new(Mutex::new(known));
        let over = Arc::new(AtomicBool::new(false));
        let (shared, end) = (Arc::clone(&known), Arc::clone(&over));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                while !end.load(Ordering::Acquire) {
                    // A node that is away is asked again.
                    follow(&client, &shared, &end).await?;
                    tokio::time::sleep(RETRY).await;
                }
                Ok(())
            })
        });
        Ok(Self { known, over, thread: Some(thread) })
    }

    pub(crate) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it knows in the end.
    pub(crate) fn stop(mut self) -> Result<Known> {
        self.over.store(true, Ordering::Release);
        let ended = self.thread.take().context("a thread")?.join();
        ended.map_err(|_| anyhow::anyhow!("the follower broke off"))??;
        let known = self.known().clone();
        Ok(known)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
    }
}

/// One stream to its end. An error is one of what it says; that nobody answers is none.
async fn follow(client: &Client, known: &Mutex<Known>, over: &AtomicBool) -> Result<()> {
    let lock = || known.lock().unwrap_or_else(PoisonError::into_inner);
    let query = {
        let mut known = lock();
        let since = known.seqno();
        // What it has of a snapshot that is not whole comes again.
        known.back_to(since);
        ChangesQuery { cursor: "follower".into(), since, branch: known.branch, vbucket: 0 }
    };
    let Ok((_connection, mut lines)) = client.changes(&query).await else { return Ok(()) };
    while !over.load(Ordering::Acquire) {
        match tokio::time::timeout(RETRY, lines.next()).await {
            Ok(Ok(Some(change))) => lock().take(change)?,
            Ok(Ok(None)) => break,
            Ok(Err(error)) => return Err(error.into()),
            // Nothing new: another look at whether it is over.
            Err(_) => {}
        }
    }
    Ok(())
}
