//! A requester and a provider face to face, with nothing between them.

mod model;

use std::collections::VecDeque;

use cuttlebone_machine::{Instant, Machine, SplitMix};
use cuttlebone_monsync::v2::{
    PeerId, Provider, ProviderConfig, ProviderInput, ProviderOutput, Requester, RequesterConfig,
    RequesterInput, RequesterOutput, Summary,
};
use cuttlebone_monsync::{Budget, Error, SyncKind, Version};
use cuttlebone_wire::Features;
use model::{Source, Status, Target};

const PEER: PeerId = PeerId(7);

struct Pair {
    requester: Requester,
    provider: Provider<SplitMix>,
    source: Source,
    target: Target,
    chance: SplitMix,
    /// Commits after each message, until it is used up.
    commits: u32,
}

impl Pair {
    fn new(kind: SyncKind, source: Source, target: Target) -> Self {
        let config = ProviderConfig { budget: Budget { bytes: 300, keys: 4 }, ..ProviderConfig::default() };
        Self {
            requester: Requester::new(Instant::ZERO, RequesterConfig::default(), kind),
            provider: Provider::new(config, SplitMix::new(3)),
            source,
            target,
            chance: SplitMix::new(5),
            commits: 0,
        }
    }

    fn run(&mut self) -> Result<Summary, Error> {
        let now = Instant::ZERO;
        let mut questions = VecDeque::new();
        let mut answers = VecDeque::new();
        for _ in 0..10_000 {
            while let Some(output) = self.requester.poll_output() {
                match output {
                    RequesterOutput::Send(request) => {
                        questions.push_back(request.to_message(Features::PACIFIC));
                    }
                    RequesterOutput::Apply { op, effect } => {
                        self.target.apply(&effect);
                        answers.push_back(RequesterInput::Applied(op));
                    }
                    RequesterOutput::Done(summary) => return Ok(summary),
                    RequesterOutput::Failed(error) => return Err(error),
                    RequesterOutput::Started { .. } | RequesterOutput::Progress(_) => {}
                }
            }
            if let Some(message) = questions.pop_front() {
                self.provider.handle(now, ProviderInput::Message { from: PEER, message });
            }
            while let Some(output) = self.provider.poll_output() {
                match output {
                    ProviderOutput::Send { to, reply } => {
                        assert_eq!(to, PEER);
                        answers.push_back(RequesterInput::Message(reply.into_message(Features::PACIFIC)));
                    }
                    ProviderOutput::Store(ask) => {
                        if let Some(answer) = self.source.ask(ask) {
                            self.provider.handle(now, ProviderInput::Store(answer));
                        }
                    }
                    ProviderOutput::Dropped { why, .. } => panic!("{why:?}"),
                }
            }
            if let Some(input) = answers.pop_front() {
                self.requester.handle(now, input);
            }
            if self.commits > 0 {
                self.commits -= 1;
                self.source.commit(&mut self.chance);
            }
        }
        panic!("no end: {}", self.requester.state_name());
    }
}

fn source(versions: u64) -> Source {
    Source::new(versions, &mut SplitMix::new(1))
}

#[test]
fn a_full_copy_equals_its_source() {
    let mut pair = Pair::new(SyncKind::Full, source(40), Target::default());
    let summary = pair.run().unwrap();
    assert_eq!(summary.last_committed, Version(40));
    assert_eq!(pair.target.check(&pair.source), Status::Complete(Version(40)));
    assert!(summary.progress.chunks > 5, "{summary:?}");
    assert_eq!(pair.source.open_snapshots(), 0);
}

#[test]
fn a_copy_of_a_busy_source_is_a_point_of_its_history() {
    let mut pair = Pair::new(SyncKind::Full, source(30), Target::default());
    pair.commits = 25;
    let summary = pair.run().unwrap();
    assert!(summary.last_committed > Version(40), "{summary:?}");
    assert!(matches!(pair.target.check(&pair.source), Status::Complete(_)));
}

#[test]
fn a_recent_copy_brings_only_what_is_new() {
    let mut pair = Pair::new(SyncKind::Full, source(10), Target::default());
    pair.run().unwrap();
    let (mut source, target) = (pair.source, pair.target);
    for _ in 0..7 {
        source.commit(&mut pair.chance);
    }
    let mut pair = Pair::new(SyncKind::Recent { after: Version(10) }, source, target);
    let summary = pair.run().unwrap();
    assert_eq!((summary.progress.versions, summary.progress.keys), (7, 7));
    assert_eq!(pair.target.check(&pair.source), Status::Complete(Version(17)));
}

#[test]
fn a_recent_copy_without_news_does_not_touch_the_target() {
    let mut pair = Pair::new(SyncKind::Recent { after: Version(10) }, source(10), Target::default());
    assert_eq!(pair.run().unwrap().last_committed, Version(10));
    assert_eq!(pair.target, Target::default());
}

#[test]
fn a_recent_copy_from_behind_the_window_is_told_to_go_on_with_a_full_one() {
    let mut source = source(30);
    source.trim(5);
    let mut pair = Pair::new(SyncKind::Recent { after: Version(10) }, source, Target::default());
    assert_eq!(pair.run(), Err(Error::FellBehind { after: Version(10) }));
    assert_eq!(pair.target, Target::default());
}

#[test]
fn an_empty_store_can_be_copied() {
    let mut pair = Pair::new(SyncKind::Full, source(0), Target::default());
    assert_eq!(pair.run().unwrap().last_committed, Version(0));
}

#[test]
fn a_proposal_in_the_snapshot_does_not_replace_what_was_committed_in_its_place() {
    let mut source = source(20);
    source.propose(&mut SplitMix::new(99));
    let mut pair = Pair::new(SyncKind::Full, source, Target::default());
    pair.commits = 6;
    pair.run().unwrap();
    assert!(matches!(pair.target.check(&pair.source), Status::Complete(_)));
}
