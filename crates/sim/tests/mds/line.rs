//! A lossless line over connections that are lost: what a messenger's session does, without its frames.

use std::collections::VecDeque;

use cuttlebone_mds::MdsMap;
use cuttlebone_wire::Message;

/// What nodes of this world send to each other.
#[derive(Clone, Debug)]
pub(crate) enum Packet {
    /// The newest map, from the monitor.
    Map(Box<MdsMap>),
    /// A client wants a line to one run of a server.
    Hello { client: u64, line: u64, nonce: u32 },
    /// It has one.
    Welcome { line: u64 },
    /// The server knows nothing of this line.
    Unknown { line: u64 },
    /// The connection is new; this much has arrived over the old one.
    Resume { client: u64, line: u64, nonce: u32, received: u64 },
    /// The same from the other end.
    Resumed { line: u64, received: u64 },
    /// A message.
    Data { line: u64, seq: u64, received: u64, message: Message },
}

/// One end of a line.
#[derive(Debug, Default)]
pub(crate) struct Line {
    pub(crate) id: u64,
    sent: u64,
    unacked: VecDeque<(u64, Message)>,
    received: u64,
}

impl Line {
    pub(crate) fn new(id: u64) -> Self {
        Self { id, ..Self::default() }
    }

    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// Takes a message on; it is kept until the other end has it.
    pub(crate) fn send(&mut self, message: Message) -> Packet {
        self.sent += 1;
        self.unacked.push_back((self.sent, message.clone()));
        Packet::Data { line: self.id, seq: self.sent, received: self.received, message }
    }

    /// Whether this is the message that comes next; others are late, or will be sent again.
    pub(crate) fn accept(&mut self, seq: u64, received: u64) -> bool {
        self.forget(received);
        let next = seq == self.received + 1;
        self.received += u64::from(next);
        next
    }

    fn forget(&mut self, received: u64) {
        while self.unacked.front().is_some_and(|(seq, _)| *seq <= received) {
            self.unacked.pop_front();
        }
    }

    /// Everything that the other end does not have.
    pub(crate) fn again(&mut self, received: u64) -> Vec<Packet> {
        self.forget(received);
        let data = |(seq, message): &(u64, Message)| Packet::Data {
            line: self.id,
            seq: *seq,
            received: self.received,
            message: message.clone(),
        };
        self.unacked.iter().map(data).collect()
    }
}
