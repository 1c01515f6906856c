use alloc::collections::VecDeque;

use cuttlebone_machine::{Instant, Machine};
use cuttlebone_wire::{Features, Message};

use crate::config::ResponderConfig;
use crate::message::{
    Body, Command, CommandAck, Config, GetMap, GetVersion, GetVersionReply, Map, Probe, Subscribe,
    SubscribeAck,
};

/// A message that a [`Responder`] is asked to answer, and what the peer that sent it can read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a plain record, built in full")]
pub struct Request {
    /// The features that both sides of the connection have.
    pub features: Features,
    /// The message.
    pub message: Message,
}

/// What a [`Responder`] wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a driver has to carry out every one of them")]
pub enum ResponderOutput {
    /// Send this message on the connection on which the request came.
    Send(Message),
    /// Run this command, then send what [`Responder::ack`] makes of the result.
    Run(Command, PendingCommand),
}

/// Whom a command's acknowledgement goes to, and in which form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingCommand {
    features: Features,
    tid: u64,
}

/// The side that is dialled: answers what a synchronising monitor, or the `ceph` command, needs to hear.
///
/// Everything else is dropped without a word. Above all MForward (46): with it a peer speaks in anybody's name.
/// A responder serves one connection and keeps nothing between messages, so it needs no time.
#[derive(Debug)]
pub struct Responder {
    config: ResponderConfig,
    outputs: VecDeque<ResponderOutput>,
}

/// How long subscriptions hold with peers that renew them, in seconds, as monitors have it.
///
/// Source: `ceph/ceph:src/common/options.cc`, `mon_subscribe_interval`; 86400 seen in 16.2.15.
const SUBSCRIBE_INTERVAL_SECS: u32 = 86_400;

impl Responder {
    /// A responder with these answers.
    pub fn new(config: ResponderConfig) -> Self {
        Self { config, outputs: VecDeque::new() }
    }

    /// Changes the answers, when the copy behind them has moved on. Nothing is sent.
    pub fn update(&mut self, config: ResponderConfig) {
        self.config = config;
    }

    /// The message that tells how a command went.
    #[must_use]
    pub fn ack(pending: PendingCommand, ack: &CommandAck) -> Message {
        ack.message(pending.features, pending.tid)
    }

    fn send<B: Body>(&mut self, features: Features, tid: u64, body: &B) {
        self.outputs.push_back(ResponderOutput::Send(body.message(features, tid)));
    }

    fn on_subscribe(&mut self, features: Features, subscribe: &Subscribe) {
        let epoch = u64::from(self.config.map.decode().epoch);
        for (what, subscription) in &subscribe.what {
            match what.as_str() {
                "monmap" if subscription.start <= epoch => {
                    let map = Map { map: self.config.map.clone() };
                    self.send(features, 0, &map);
                }
                "config" => {
                    let config = Config { options: self.config.config.clone() };
                    self.send(features, 0, &config);
                }
                _ => {}
            }
        }
        if !features.contains(Features::MON_STATEFUL_SUB) {
            let ack = SubscribeAck { interval_secs: SUBSCRIBE_INTERVAL_SECS, fsid: self.config.fsid };
            self.send(features, 0, &ack);
        }
    }

    /// Answers what it can; a malformed request is as good as none.
    fn answer(&mut self, Request { features, message }: &Request) -> Option<()> {
        let (features, tid) = (*features, message.tid);
        match message.kind {
            kind if kind == GetMap::KIND => {
                let map = Map { map: self.config.map.clone() };
                self.send(features, tid, &map);
            }
            kind if kind == Subscribe::KIND => {
                let (subscribe, _) = Subscribe::decode(message).ok()?;
                self.on_subscribe(features, &subscribe);
            }
            kind if kind == GetVersion::KIND => {
                let (GetVersion { handle, what }, _) = GetVersion::decode(message).ok()?;
                let (oldest, version) = *self.config.versions.get(&what)?;
                self.send(features, tid, &GetVersionReply { handle, version, oldest });
            }
            kind if kind == Command::KIND => {
                let (command, _) = Command::decode(message).ok()?;
                self.outputs.push_back(ResponderOutput::Run(command, PendingCommand { features, tid }));
            }
            kind if kind == Probe::KIND => {
                let (probe, _) = Probe::decode(message).ok()?;
                let ResponderConfig { fsid, name, map, window, .. } = &self.config;
                let reply = probe.reply_as(*fsid, name, map, *window)?;
                self.send(features, tid, &reply);
            }
            _ => {}
        }
        Some(())
    }
}

impl Machine for Responder {
    type Input = Request;
    type Output = ResponderOutput;

    fn handle(&mut self, _now: Instant, request: Request) {
        // Silence is the answer to everything else, as it is a monitor's.
        let _ = self.answer(&request);
    }

    fn handle_timeout(&mut self, _now: Instant) {}

    fn poll_output(&mut self) -> Option<ResponderOutput> {
        self.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }
}
