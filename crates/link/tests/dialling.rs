//! A link that dials a server which says what the test wants.

use core::time::Duration;

use bytes::{Bytes, BytesMut};
use cuttlebone_link::{Command, DialConfig, Error, Event, Limits, Link, Start};
use cuttlebone_machine::{Instant, SplitMix, StreamMachine, StreamOutput};
use cuttlebone_msgr::{
    AuthFrame, Control, FrameDecoder, Handshake, HandshakeEvent, Identity, MessageHeader, Mode, Opening,
    OpeningReply, ServerIdent, Signatures, Tag, encode_frame,
};
use cuttlebone_wire::{Encode, EntityAddr, Features, Message, MessageType, WallTime};

fn addr() -> EntityAddr {
    "v2:10.0.0.1:3300/0".parse().expect("an address")
}

/// A link, and the other end of its connection.
struct Pair {
    link: Link,
    now: Instant,
    to_link: BytesMut,
    from_link: BytesMut,
    decoder: FrameDecoder,
    outputs: Vec<StreamOutput<Event>>,
}

impl Pair {
    fn dial(config: DialConfig) -> Self {
        let now = Instant::from_nanos(1);
        let mut pair = Self {
            link: Link::dial(config, Box::new(SplitMix::new(1)), now),
            now,
            to_link: BytesMut::new(),
            from_link: BytesMut::new(),
            decoder: FrameDecoder::new(Limits::default()),
            outputs: Vec::new(),
        };
        pair.drain();
        pair
    }

    fn drain(&mut self) {
        while let Some(output) = self.link.poll_output() {
            match output {
                StreamOutput::Transmit(bytes) => self.from_link.extend_from_slice(&bytes),
                other => self.outputs.push(other),
            }
        }
    }

    fn take_outputs(&mut self) -> Vec<StreamOutput<Event>> {
        core::mem::take(&mut self.outputs)
    }

    fn send(&mut self, bytes: &Bytes) {
        self.to_link.extend_from_slice(bytes);
        self.link.handle_bytes(self.now, &mut self.to_link);
        self.drain();
    }

    fn next_control(&mut self) -> Control {
        let frame = self.decoder.decode(&mut self.from_link).expect("a good frame").expect("a frame");
        Control::read(&frame).expect("a good payload")
    }

    fn next_opening(&mut self) -> Opening {
        match self.next_control() {
            Control::Opening(opening) => opening,
            other => panic!("expected an opening, got {other:?}"),
        }
    }

    /// From the asked-for connection to the opening.
    fn shake(&mut self) -> Opening {
        assert_eq!(self.take_outputs(), [StreamOutput::Dial]);
        self.from_link.clear();
        self.to_link.clear();
        self.link.handle_connected(self.now);
        self.drain();
        let mut server = Handshake::accepting(Identity::Monitor, addr(), Limits::default());
        let mut signed = false;
        while !signed {
            while let Some(bytes) = server.poll_transmit() {
                self.send(&bytes);
            }
            match server.handle_bytes(&mut self.from_link).expect("a good handshake") {
                Some(HandshakeEvent::Auth(_)) => {
                    let done = AuthFrame::Done { global_id: 5, mode: Mode::CRC, payload: Bytes::new() };
                    server.send_auth(&done).expect("our turn");
                    server.sign(Signatures { ours: [0; 32], theirs: [0; 32] }).expect("our turn");
                }
                Some(HandshakeEvent::Signed) => signed = true,
                Some(HandshakeEvent::Hello(_)) | None => {}
            }
        }
        while let Some(bytes) = server.poll_transmit() {
            self.send(&bytes);
        }
        self.decoder = server.into_decoder();
        self.decoder.allow_messages();
        self.next_opening()
    }

    fn reply(&mut self, reply: &OpeningReply) {
        self.send(&reply.to_bytes());
    }

    fn grant(&mut self, cookie: u64) {
        self.reply(&OpeningReply::Granted(ServerIdent {
            addrs: addr().into(),
            gid: 0,
            global_seq: 1,
            supported: Features::PACIFIC,
            required: Features::ADDR2,
            lossy: cookie == 0,
            cookie,
        }));
    }

    /// An open lossless session.
    fn open() -> Self {
        let mut pair = Self::dial(DialConfig::monitor("x", addr(), 7));
        assert!(matches!(pair.shake(), Opening::New(_)));
        pair.grant(42);
        assert_eq!(pair.start(), Start::Fresh);
        pair
    }

    fn start(&mut self) -> Start {
        match self.take_outputs().as_slice() {
            [StreamOutput::Event(Event::Ready(ready))] => ready.start,
            other => panic!("expected Ready, got {other:?}"),
        }
    }

