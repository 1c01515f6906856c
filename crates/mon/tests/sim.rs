//! A session and a responder with a bad connection between them: every request ends exactly once.

use core::time::Duration;
use std::collections::BTreeMap;
use std::env;

use cuttlebone_machine::{Entropy, Instant, Machine, SplitMix};
use cuttlebone_mon::{
    CommandAck, EncodedMonMap, Event, MonInfo, MonMap, PaxosWindow, Request, Responder, ResponderConfig,
    ResponderOutput, Session, SessionConfig, SessionInput, SessionOutput, Subscription, Tid,
};
use cuttlebone_wire::{EntityAddr, Features, Message, Uuid};

const SEEDS: u64 = 500;
const STEPS: u32 = 400;

struct World {
    now: Instant,
    chance: SplitMix,
    session: Session,
    responder: Responder,
    /// Messages on their way; a lost connection empties both.
    there: Vec<Message>,
    back: Vec<Message>,
    online: bool,
    asked: Vec<Tid>,
    ended: BTreeMap<Tid, &'static str>,
    maps: u32,
}

impl World {
    fn new(seed: u64) -> Self {
        let addr: EntityAddr = "v2:10.0.0.9:3300".parse().expect("address");
        let mut map = MonMap::default();
        map.fsid = Uuid([7; 16]);
        map.epoch = 3;
        map.mons.insert("a".into(), MonInfo::new("a", addr.into()));
        let responder = Responder::new(ResponderConfig {
            fsid: Uuid([7; 16]),
            name: "a".into(),
            map: EncodedMonMap::try_from(&map).expect("a map"),
            window: PaxosWindow { first: 2, last: 3 },
            config: BTreeMap::new(),
            versions: [("osdmap".into(), (1, 9))].into(),
        });
        Self {
            now: Instant::ZERO,
            chance: SplitMix::new(seed),
            session: Session::new(SessionConfig { requests_max: 20, ..SessionConfig::default() }),
            responder,
            there: Vec::new(),
            back: Vec::new(),
            online: false,
            asked: Vec::new(),
            ended: BTreeMap::new(),
            maps: 0,
        }
    }

    fn step(&mut self) {
        match self.chance.below(12) {
            0 if self.online => self.set_online(false),
            0 | 1 if !self.online => self.set_online(true),
            2..=4 => self.ask(),
            5 => {
                let time = Duration::from_millis(self.chance.below(8000));
                self.now = self.now + time;
                self.session.handle_timeout(self.now);
            }
            _ => self.deliver(),
        }
        self.drain();
    }

    fn ask(&mut self) {
        let asked = match self.chance.below(4) {
            0 => self.session.get_map(self.now),
            1 => self.session.get_version(self.now, "osdmap"),
            2 => self.session.get_version(self.now, "unheard-of"),
            _ => self.session.command(self.now, "{}", ""),
        };
        self.asked.extend(asked);
    }

    fn deliver(&mut self) {
        if self.chance.below(2) == 0 && !self.there.is_empty() {
            let message = self.there.remove(0);
            self.responder.handle(self.now, Request { features: Features::PACIFIC, message });
        } else if !self.back.is_empty() {
            let message = self.back.remove(0);
            self.session.handle(self.now, SessionInput::Message(message));
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.responder.poll_output() {
            self.back.push(match output {
                ResponderOutput::Send(message) => message,
                ResponderOutput::Run(_, pending) => Responder::ack(pending, &CommandAck::default()),
            });
        }
        while let Some(output) = self.session.poll_output() {
            match output {
                SessionOutput::Send(message) => {
                    assert!(self.online, "sent without a connection");
                    self.there.push(message);
                }
                SessionOutput::Event(event) => self.on_event(event),
            }
        }
    }

    fn on_event(&mut self, event: Event) {
        let (tid, how) = match event {
            Event::Map(tid, _) => {
                self.maps += 1;
                let Some(tid) = tid else { return };
                (tid, "map")
            }
            Event::Version(tid, _) => (tid, "version"),
            Event::Command(tid, _) => (tid, "command"),
            Event::TimedOut(tid) => (tid, "timed out"),
            other => panic!("unexpected {other:?}"),
        };
        assert!(self.asked.contains(&tid), "{tid:?} was never asked");
        assert_eq!(self.ended.insert(tid, how), None, "{tid:?} ended twice");
    }

    fn set_online(&mut self, online: bool) {
        self.online = online;
        self.there.clear();
        self.back.clear();
        let input =
            if online { SessionInput::Connected(Features::PACIFIC) } else { SessionInput::Disconnected };
        self.session.handle(self.now, input);
    }

    fn heal(&mut self) {
        if !self.online {
            self.set_online(true);
        }
        self.drain();
        while !self.there.is_empty() || !self.back.is_empty() {
            self.deliver();
            self.drain();
        }
        // What has no answer is over when its time is.
        while let Some(deadline) = self.session.poll_timeout() {
            self.now = deadline;
            self.session.handle_timeout(deadline);
            self.drain();
        }
    }
}

#[test]
fn every_request_ends_exactly_once_whatever_the_connection_does() {
    let (first, last) = match env::var("CUTTLEBONE_SEED").map(|seed| seed.parse::<u64>()) {
        Ok(seed) => {
            let seed = seed.expect("CUTTLEBONE_SEED is a number");
            (seed, seed + 1)
        }
        Err(_) => (0, SEEDS),
    };
    let mut answered = 0;
    for seed in first..last {
        println!("replay with CUTTLEBONE_SEED={seed} cargo nextest run -p cuttlebone-mon --test sim");
        let mut world = World::new(seed);
        world.session.subscribe("monmap", Subscription::default()).expect("room");
        for _ in 0..STEPS {
            world.step();
        }
        world.heal();
        assert_eq!(world.ended.len(), world.asked.len(), "seed {seed}");
        assert_eq!(world.session.unanswered(), 0);
        assert!(world.maps > 0, "the subscription was served");
        answered += world.ended.values().filter(|how| **how == "command").count();
    }
    assert!(answered > 0, "commands were answered");
}
