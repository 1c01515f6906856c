use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use core::net::SocketAddr;
use core::time::Duration;
use cuttlebone_link::{
    AcceptConfig, Acceptor, Command, DialConfig, Event, Incoming, Limits, Link, SessionKey, Verdict,
};
use cuttlebone_machine::{Instant, SplitMix, StreamMachine, StreamOutput};
use cuttlebone_msgr::{
    AuthFrame, Banner, Handshake, HandshakeEvent, Identity, Mode, Signatures, Tag, encode_control,
    encode_frame,
};
use cuttlebone_wire::{EntityAddr, Features, Message, Writer};

/// Most that a machine may want to have in front of it.
const WANTED_MAX: usize = 65_536 + 64;

fn limits() -> Limits {
    Limits { control_bytes_max: 4096, message_bytes_max: 65_536, queue_messages_max: 16, ..Limits::default() }
}

fn addr() -> EntityAddr {
    EntityAddr::v2(SocketAddr::from(([10, 0, 0, 1], 3300)))
}

/// An input as a list of operations: what the peer sends, and what happens besides.
struct Script<'a>(&'a [u8]);

enum Op {
    /// Bytes as they are.
    Raw(Bytes),
    /// A control frame with right checksums and any payload.
    Control(Tag, Bytes),
    /// A message with right checksums, a number and an acknowledgement near what is due, and any parts.
    Message {
        seq: u8,
        ack: u8,
        front: Bytes,
    },
    /// A handshake as it should be.
    Shake,
    Connected,
    Disconnected,
    Time(Duration),
    Send,
    Close,
}

impl Script<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn bytes(&mut self) -> Option<Bytes> {
        let len = usize::from(self.byte()?).min(self.0.len());
        let (taken, rest) = self.0.split_at(len);
        self.0 = rest;
        Some(Bytes::copy_from_slice(taken))
    }

    fn next(&mut self) -> Option<Op> {
        Some(match self.byte()? % 12 {
            0 => Op::Raw(self.bytes()?),
            1..=3 => {
                let (tag, _) = Tag::ALL[usize::from(self.byte()?) % Tag::ALL.len()];
                Op::Control(tag, self.bytes()?)
            }
            4 | 5 => Op::Message { seq: self.byte()?, ack: self.byte()?, front: self.bytes()? },
            6 => Op::Shake,
            7 => Op::Connected,
            8 => Op::Disconnected,
            9 => Op::Time(Duration::from_secs(self.byte()?.into())),
            10 => Op::Send,
            _ => Op::Close,
        })
    }
}

fn message(seq: u8, ack: u8, front: Bytes) -> Bytes {
    let mut w = Writer::new(Features::PACIFIC);
    w.u64(seq.into());
    w.zeros(20);
    w.u64(ack.into());
    w.zeros(5);
    let mut bytes = BytesMut::new();
    encode_frame(Tag::Message, [w.into_bytes(), front, Bytes::new(), Bytes::new()], |part| {
        bytes.extend_from_slice(&part);
    });
    bytes.freeze()
}

/// A machine, what it has in front of it, and whether it has said that it is finished.
struct Bench {
    link: Link,
    inbound: BytesMut,
    sent: BytesMut,
    now: Instant,
    finished: bool,
}

impl Bench {
    fn new(link: Link, now: Instant) -> Self {
        let mut bench = Self { link, inbound: BytesMut::new(), sent: BytesMut::new(), now, finished: false };
        bench.drain();
        bench
    }

    fn drain(&mut self) {
        let mut closed = false;
        while let Some(output) = self.link.poll_output() {
            assert!(!self.finished, "something follows the end: {output:?}");
            match output {
                StreamOutput::Transmit(bytes) => self.sent.extend_from_slice(&bytes),
                StreamOutput::Event(Event::Closed(_)) => closed = true,
                StreamOutput::Finished => {
                    assert!(closed, "the end comes with its reason");
                    self.finished = true;
                }
                StreamOutput::Event(_) => assert!(!closed, "an event after the last one"),
                StreamOutput::Dial | StreamOutput::Disconnect => self.inbound.clear(),
            }
        }
        assert!(self.link.wanted() <= WANTED_MAX);
    }