    /// The connection is lost, and the link asks for the next one.
    fn lose(&mut self) {
        self.link.handle_disconnected(self.now);
        self.drain();
        assert!(matches!(
            self.take_outputs().as_slice(),
            [StreamOutput::Disconnect, StreamOutput::Event(Event::Lost(Error::Disconnected { .. }))]
        ));
        self.wait();
    }

    fn wait(&mut self) {
        self.now = self.link.poll_timeout().expect("a timer runs").max(self.now);
        self.link.handle_timeout(self.now);
        self.drain();
    }

    fn closed(&mut self) -> Result<(), Error> {
        match self.take_outputs().as_slice() {
            [StreamOutput::Event(Event::Closed(how)), StreamOutput::Finished] => how.clone(),
            other => panic!("expected the end, got {other:?}"),
        }
    }

    fn resumed(&mut self) -> (u64, u64) {
        match self.next_opening() {
            Opening::Resumed(reconnect) => (reconnect.connect_seq, reconnect.global_seq),
            Opening::New(ident) => panic!("a new session {ident:?}"),
        }
    }
}

#[test]
fn a_server_may_ask_for_higher_counts_and_gets_them_on_the_same_connection() {
    let mut pair = Pair::open();
    pair.lose();
    assert!(matches!(pair.shake(), Opening::Resumed(_)));
    pair.reply(&OpeningReply::RetryGlobal(100));
    assert_eq!(pair.resumed(), (1, 101));
    pair.reply(&OpeningReply::Retry(20));
    assert_eq!(pair.resumed(), (21, 101));
    pair.reply(&OpeningReply::Resumed(0));
    assert_eq!(pair.start(), Start::Resumed);
}

#[test]
fn a_full_reset_is_told_and_the_new_session_opens_on_the_same_connection() {
    let mut pair = Pair::open();
    pair.link.handle_command(pair.now, Command::Send(Message::default()));
    pair.drain();
    pair.lose();
    pair.shake();
    pair.reply(&OpeningReply::Reset { full: true });
    assert!(matches!(pair.next_opening(), Opening::New(_)));
    assert_eq!(pair.take_outputs(), [], "it is told when somebody has shown to be the peer");
    pair.grant(43);
    let [StreamOutput::Event(Event::Reset), StreamOutput::Event(Event::Ready(ready))] =
        &pair.take_outputs()[..]
    else {
        panic!("a reset, and a new session")
    };
    assert_eq!(ready.start, Start::Fresh);
    assert!(pair.from_link.is_empty(), "what was under way is gone");
}

/// A daemon that was started anew at the port of its predecessor knows no session, and hangs up when it sees whom we
/// are looking for. Source: `ceph/ceph:src/msg/async/ProtocolV2.cc`, `handle_reconnect`, `handle_client_ident`.
#[test]
fn a_reset_by_another_process_in_the_place_of_the_peer_costs_nothing() {
    let mut pair = Pair::open();
    pair.link.handle_command(pair.now, Command::Send(Message { tid: 9, ..Message::default() }));
    pair.drain();
    pair.lose();
    pair.shake();
    pair.reply(&OpeningReply::Reset { full: true });
    assert!(matches!(pair.next_opening(), Opening::New(_)));
    pair.link.handle_disconnected(pair.now);
    pair.drain();
    assert_eq!(pair.take_outputs(), [StreamOutput::Disconnect], "nobody is told anything");
    pair.wait();
    assert!(matches!(pair.shake(), Opening::Resumed(_)));
    pair.reply(&OpeningReply::Resumed(0));
    assert_eq!(pair.start(), Start::Resumed);
    let frame = pair.decoder.decode(&mut pair.from_link).expect("a good frame").expect("the message again");
    assert_eq!(frame.tag, Tag::Message);
}

#[test]
fn a_reset_that_is_not_full_keeps_what_was_under_way() {
    let mut pair = Pair::open();
    pair.link.handle_command(pair.now, Command::Send(Message { tid: 9, ..Message::default() }));
    pair.drain();
    pair.lose();
    pair.shake();
    pair.reply(&OpeningReply::Reset { full: false });
    assert!(matches!(pair.next_opening(), Opening::New(_)));
    pair.grant(43);
    assert_eq!(pair.start(), Start::Fresh);
    let frame = pair.decoder.decode(&mut pair.from_link).expect("a good frame").expect("the message again");
    assert_eq!(frame.tag, Tag::Message);
}

#[test]
fn a_server_that_says_wait_is_dialled_again_after_the_longest_pause() {
    let mut pair = Pair::dial(DialConfig::monitor("x", addr(), 7));
    pair.shake();
    pair.reply(&OpeningReply::Wait);
    assert_eq!(pair.take_outputs(), [StreamOutput::Disconnect]);
    let before = pair.now;
    pair.wait();
    assert_eq!(pair.now.since(before), Duration::from_secs(15));
    pair.shake();
}

