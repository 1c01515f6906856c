//! A requester and its providers face to face: checksums, resumption, and lies.

#![expect(clippy::unwrap_used, reason = "test code, outside of test functions too")]

mod model;

use std::collections::VecDeque;

use cuttlebone_machine::{Instant, Machine, SplitMix};
use cuttlebone_monsync::v1::{
    Checksums, Flags, Message, Op, Provider, ProviderConfig, ProviderInput, ProviderOutput, Requester,
    RequesterConfig, RequesterInput, RequesterOutput,
};
use cuttlebone_monsync::{Budget, ChunkError, Error, StoreKey, Version};
use cuttlebone_wire::{
    Encode, EntityAddr, EntityInst, EntityNum, EntityType, Features, Op as StoreOp, Transaction,
};
use model::{Source, Status, Target};

fn inst(num: i64) -> EntityInst {
    EntityInst { name: EntityNum::new(EntityType::MON, num), addr: EntityAddr::default() }
}

/// One requester, two providers that are also leaders, and what happens to each chunk.
struct Scene {
    sources: [Source; 2],
    checksums: Checksums,
    /// After so many chunks the first provider falls silent.
    silent_after: usize,
    /// Historic providers name the version on the last chunk only.
    historic: bool,
    /// Chunks sent by each.
    chunks: [usize; 2],
    target: Target,
}

impl Scene {
    fn new(sources: [Source; 2]) -> Self {
        Self {
            sources,
            checksums: Checksums::Sent,
            silent_after: usize::MAX,
            historic: false,
            chunks: [0; 2],
            target: Target::default(),
        }
    }

    fn run(&mut self, mut lie: impl FnMut(usize, &mut Message)) -> Result<Version, Error> {
        let config = ProviderConfig {
            budget: Budget { bytes: 300, keys: 4 },
            checksums: self.checksums,
            ..ProviderConfig::default()
        };
        let mut providers = [Provider::new(config.clone()), Provider::new(config)];
        let mut now = Instant::ZERO;
        let others = vec![inst(0), inst(1)];
        let mut requester =
            Requester::new(now, RequesterConfig::default(), inst(0), others, SplitMix::new(1));
        let mut inputs = VecDeque::new();
        for _ in 0..5000 {
            while let Some(output) = requester.poll_output() {
                match output {
                    RequesterOutput::Send { to, message } => {
                        let reply = match message.op {
                            Op::Start => Some(Message::new(Op::StartReply)),
                            Op::Heartbeat => Some(Message::new(Op::HeartbeatReply)),
                            Op::Finish => Some(Message::new(Op::FinishReply)),
                            _ => None,
                        };
                        let from = to.clone();
                        inputs.extend(reply.map(|message| RequesterInput::Message { from, message }));
                        let provider = &mut providers[usize::try_from(to.name.num).unwrap()];
                        provider.handle(now, ProviderInput::Message { from: inst(9), message });
                    }
                    RequesterOutput::Apply { op, effect } => {
                        self.target.apply(&effect);
                        inputs.push_back(RequesterInput::Applied(op));
                    }
                    RequesterOutput::Provider(_) => {}
                    RequesterOutput::Done(version) => return Ok(version),
                    RequesterOutput::Failed(error) => {
                        assert!(!matches!(self.target.status, Status::Complete(_)));
                        return Err(error);
                    }
                }
            }
            for (index, provider) in providers.iter_mut().enumerate() {
                while let Some(output) = provider.poll_output() {
                    match output {
                        ProviderOutput::Store(ask) => {
                            if let Some(answer) = self.sources[index].ask(ask) {
                                provider.handle(now, ProviderInput::Store(answer));
                            }
                        }
                        ProviderOutput::Send { mut message, .. } => {
                            if index == 0 && self.chunks[0] >= self.silent_after {
                                continue;
                            }
                            if self.historic && !message.flags.contains(Flags::LAST) {
                                message.version = Version(0);
                            }
                            lie(self.chunks[0] + self.chunks[1], &mut message);
                            self.chunks[index] += 1;
                            let from = inst(i64::try_from(index).unwrap());
                            inputs.push_back(RequesterInput::Message { from, message });
                        }
                    }
                }
            }
            if let Some(input) = inputs.pop_front() {
                requester.handle(now, input);
            } else {
                now = requester.poll_timeout().unwrap();
                requester.handle_timeout(now);
            }
        }
        panic!("no end: {}", requester.state_name());
    }
}

/// Two stores with one history, the second so many versions behind.
fn sources(behind: u64) -> [Source; 2] {
    let mut chance = SplitMix::new(1);
    let second = Source::new(30 - behind, &mut chance);
    let mut first = second.clone();
    for _ in 0..behind {
        first.commit(&mut chance);
    }
    [first, second]
}

#[test]
fn a_copy_equals_its_source_with_and_without_checksums() {
    for checksums in [Checksums::Sent, Checksums::Omitted] {
        let mut scene = Scene { checksums, ..Scene::new(sources(0)) };
        assert_eq!(scene.run(|_, _| {}), Ok(Version(30)));
        assert_eq!(scene.target.check(&scene.sources[0]), Status::Complete(Version(30)));
        assert_eq!(scene.sources[0].open_snapshots(), 0);
    }
}

