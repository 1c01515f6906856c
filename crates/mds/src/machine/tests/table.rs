//! Every state of a session with everything that can happen to it, as one text.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write as _;

use cuttlebone_wire::Body;

use super::world::*;
use crate::*;

/// A world whose session with rank 0 is in the state with this name, with one request that waits in it.
fn in_state(state: &str) -> World {
    let mut world = World::new(Config::default());
    if state == "closed" {
        return world;
    }
    world.ask(Call::LookupIno { ino: Ino::ROOT, want: CapBits::STAT });
    if state != "wanted" {
        world.ready(RANK);
    }
    if state == "rejected" {
        world.session(RANK, SessionOp::Reject, 0);
    } else if !["wanted", "opening"].contains(&state) {
        world.accept(RANK);
    }
    match state {
        "down" => world.rank(RANK, MdsState::REPLAY, 2),
        "reconnecting" => {
            world.rank(RANK, MdsState::RECONNECT, 2);
            world.ready(RANK);
        }
        "closing" => {
            world.answer(RANK, Tid(1), -2, true, &Trace::default());
            world.client.close(world.now);
            world.drain();
        }
        _ => {}
    }
    assert_eq!(world.client.session_state(RANK), state);
    world.sent(RANK);
    world.events();
    world.dialled.clear();
    world.dropped.clear();
    world
}

const STATES: [&str; 8] =
    ["closed", "wanted", "opening", "open", "down", "reconnecting", "closing", "rejected"];

type Happening = (&'static str, fn(&mut World));

const HAPPENINGS: [Happening; 17] = [
    ("link ready", |world| from_link(world, LinkNews::Ready(cuttlebone_wire::Features::PACIFIC))),
    ("link reset", |world| from_link(world, LinkNews::Reset)),
    ("link closed", |world| from_link(world, LinkNews::Closed)),
    ("OPEN", |world| {
        let mut open = ClientSession::new(SessionOp::Open, 3);
        open.features = cuttlebone_wire::FeatureSet::from_bits(0..=18);
        from_session(world, &open);
    }),
    ("OPEN of an old server", |world| from_session(world, &ClientSession::new(SessionOp::Open, 0))),
    ("CLOSE", |world| from_session(world, &ClientSession::new(SessionOp::Close, 0))),
    ("REJECT", |world| from_session(world, &ClientSession::new(SessionOp::Reject, 0))),
    ("REJECT, blocklisted", |world| {
        let mut reject = ClientSession::new(SessionOp::Reject, 0);
        reject.flags = ClientSession::BLOCKLISTED;
        from_session(world, &reject);
    }),
    ("RENEWCAPS", |world| from_session(world, &ClientSession::new(SessionOp::RenewCaps, 0))),
    ("STALE", |world| from_session(world, &ClientSession::new(SessionOp::Stale, 0))),
    ("FLUSHMSG", |world| from_session(world, &ClientSession::new(SessionOp::FlushMsg, 5))),
    ("FORCE_RO", |world| from_session(world, &ClientSession::new(SessionOp::ForceReadOnly, 0))),
    ("map: nobody", |world| world.fail(RANK)),
    ("map: replay", |world| world.rank(RANK, MdsState::REPLAY, 3)),
    ("map: reconnect", |world| world.rank(RANK, MdsState::RECONNECT, 3)),
    ("map: active", |world| world.rank(RANK, MdsState::ACTIVE, 3)),
    ("map: stopped", |world| {
        world.map.ranks.clear();
        world.fail(RANK);
    }),
];

fn from_link(world: &mut World, news: LinkNews) {
    if world.links.contains_key(&RANK) {
        world.link(RANK, news);
    }
}

fn from_session(world: &mut World, session: &ClientSession) {
    let message = session.message(cuttlebone_wire::Features::PACIFIC, 0);
    from_link(world, LinkNews::Message(message));
}

/// What came of it, in a few words.
fn outcome(world: &mut World) -> String {
    let mut parts: Vec<String> = Vec::new();
    for event in world.events() {
        parts.push(match event {
            Event::Session(_, SessionNews::Lost(cause)) => format!("lost {cause:?}"),
            Event::Session(_, SessionNews::Reconnected { .. }) => "reconnected".into(),
            Event::Session(_, SessionNews::Rejected(_)) => "rejected".into(),
            Event::Session(_, news) => format!("{news:?}").to_lowercase(),
            Event::Answer { result, .. } => match result {
                Ok(_) => "answer".into(),
                Err(error) => format!("answer: {error}"),
            },
            Event::Closed { clean } => format!("the end, {}", if clean { "clean" } else { "not clean" }),
            other => format!("{other:?}"),
        });
    }
    parts.extend(world.dropped.drain(..).map(|_| "drop".to_string()));
    parts.extend(world.dialled.drain(..).map(|_| "dial".to_string()));
    for message in world.sent(RANK) {
        parts.push(match message.kind {
            kind if kind == ClientSession::KIND => {
                format!(">{}", ClientSession::decode(&message).unwrap().0.op)
            }
            kind if kind == ClientRequest::KIND => ">request".into(),
            kind if kind == ClientReconnect::KIND => ">reconnect".into(),
            kind => format!(">{kind}"),
        });
    }
    let state = world.client.session_state(RANK);
    if parts.is_empty() { state.into() } else { format!("{state}; {}", parts.join(", ")) }
}

#[test]
fn every_state_answers_everything_as_reviewed() {
    let mut text = String::new();
    for state in STATES {
        writeln!(text, "{state}").unwrap();
        for (what, happens) in HAPPENINGS {
            let mut world = in_state(state);
            happens(&mut world);
            writeln!(text, "  {what:22} -> {}", outcome(&mut world)).unwrap();
        }
    }
    let reviewed = include_str!("session-states.txt");
    assert!(text == reviewed, "the table has changed; if it is right, it is:\n{text}");
}
