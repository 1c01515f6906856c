//! Parts that do not fit together are found before anything runs.

#![expect(clippy::unwrap_used, reason = "a failure in a test is a panic")]

use cuttlebone_bucket::engine::LogEngine;
use cuttlebone_bucket::{Bucket, BucketLimits, Now};
use cuttlebone_node::{
    BuildError, Builder, Callers, Face, Follow, Ground, Guests, MonSync, Node, NodeBucket, Provider, Publish,
    Replicas, Running, Sink,
};

fn bucket(dir: &std::path::Path) -> NodeBucket {
    Bucket::open(LogEngine::open(dir).unwrap(), BucketLimits::default(), Now::default(), 1).unwrap()
}

fn refused(builder: Builder, why: &str) {
    let error = builder.build().unwrap_err().to_string();
    assert!(error.contains(why), "{error}");
}

/// A stranger's sink.
struct Echo(&'static str, Callers);

impl Sink for Echo {
    fn name(&self) -> &str {
        self.0
    }

    fn callers(&self) -> Callers {
        self.1.clone()
    }

    fn run(self: Box<Self>, _: Ground, _: Guests) -> Running {
        Box::pin(async { Ok(()) })
    }
}

#[test]
fn every_conflict_is_found_before_anything_runs() {
    let dir = tempfile::tempdir().unwrap();
    let bucket = bucket(dir.path());
    let monsync =
        || MonSync::from(vec!["v2:127.0.0.1:1/0".parse::<cuttlebone_wire::EntityAddr>().unwrap().into()]);
    let here = || ([127, 0, 0, 1], 0).into();
    let anywhere = ([0, 0, 0, 0], 0).into();
    let face = || Face::listening("127.0.0.1:0".parse().unwrap());
    let table = || {
        use cuttlebone_mounttable::{Limits, Principal, SharedTable, Table};
        let me = Principal::new("me");
        let table =
            SharedTable::new(Table::new(Limits::private(), me.clone()), || cuttlebone_machine::Instant::ZERO);
        Publish::to(table.namespace(me))
    };
    let named = |prefix: &str| Callers::Named(prefix.into());

    refused(Node::builder(), "nothing to do");
    refused(Node::builder().source(monsync()), "monsync needs a bucket, or a directory");
    refused(Node::builder().copy("x").source(MonSync::from(Vec::new())), "a monitor to pull from");
    refused(Node::builder().copy("x").copy("y").source(monsync()), "more than one directory");
    refused(Node::builder().copy("x").source(monsync()).source(monsync()), "two parts are called monsync");
    refused(Node::builder().source(Follow::node(here())), "follow needs a bucket");
    refused(Node::builder().copy("x").sink(Provider::new()), "provider needs an address to listen on");
    refused(Node::builder().listen(here()).sink(Provider::new()), "provider needs a directory");
    refused(
        Node::builder().listen(here()).listen(here()).copy("x").sink(Provider::new()),
        "more than one address",
    );
    refused(Node::builder().listen(anywhere).copy("x").sink(Provider::new()), "0.0.0.0");
    refused(Node::builder().listen(here()).sink(Replicas::new()), "replicas needs a bucket");
    let others = Echo("echo", Callers::Others);
    refused(
        Node::builder().listen(here()).copy("x").sink(Provider::new()).sink(others),
        "provider and echo want the same",
    );
    let twice = Node::builder().listen(here()).sink(Echo("a", named("x."))).sink(Echo("b", named("x.")));
    assert_eq!(twice.build().unwrap_err(), BuildError::Claimed { by: "a".into(), also: "b".into() });
    refused(Node::builder().status(face()).status(face()), "two parts are called http");
    refused(Node::builder().publish(table()), "publisher needs a name");
    refused(Node::builder().publish(table().name("a/b".parse().unwrap())), "publisher needs a server");

    let all = Node::builder()
        .sink(Replicas::new())
        .source(monsync())
        .status(face())
        .copy("x")
        .sink(Provider::new());
    let all = all.publish(table().name("a/b".parse().unwrap())).listen(here()).bucket(bucket);
    assert!(all.sink(Echo("x", named("x."))).build().is_ok());
}
