//! Random operations against a naive model: a map from (name, server) to its expiry.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use cuttlebone_mounttable::{Error, Kind, Mount, Name, Pattern, Placement, Subtree};
use proptest::prelude::*;
use support::{Bench, name, server, ttl};

#[derive(Clone, Debug)]
enum Step {
    Mount { at: String, port: u8, secs: u64, replace: bool, leaf: bool },
    Unmount { at: String, port: Option<u8> },
    Delete { at: String, subtree: bool },
    Pass(u64),
}

#[derive(Default)]
struct Model {
    now: u64,
    /// Expiry (alive at it), kind.
    entries: BTreeMap<(String, u8), u64>,
    kinds: BTreeMap<String, bool>,
}

fn below(name: &str, above: &str) -> bool {
    name.strip_prefix(above).is_some_and(|rest| rest.starts_with('/'))
}

impl Model {
    fn names(&self) -> BTreeSet<&str> {
        self.entries.keys().map(|(name, _)| name.as_str()).collect()
    }

    fn expire(&mut self) {
        let now = self.now;
        self.entries.retain(|_, expiry| *expiry >= now);
    }

    fn mount(&mut self, at: &str, port: u8, secs: u64, replace: bool, leaf: bool) -> bool {
        if self.names().iter().any(|mounted| below(at, mounted)) {
            return false;
        }
        let present = self.names().contains(at);
        if present && self.kinds.get(at) != Some(&leaf) {
            return false;
        }
        self.entries.retain(|(name, _), _| !(below(name, at) || replace && name == at));
        self.entries.insert((at.into(), port), self.now + secs);
        self.kinds.insert(at.into(), leaf);
        true
    }

    fn unmount(&mut self, at: &str, port: Option<u8>) -> bool {
        if self.names().iter().any(|mounted| below(at, mounted)) {
            return false;
        }
        self.entries.retain(|(name, p), _| name != at || port.is_some_and(|port| port != *p));
        true
    }

    fn delete(&mut self, at: &str, subtree: bool) -> bool {
        if self.names().iter().any(|mounted| below(at, mounted)) {
            return true;
        }
        if !subtree && self.names().iter().any(|name| below(name, at)) {
            return false;
        }
        self.entries.retain(|(name, _), _| name != at && !below(name, at));
        true
    }

    /// Every name there is, inner ones included, without the root.
    fn all_names(&self) -> BTreeSet<Name> {
        let parsed: Vec<Name> = self.names().into_iter().map(name).collect();
        parsed.iter().flat_map(Name::prefixes).filter(|name| !name.is_root()).collect()
    }
}

fn any_name() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "ab"]), 1..4).prop_map(|parts| parts.join("/"))
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (any_name(), 1..4_u8, 1..20_u64, prop::bool::weighted(0.2), prop::bool::weighted(0.2))
            .prop_map(|(at, port, secs, replace, leaf)| Step::Mount { at, port, secs, replace, leaf }),
        2 => (any_name(), prop::option::of(1..4_u8)).prop_map(|(at, port)| Step::Unmount { at, port }),
        1 => (any_name(), any::<bool>()).prop_map(|(at, subtree)| Step::Delete { at, subtree }),
        2 => (0..8_u64).prop_map(Step::Pass),
    ]
}

fn run(steps: Vec<Step>) {
    let mut bench = Bench::new();
    let mut model = Model::default();
    for step in steps {
        let (done, expected) = match &step {
            Step::Mount { at, port, secs, replace, leaf } => {
                let mut mount = Mount::new(name(at), server(&format!("h:{port}")), ttl(*secs));
                mount = mount.with_kind(if *leaf { Kind::Leaf } else { Kind::Server });
                if *replace {
                    mount = mount.with_placement(Placement::Replace);
                }
                (bench.put(&mount).is_ok(), model.mount(at, *port, *secs, *replace, *leaf))
            }
            Step::Unmount { at, port } => {
                let what = port.map_or_else(String::new, |port| format!("h:{port}"));
                (bench.unmount(at, &what).is_ok(), model.unmount(at, *port))
            }
            Step::Delete { at, subtree } => {
                let how = if *subtree { Subtree::Delete } else { Subtree::Keep };
                (bench.delete(at, how).is_ok(), model.delete(at, *subtree))
            }
            Step::Pass(secs) => {
                bench.pass(*secs);
                model.now += secs;
                model.expire();
                (true, true)
            }
        };
        assert_eq!(done, expected, "{step:?}");
        compare(&mut bench, &model);
    }
}

fn compare(bench: &mut Bench, model: &Model) {
    assert_eq!(bench.count(), (model.all_names().len() + 1, model.entries.len()));
    bench.table.recount().unwrap();
    for at in model.all_names() {
        let expected: BTreeSet<String> = model
            .entries
            .keys()
            .filter(|(name, _)| *name == at.as_str() || below(at.as_str(), name))
            .map(|(_, port)| format!("h:{port}"))
            .collect();
        let got = bench.resolve(at.as_str());
        match got {
            Ok(resolved) => {
                let got: BTreeSet<_> = resolved.servers.iter().map(|live| live.server.to_string()).collect();
                assert_eq!(got, expected, "{at}");
                assert_eq!(resolved.mount.join(&resolved.suffix).unwrap(), at);
            }
            Err(error) => assert!(error == Error::NoSuchName && expected.is_empty(), "{at}: {error}"),
        }
    }
    for pattern in ["*", "...", "a/...", "*/b", "a*", "*/*/[ab]"] {
        let parsed = Pattern::parse(pattern).unwrap();
        let mut expected: BTreeSet<Name> =
            model.all_names().into_iter().filter(|n| parsed.matches(n)).collect();
        if parsed.matches(&Name::root()) {
            expected.insert(Name::root());
        }
        // A mount that the pattern goes on below is found too; none of these does so with wildcards alone.
        let found: Vec<Name> =
            bench.found("", pattern).unwrap().into_iter().map(|found| found.name).collect();
        let unique: BTreeSet<Name> = found.iter().cloned().collect();
        assert_eq!(unique.len(), found.len(), "{pattern}: found twice");
        assert!(expected.is_subset(&unique), "{pattern}: {expected:?} in {unique:?}");
        for extra in unique.difference(&expected) {
            let mount = model.names().contains(extra.as_str());
            assert!(mount, "{pattern}: {extra} neither matches nor is a mount on the way");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn the_table_agrees_with_a_naive_map(steps in prop::collection::vec(any_step(), 1..60)) {
        run(steps);
    }

    #[test]
    fn a_glob_agrees_with_matching_every_name(text in "[ab*?\\[\\]\\\\^/.-]{0,12}", at in "[ab/]{0,8}") {
        let at = Name::parse(&at).unwrap();
        if let Ok(pattern) = Pattern::parse(&text)
            && !at.is_root()
        {
            let mut bench = Bench::new();
            bench.mount(at.as_str(), "h:1", 60).unwrap();
            let found = bench.found("", &text).unwrap();
            for prefix in at.prefixes() {
                if pattern.matches(&prefix) {
                    prop_assert!(found.iter().any(|found| found.name == prefix), "{} {}", pattern, prefix);
                }
            }
            for found in found.iter().filter(|found| found.servers.is_empty()) {
                prop_assert!(pattern.matches(&found.name));
            }
        }
    }
}
