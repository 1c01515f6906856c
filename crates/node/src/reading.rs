use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;
use cuttlebone_machine::{Instant, Machine};
use cuttlebone_mon::{
    CommandAck, EncodedMonMap, PaxosWindow, Request, Responder, ResponderConfig, ResponderOutput,
};
use cuttlebone_monsync::v2::PeerId;
use cuttlebone_monsync::{Answer, Ask};
use cuttlebone_store::View;
use cuttlebone_wire::Message;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::Error;
use crate::shelf::Shelf;

/// Asks and answers that may lie between the protocol and the disk.
///
/// A provider has at most two asks open for each cookie, and each peer has a few questions on their way. Whoever asks
/// takes all answers first, so the thread finds room for what it answers while the asker waits for room for one more.
const QUEUE_MAX: usize = 1024;

/// A thread of its own for what waits for the disk: the reads of a provider, and whatever a peer wants to know of
/// the copy.
#[derive(Debug)]
pub(crate) struct Reading {
    jobs: mpsc::Sender<Job>,
    answers: mpsc::Receiver<Told>,
}

#[derive(Debug)]
enum Job {
    Ask(Ask),
    Request { from: PeerId, request: Box<Request>, turn: Turn },
}

/// A peer's right to have one question on its way; it comes back when this is dropped.
pub(crate) type Turn = OwnedSemaphorePermit;

/// What the thread answers.
#[derive(Debug)]
pub(crate) enum Told {
    /// To the provider; and what went wrong, if something did.
    Store { answer: Option<Answer>, error: Option<cuttlebone_store::Error> },
    /// To a peer.
    Message { to: PeerId, message: Message },
    /// The copy cannot be described any more.
    Failed(Error),
}

impl Reading {
    /// Opens the copy in `dir`, which must have a point with a monitor map; `name` is what we are called.
    pub(crate) fn open(dir: PathBuf, name: String) -> Result<(Self, Described), Error> {
        let shelf = Shelf::open(dir)?;
        let described = describe(shelf.latest(), &name)?;
        let (jobs, inbox) = mpsc::channel(QUEUE_MAX);
        let (outbox, answers) = mpsc::channel(QUEUE_MAX);
        let responder = Responder::new(described.responder.clone());
        let desk = Desk { shelf, name, responder, outbox };
        let thread =
            std::thread::Builder::new().name("cuttlebone-read".into()).spawn(move || desk.work(inbox));
        thread.map_err(|source| cuttlebone_store::Error::Io {
            action: "start a thread for",
            file: "the copy".into(),
            source,
        })?;
        Ok((Self { jobs, answers }, described))
    }

    /// Hands over what a provider asks of its store.
    pub(crate) async fn ask(&self, ask: Ask) {
        // The thread ends only after us.
        let _ = self.jobs.send(Job::Ask(ask)).await;
    }

    /// Hands over what a peer wants to know. `turn` is given back when it is answered.
    pub(crate) async fn request(&self, from: PeerId, request: Request, turn: Turn) {
        let _ = self.jobs.send(Job::Request { from, request: Box::new(request), turn }).await;
    }

    /// The next answer. Cancel safe.
    pub(crate) async fn recv(&mut self) -> Told {
        let gone = || Told::Failed(Error::Config("the thread that reads the copy is gone"));
        self.answers.recv().await.unwrap_or_else(gone)
    }
}

/// What a copy says of itself.
#[derive(Clone, Debug)]
pub(crate) struct Described {
    pub(crate) responder: ResponderConfig,
    pub(crate) point: cuttlebone_store::Point,
}

/// Reads what peers are told: the cluster, its monitor map, and the versions.
fn describe(view: &View, name: &str) -> Result<Described, Error> {
    let counter = |prefix: &[u8], key: &[u8]| -> Result<u64, Error> {
        let value = view.get(prefix, key)?;
        let number = value.as_deref().and_then(<[u8]>::first_chunk).copied().map(u64::from_le_bytes);
        Ok(number.unwrap_or(0))
    };
    let epoch = counter(b"monmap", b"last_committed")?;
    let map = view.get(b"monmap", epoch.to_string().as_bytes())?.ok_or(Error::NoMonMap)?;
    let map = EncodedMonMap::new(map).map_err(|_| Error::NoMonMap)?;
    let window = PaxosWindow {
        first: counter(b"paxos", b"first_committed")?,
        last: counter(b"paxos", b"last_committed")?,
    };
    let responder = ResponderConfig {
        fsid: map.decode().fsid,
        name: name.into(),
        map,
        window,
        config: BTreeMap::new(),
        versions: BTreeMap::from([("monmap".into(), (1, epoch))]),
    };
    Ok(Described { responder, point: view.point().clone() })
}

/// The thread's side.
struct Desk {
    shelf: Shelf,
    name: String,
    responder: Responder,
    outbox: mpsc::Sender<Told>,
}

impl Desk {
    fn work(mut self, mut inbox: mpsc::Receiver<Job>) {
        while let Some(job) = inbox.blocking_recv() {
            match job {
                Job::Ask(ask) => {
                    let (answer, error) = self.shelf.carry_out(ask);
                    if answer.is_some() || error.is_some() {
                        self.tell(Told::Store { answer, error });
                    }
                }
                Job::Request { from, request, turn } => {
                    if let Err(error) = self.respond(from, *request) {
                        self.tell(Told::Failed(error));
                    }
                    drop(turn);
                }
            }
        }
    }

    /// Answers with what the copy holds now: a writer may have made a newer point since the last question.
    fn respond(&mut self, from: PeerId, request: Request) -> Result<(), Error> {
        self.shelf.refresh()?;
        self.responder.update(describe(self.shelf.latest(), &self.name)?.responder);
        // A responder keeps no time.
        self.responder.handle(Instant::ZERO, request);
        while let Some(output) = self.responder.poll_output() {
            let message = match output {
                ResponderOutput::Send(message) => message,
                ResponderOutput::Run(_, pending) => Responder::ack(pending, &no_commands()),
            };
            self.tell(Told::Message { to: from, message });
        }
        Ok(())
    }

    fn tell(&self, told: Told) {
        // Nobody listens any more: then the next job does not come either.
        let _ = self.outbox.blocking_send(told);
    }
}

/// `EOPNOTSUPP`, as Linux numbers it.
const NOT_SUPPORTED: i32 = -95;

/// A copy is no cluster.
fn no_commands() -> CommandAck {
    let status = Bytes::from_static(b"this is the provider of a copy, and runs no commands");
    CommandAck { result: NOT_SUPPORTED, status, ..CommandAck::default() }
}
