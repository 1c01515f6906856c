//! What a node shows of its bucket is what is in it: checkpoints, cursors, and hot reload with who began it.

#![expect(clippy::unwrap_used, reason = "a failure in a test is a panic")]

use core::time::Duration;

use cuttlebone_bucket::engine::LogEngine;
use cuttlebone_bucket::{Bucket, BucketLimits, Mode, Now, VbucketState};
use cuttlebone_checkpoint::{Item, Limits};
use cuttlebone_http::message::{Event, LeaseTerms, RegisterRequest, TakeoverName, TokenRequest};
use cuttlebone_http::status::{Status, UpdateStage};
use cuttlebone_http::update::{NAME, Step};
use cuttlebone_http::{Client, TokioClock};
use cuttlebone_node::{Face, Follow, Node, NodeBucket, Replicas};
use cuttlebone_tokens::{Config, Registry};

const V: u16 = 3;

fn open(dir: &std::path::Path) -> NodeBucket {
    let log = Limits { items_max: 100, ..Limits::default() };
    let limits = BucketLimits { log, ..BucketLimits::default() };
    Bucket::open(LogEngine::open(dir).unwrap(), limits, Now::default(), 1).unwrap()
}

fn write(bucket: &NodeBucket, count: u32) {
    for n in 0..count {
        bucket.set(V, Now::default(), Item::set(&n.to_be_bytes(), b"value").unwrap(), Mode::Set).unwrap();
    }
}

/// Asks until it is so.
async fn shows(client: &Client, what: &str, holds: impl Fn(&Status) -> bool) -> Status {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(8);
    loop {
        let status = client.status().await.unwrap();
        if holds(&status) {
            return status;
        }
        assert!(tokio::time::Instant::now() < deadline, "{what}: {:?} {:?}", status.buckets, status.update);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_has_what_is_in_the_log_and_who_has_read_how_far() {
    let dir = tempfile::tempdir().unwrap();
    let bucket = open(&dir.path().join("origin"));
    bucket.create(V, Now::default(), VbucketState::Active).unwrap();
    let node = Node::builder()
        .bucket(bucket.clone())
        .tokens(Registry::new(Config::default(), TokioClock::new()))
        .listen(([127, 0, 0, 1], 0).into())
        .sink(Replicas::new())
        .status(Face::listening("127.0.0.1:0".parse().unwrap()))
        .build()
        .unwrap();
    let handle = node.handle();
    let node = tokio::spawn(node.run(core::future::pending()));
    while handle.http().is_none() || handle.listening().is_none() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let client = Client::new(handle.http().unwrap().trim_start_matches("http://").parse().unwrap(), None);
    let origin = handle.listening().unwrap().msgr2().unwrap().socket_addr().unwrap();
    let follower =
        Node::builder().name("n2").bucket(open(&dir.path().join("replica"))).source(Follow::node(origin));
    let follower = tokio::spawn(follower.build().unwrap().run(core::future::pending()));

    // More than two checkpoints, and 50 keys twice in the open one.
    write(&bucket, 220);
    write(&bucket, 50);
    write(&bucket, 50);
    let is_quiet = |status: &Status| {
        let vbucket = &status.buckets[0].vbuckets.rows[0];
        let is_done = |name: &str| {
            vbucket.cursors.iter().any(|it| it.name == name && it.seqno == 320 && it.lag_items == 0)
        };
        vbucket.persisted_seqno == 320 && is_done("persistence") && is_done("replica:n2")
    };
    let status = shows(&client, "everybody has read everything", is_quiet).await;
    let vbucket = &status.buckets[0].vbuckets.rows[0];
    assert_eq!((vbucket.id, vbucket.last_seqno, vbucket.items), (V, 320, 220));
    let newest = vbucket.checkpoints.last().unwrap();
    assert!(newest.open && newest.last_seqno == 320, "{newest:?}");
    assert!(vbucket.checkpoints.iter().rev().skip(1).all(|closed| !closed.open));
    assert!(vbucket.cursors.iter().all(|cursor| cursor.checkpoint <= newest.id), "{:?}", vbucket.cursors);
    assert!(status.buckets[0].dedup_total >= 50, "{}", status.buckets[0].dedup_total);
    let totals: Vec<_> = status.buckets[0].cursors.iter().map(|cursor| cursor.name.as_str()).collect();
    assert!(totals.contains(&"persistence") && totals.contains(&"replica:n2"), "{totals:?}");

    // Hot reload: who began it, since when, and what a revert would undo.
    assert_eq!((status.update.stage, status.update.owner.as_deref()), (UpdateStage::Off, None));
    let request = RegisterRequest {
        name: NAME.into(),
        takeover: TakeoverName::Deny,
        limit: None,
        lease: LeaseTerms::Response,
    };
    let mut owner = client.register(&request).await.unwrap();
    let Event::Registered { epoch, .. } = owner.held(|_| {}).await.unwrap() else { panic!("not registered") };
    let mut token = client
        .token(NAME, &TokenRequest { epoch: Some(epoch), slots: 1, wait: true, ..TokenRequest::default() })
        .await
        .unwrap();
    let Event::Granted { fence, .. } = token.held(|_| {}).await.unwrap() else { panic!("not granted") };
    client.update(Step::Start, &fence).await.unwrap();
    write(&bucket, 7);
    let status = shows(&client, "7 mutations held", |status| status.update.held_items == 7).await;
    assert_eq!(
        (status.update.stage, status.update.owner),
        (UpdateStage::On, Some(format!("update {epoch}")))
    );
    assert!(status.update.since_ms.is_some_and(|since| since < 8_000), "{:?}", status.update.since_ms);
    client.update(Step::Revert, &fence).await.unwrap();
    let status = shows(&client, "off again", |status| status.update.stage == UpdateStage::Off).await;
    let update = &status.update;
    assert_eq!((update.reverted_total, update.completed_total, update.reverted_keys_total), (1, 0, 7));
    assert_eq!((update.owner.as_ref(), update.since_ms), (None, None));

    node.abort();
    follower.abort();
}