    fn receive(&mut self, bytes: &[u8]) {
        self.inbound.extend_from_slice(bytes);
        self.link.handle_bytes(self.now, &mut self.inbound);
        self.drain();
        if self.inbound.len() > 2 * WANTED_MAX {
            self.inbound.clear();
        }
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Raw(bytes) => self.receive(&bytes),
            Op::Control(tag, payload) => self.receive(&encode_control(tag, |w| w.raw(&payload))),
            Op::Message { seq, ack, front } => self.receive(&message(seq, ack, front)),
            Op::Connected => self.link.handle_connected(self.now),
            Op::Disconnected => {
                self.inbound.clear();
                self.link.handle_disconnected(self.now);
            }
            Op::Time(by) => {
                self.now = self.now + by;
                self.link.handle_timeout(self.now);
            }
            Op::Send if self.link.accepts_commands() => {
                self.link.handle_command(self.now, Command::Send(Message::default()));
            }
            // A handshake is whoever drives this bench's business.
            Op::Send | Op::Shake => {}
            Op::Close => self.link.handle_close(self.now),
        }
        self.drain();
    }

    /// The server's side of a handshake, as it should be, on a new connection.
    fn shake(&mut self) {
        self.sent.clear();
        self.inbound.clear();
        self.apply(Op::Connected);
        let mut server = Handshake::accepting(Identity::Monitor, addr(), limits());
        for _ in 0..10 {
            while let Some(bytes) = server.poll_transmit() {
                self.receive(&bytes);
            }
            let mut sent = self.sent.split();
            while let Ok(Some(event)) = server.handle_bytes(&mut sent) {
                if let HandshakeEvent::Auth(_) = event {
                    let done = AuthFrame::Done { global_id: 5, mode: Mode::CRC, payload: Bytes::new() };
                    let zeros = Signatures { ours: [0; 32], theirs: [0; 32] };
                    let _ = server.send_auth(&done).and_then(|()| server.sign(zeros));
                }
            }
        }
    }
}

/// A link that dials a server of any kind.
pub(crate) fn client(data: &[u8]) {
    let mut script = Script(data);
    let monitor = script.byte().is_some_and(|byte| byte % 2 == 0);
    let config =
        if monitor { DialConfig::monitor("x", addr(), 1) } else { DialConfig::client("x", addr(), 1) };
    let now = Instant::from_nanos(1);
    let config = DialConfig { limits: limits(), ..config };
    let mut bench = Bench::new(Link::dial(config, Box::new(SplitMix::new(1)), now), now);
    while let Some(op) = script.next() {
        match op {
            Op::Shake => bench.shake(),
            op => bench.apply(op),
        }
    }
}

/// An acceptor, and clients of any kind that come to it one after another.
struct Server {
    acceptor: Acceptor,
    incoming: Option<(Box<Incoming>, BytesMut)>,
    sessions: BTreeMap<SessionKey, Bench>,
    current: Option<SessionKey>,
    now: Instant,
}

impl Server {
    fn connect(&mut self) {
        self.current = None;
        let incoming = self.acceptor.incoming(self.now, SocketAddr::from(([10, 0, 0, 2], 1)));
        self.incoming = Some((Box::new(incoming), BytesMut::new()));
    }