#[test]
fn what_cannot_work_ends_the_link_at_once() {
    let mut pair = Pair::dial(DialConfig::client("admin", addr(), 7));
    pair.shake();
    pair.reply(&OpeningReply::MissingFeatures(Features(1 << 33)));
    let error = cuttlebone_msgr::Error::MissingFeatures(Features(1 << 33));
    assert_eq!(pair.closed(), Err(Error::Messenger(error)));
}

#[test]
fn damage_is_survived_by_a_lossless_session_and_nonsense_is_not() {
    let mut pair = Pair::open();
    let mut damaged = Control::ack(0).to_vec();
    damaged[35] ^= 1;
    pair.send(&damaged.into());
    let lost = pair.take_outputs();
    assert!(matches!(
        lost[..],
        [StreamOutput::Disconnect, StreamOutput::Event(Event::Lost(Error::Messenger(_)))]
    ));
    let mut pair = Pair::open();
    pair.send(&Control::ack(1));
    let error = cuttlebone_msgr::Error::AckedUnsent { acked: 1, sent: 0 };
    assert_eq!(pair.closed(), Err(Error::Messenger(error)));
}

#[test]
fn keepalives_are_answered_and_sent_and_silence_is_a_loss() {
    let mut pair = Pair::open();
    let stamp = WallTime { secs: 3, nanos: 4 };
    pair.send(&Control::keepalive(stamp));
    assert_eq!(pair.next_control(), Control::KeepaliveAck(stamp));
    let start = pair.now;
    while pair.outputs.is_empty() {
        pair.wait();
    }
    assert_eq!(pair.now.since(start), Duration::from_secs(30));
    assert!(matches!(pair.next_control(), Control::Keepalive(_)));
    assert!(matches!(pair.outputs[1], StreamOutput::Event(Event::Lost(Error::TimedOut { .. }))));
}

#[test]
fn a_handshake_that_does_not_end_is_given_up_after_its_time() {
    let mut pair = Pair::dial(DialConfig::client("admin", addr(), 7));
    pair.link.handle_connected(pair.now);
    pair.drain();
    let start = pair.now;
    pair.take_outputs();
    pair.wait();
    assert_eq!(pair.now.since(start), Duration::from_secs(10));
    assert_eq!(pair.take_outputs(), [StreamOutput::Disconnect]);
}

#[test]
fn a_peer_that_does_not_acknowledge_slows_its_user_down() {
    let limits = Limits { queue_messages_max: 3, ..Limits::default() };
    let mut pair = Pair::dial(DialConfig { limits, ..DialConfig::monitor("x", addr(), 7) });
    pair.shake();
    pair.grant(42);
    pair.start();
    for _ in 0..3 {
        assert!(pair.link.accepts_commands());
        pair.link.handle_command(pair.now, Command::Send(Message::default()));
        pair.drain();
    }
    assert!(!pair.link.accepts_commands());
    pair.send(&Control::ack(1));
    assert!(pair.link.accepts_commands());
}

#[test]
fn a_close_waits_for_the_last_acknowledgement_and_not_for_ever() {
    let mut pair = Pair::open();
    pair.link.handle_command(pair.now, Command::Send(Message::default()));
    pair.link.handle_close(pair.now);
    pair.drain();
    assert_eq!(pair.take_outputs(), []);
    pair.send(&Control::ack(1));
    assert_eq!(pair.closed(), Ok(()));

    let mut pair = Pair::open();
    pair.link.handle_command(pair.now, Command::Send(Message::default()));
    pair.link.handle_close(pair.now);
    pair.drain();
    while pair.outputs.is_empty() {
        pair.wait();
    }
    assert!(matches!(pair.closed(), Err(Error::TimedOut { .. })));
}

#[test]
fn every_message_of_one_read_is_acknowledged_by_one_frame() {
    let mut pair = Pair::open();
    let mut bytes = Vec::new();
    for seq in 1..=5 {
        let message = Message { kind: MessageType(4), ..Message::default() };
        let header = MessageHeader::of(&message, seq, 0).to_bytes(Features::PACIFIC);
        encode_frame(Tag::Message, [header, Bytes::new(), Bytes::new(), Bytes::new()], |part| {
            bytes.extend_from_slice(&part);
        });
    }
    pair.send(&bytes.into());
    assert_eq!(pair.take_outputs().len(), 5);
    assert_eq!(pair.next_control(), Control::Ack(5));
    assert!(pair.from_link.is_empty());
}