#[test]
fn a_flipped_checksum_is_found() {
    let mut flipped = 0;
    let error = Scene::new(sources(0)).run(|_, message| {
        if message.flags.contains(Flags::CRC) {
            message.crc ^= 1;
            flipped += 1;
        }
    });
    assert!(matches!(error, Err(Error::Chunk(ChunkError::Checksum { .. }))), "{error:?}");
    assert_eq!(flipped, 1);
}

#[test]
fn a_checksum_without_its_flag_is_garbage() {
    let mut scene = Scene { checksums: Checksums::Omitted, ..Scene::new(sources(0)) };
    assert_eq!(scene.run(|_, message| message.crc = 0xdead_beef), Ok(Version(30)));
}

#[test]
fn another_provider_goes_on_where_a_silent_one_stopped_and_checksums_still_match() {
    let mut whole = Scene::new(sources(0));
    whole.run(|_, _| {}).unwrap();
    for silent_after in 1..whole.chunks[0] {
        let mut scene = Scene { silent_after, ..Scene::new(sources(0)) };
        assert_eq!(scene.run(|_, _| {}), Ok(Version(30)), "silent after {silent_after}");
        assert_eq!(scene.target.check(&scene.sources[0]), Status::Complete(Version(30)));
        assert!(scene.chunks[1] <= whole.chunks[0], "{:?}", scene.chunks);
    }
    let mut scene = Scene { silent_after: 4, ..Scene::new(sources(0)) };
    scene.run(|_, _| {}).unwrap();
    assert_eq!(scene.chunks[0] + scene.chunks[1], whole.chunks[0]);
}

#[test]
fn a_provider_that_lags_behind_the_first_one_cannot_complete_its_copy() {
    let mut scene = Scene { silent_after: 4, ..Scene::new(sources(3)) };
    let expected = ChunkError::Backwards { from: Version(30), to: Version(27) };
    assert_eq!(scene.run(|_, _| {}), Err(Error::Mixed(expected)));
}

#[test]
fn a_provider_that_has_trimmed_what_the_first_part_needs_cannot_complete_its_copy() {
    let [ahead, behind] = sources(9);
    let mut ahead = ahead;
    ahead.trim(4);
    let mut scene = Scene { silent_after: 4, ..Scene::new([behind, ahead]) };
    assert_eq!(scene.run(|_, _| {}), Err(Error::Mixed(ChunkError::Gap { expected: Version(22) })));
}

#[test]
fn a_provider_that_is_ahead_of_the_first_one_brings_the_copy_to_its_own_version() {
    let [ahead, behind] = sources(9);
    let mut scene = Scene { silent_after: 4, ..Scene::new([behind, ahead]) };
    assert_eq!(scene.run(|_, _| {}), Ok(Version(30)));
    assert_eq!(scene.target.check(&scene.sources[1]), Status::Complete(Version(30)));
}

#[test]
fn a_copy_from_a_historic_provider_starts_over_with_another_one() {
    let mut scene = Scene { silent_after: 4, historic: true, ..Scene::new(sources(3)) };
    assert_eq!(scene.run(|_, _| {}), Ok(Version(27)));
    assert_eq!(scene.target.check(&scene.sources[0]), Status::Complete(Version(27)));
}

#[test]
fn lies_about_keys_and_versions_are_found() {
    let put = |prefix, key: &'static str| {
        let transaction = Transaction::new(vec![StoreOp::put(prefix, key, "v")]);
        transaction.to_bytes(Features::empty())
    };
    let found = |change: &dyn Fn(&mut Message)| {
        let run = |n, message: &mut Message| {
            if n == 3 {
                change(message);
            }
        };
        Scene { checksums: Checksums::Omitted, ..Scene::new(sources(0)) }.run(run).unwrap_err()
    };
    let error = found(&|message| message.chunk = put("aa", "0"));
    assert_eq!(error, Error::Chunk(ChunkError::OutOfOrder));
    let error = found(&|message| message.chunk = message.chunk.slice(1..));
    assert!(matches!(error, Error::Chunk(ChunkError::Malformed(_))), "{error}");
    let error = found(&|message| message.chunk = put("", "0"));
    assert_eq!(error, Error::Chunk(ChunkError::BadKey));
    let error = found(&|message| *message = message.clone().with_flags(Flags::LAST));
    assert!(matches!(error, Error::Chunk(ChunkError::Gap { .. })), "{error}");
    let error = found(&|message| {
        message.version = Version(0);
        *message = message.clone().with_flags(Flags::LAST);
    });
    assert!(matches!(error, Error::Unexpected { got: "a last chunk of no version", .. }), "{error}");
}

#[test]
fn a_last_key_that_lies_is_not_believed() {
    let mut scene = Scene { silent_after: 4, ..Scene::new(sources(0)) };
    let run = scene.run(|_, message| message.last_key = StoreKey::new("zz", "zz"));
    assert_eq!(run, Ok(Version(30)));
    assert_eq!(scene.target.check(&scene.sources[0]), Status::Complete(Version(30)));
}