    fn receive(&mut self, bytes: &[u8]) {
        if let Some(bench) = self.current.and_then(|key| self.sessions.get_mut(&key)) {
            bench.now = self.now;
            return bench.receive(bytes);
        }
        let Some((mut incoming, mut inbound)) = self.incoming.take() else { return };
        inbound.extend_from_slice(bytes);
        while let Ok(arrival) = incoming.handle_bytes(&mut inbound) {
            while incoming.poll_transmit().is_some() {}
            assert!(incoming.wanted() <= WANTED_MAX);
            let Some(arrival) = arrival else {
                self.incoming = Some((incoming, inbound));
                return;
            };
            match self.acceptor.decide(self.now, incoming, arrival) {
                Ok(Verdict::Stay(same)) => incoming = same,
                Ok(Verdict::Start { key, link, replaces }) => {
                    if let Some(mut old) = replaces.and_then(|old| self.sessions.remove(&old)) {
                        old.link.handle_command(old.now.max(self.now), Command::Supersede);
                        old.drain();
                        assert!(old.finished);
                    }
                    self.sessions.insert(key, Bench::new(*link, self.now));
                    self.current = Some(key);
                    return self.receive(&inbound);
                }
                Ok(Verdict::Hand { key, command }) => {
                    if let Some(bench) = self.sessions.get_mut(&key) {
                        bench.now = self.now;
                        bench.inbound.clear();
                        bench.link.handle_command(self.now, command);
                        bench.drain();
                    }
                    self.acceptor.settled(key);
                    self.current = Some(key);
                    return self.receive(&inbound);
                }
                Ok(Verdict::Close(_)) | Err(_) => return,
            }
        }
    }

    /// A client's side of a handshake, as it should be, on a new connection.
    fn shake(&mut self) {
        self.connect();
        self.receive(&Banner::OURS.to_bytes());
        let mut client = Handshake::dialling(Identity::Monitor, addr(), limits());
        let server = [
            Banner::OURS.to_bytes(),
            encode_control(Tag::Hello, |w| {
                w.u8(1);
                cuttlebone_wire::Encode::encode(&addr(), w);
            }),
        ];
        for bytes in server {
            let _ = client.handle_bytes(&mut BytesMut::from(&bytes[..]));
        }
        let payload = Bytes::from_static(b"\x01\x01\0\0\0\x01\0\0\0x\0\0\0\0\0\0\0\0");
        let method = cuttlebone_msgr::AuthMethod(1);
        let _ = client.send_auth(&AuthFrame::Request { method, modes: vec![Mode::CRC], payload });
        client.poll_transmit();
        while let Some(bytes) = client.poll_transmit() {
            self.receive(&bytes);
        }
        self.receive(&encode_control(Tag::AuthSignature, |w| w.zeros(32)));
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Raw(bytes) => self.receive(&bytes),
            Op::Control(tag, payload) => self.receive(&encode_control(tag, |w| w.raw(&payload))),
            Op::Message { seq, ack, front } => self.receive(&message(seq, ack, front)),
            Op::Shake => self.shake(),
            Op::Connected => self.connect(),
            op => {
                if let Op::Time(by) = op {
                    self.now = self.now + by;
                }
                if let Some(bench) = self.current.and_then(|key| self.sessions.get_mut(&key)) {
                    bench.apply(op);
                    bench.now = bench.now.max(self.now);
                    self.now = bench.now;
                }
            }
        }
        let acceptor = &mut self.acceptor;
        self.sessions.retain(|key, bench| {
            if bench.finished {
                acceptor.ended(*key);
            }
            !bench.finished
        });
    }
}

/// A listener that is dialled by anybody.
pub(crate) fn server(data: &[u8]) {
    let config = AcceptConfig { limits: limits(), sessions_max: 4, ..AcceptConfig::monitor(addr()) };
    let mut server = Server {
        acceptor: Acceptor::new(config, Box::new(SplitMix::new(1))),
        incoming: None,
        sessions: BTreeMap::new(),
        current: None,
        now: Instant::from_nanos(1),
    };
    let mut script = Script(data);
    while let Some(op) = script.next() {
        server.apply(op);
        assert!(server.acceptor.sessions() <= 4);
    }
}
