//! Hot reload, changes and lists of a bucket over HTTP.
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use cuttlebone_bucket::engine::MemoryEngine;
use cuttlebone_bucket::{Bucket, BucketLimits, Mode, Now, VbucketState};
use cuttlebone_checkpoint::Item;
use cuttlebone_http::changes::{Change, ChangesQuery};
use cuttlebone_http::message::{Event, LeaseTerms, RegisterRequest, TakeoverName, TokenRequest};
use cuttlebone_http::update::{NAME, Step};
use cuttlebone_http::{Client, ClientError, Config, Face, Lines, Server, TokioClock};
use cuttlebone_tokens::{FenceGate, Registry};

struct World {
    bucket: Bucket<MemoryEngine>,
    client: Client,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn world() -> World {
    let bucket = Bucket::open(MemoryEngine::default(), BucketLimits::default(), Now::default(), 7).unwrap();
    bucket.create(0, Now::default(), VbucketState::Active).unwrap();
    let registry = Registry::new(cuttlebone_tokens::Config::default(), TokioClock::new());
    let face =
        Face::new().with_tokens(registry).with_bucket(bucket.clone(), FenceGate::new(NAME), Now::default);
    let server = Server::bind(&"127.0.0.1:0".parse().unwrap(), Config::default()).await.unwrap();
    let client = Client::new(server.address(), None);
    let server = tokio::spawn(server.serve(face, core::future::pending()));
    World { bucket, client, server }
}

impl World {
    fn set(&self, key: &[u8], value: &[u8]) {
        self.bucket.set(0, Now::default(), Item::set(key, value).unwrap(), Mode::Set).unwrap();
    }

    fn value(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.bucket.peek(0, key).ok().map(|found| found.item.value().to_vec())
    }

    /// A fence of a new incarnation, whose token is given back at once: fences outlive tokens.
    async fn fence(&self) -> String {
        let request = RegisterRequest {
            name: NAME.into(),
            takeover: TakeoverName::Wait,
            limit: None,
            lease: LeaseTerms::Response,
        };
        let mut owner = self.client.register(&request).await.unwrap();
        let Event::Registered { epoch, .. } = owner.held(|_| {}).await.unwrap() else { panic!() };
        let request = TokenRequest { epoch: Some(epoch), slots: 1, wait: true, ..Default::default() };
        let mut token = self.client.token(NAME, &request).await.unwrap();
        let Event::Granted { fence, .. } = token.held(|_| {}).await.unwrap() else { panic!() };
        fence
    }
}

fn refusal<T: core::fmt::Debug>(answer: Result<T, ClientError>) -> (u16, String) {
    let Err(ClientError::Refused(status, problem)) = answer else { panic!("{answer:?}") };
    (status.as_u16(), problem.error)
}

#[tokio::test]
async fn hot_reload_takes_the_newest_incarnation_only() {
    let world = world().await;
    world.set(b"a", b"1");
    let older = world.fence().await;
    world.client.update(Step::Start, &older).await.unwrap();
    world.set(b"a", b"2");
    world.set(b"b", b"1");
    let newer = world.fence().await;
    assert_eq!(
        refusal(world.client.update(Step::Start, &newer).await),
        (409, "update_on".into()),
        "one at a time"
    );
    assert_eq!(refusal(world.client.update(Step::Complete, &older).await), (409, "fenced".into()));
    let done = world.client.update(Step::Revert, &newer).await.unwrap();
    assert_eq!((done.done.as_str(), done.restored_keys), ("revert", 2));
    assert_eq!((world.value(b"a").unwrap(), world.value(b"b")), (b"1".to_vec(), None));
    assert_eq!(refusal(world.client.update(Step::Revert, &newer).await), (409, "update_off".into()));
}

#[tokio::test]
async fn a_fence_that_is_none_or_of_another_name_is_refused() {
    let world = world().await;
    assert_eq!(refusal(world.client.update(Step::Start, "").await).0, 400);
    let other =
        cuttlebone_tokens::Fence::new("other", cuttlebone_tokens::Epoch(1), cuttlebone_tokens::Seq(1));
    let answer = world.client.update(Step::Start, &other.to_string()).await;
    assert_eq!(refusal(answer), (400, "other_name".into()));
    assert!(!world.bucket.status(0).unwrap().in_window);
}

/// Reads until the snapshot that ends with `last` is whole: keys and the branch.
async fn read_until(lines: &mut Lines<Change>, last: u64) -> (Vec<(u64, bool)>, Option<String>, bool) {
    let (mut mutations, mut newest, mut rolled_back) = (Vec::new(), None, false);
    loop {
        match lines.next().await.unwrap().expect("the stream goes on") {
            Change::Set(mutation) => mutations.push((mutation.seqno, true)),
            Change::Delete(mutation) => mutations.push((mutation.seqno, false)),
            Change::History { branch, .. } => newest = Some(branch),
            Change::Rollback => rolled_back = true,
            _ => {}
        }
        if mutations.last().is_some_and(|(seqno, _)| *seqno == last) {
            return (mutations, newest, rolled_back);
        }
    }
}

#[tokio::test]
async fn changes_go_on_where_the_client_says_that_it_is() {
    let world = world().await;
    for key in [b"a", b"b", b"c"] {
        world.set(key, b"x");
    }
    let query = ChangesQuery { cursor: "copy/1".into(), ..Default::default() };
    let (connection, mut lines) = world.client.changes(&query).await.unwrap();
    let (mutations, branch, _) = read_until(&mut lines, 3).await;
    assert_eq!(mutations, [(1, true), (2, true), (3, true)]);
    world.bucket.delete(0, Now::default(), b"b", None).unwrap();
    assert_eq!(read_until(&mut lines, 4).await.0, [(4, false)]);
    drop((connection, lines));

    world.set(b"d", b"x");
    let branch = branch.unwrap().parse().unwrap();
    let query = ChangesQuery { since: 4, branch: Some(branch), ..query };
    let (_connection, mut lines) = world.client.changes(&query).await.unwrap();
    let (mutations, _, rolled_back) = read_until(&mut lines, 5).await;
    assert_eq!((mutations, rolled_back), (vec![(5, true)], false));

    let query = ChangesQuery { branch: Some(branch ^ 1), cursor: "stranger".into(), ..query };
    let (_connection, mut lines) = world.client.changes(&query).await.unwrap();
    let (mutations, _, rolled_back) = read_until(&mut lines, 5).await;
    assert!(rolled_back, "of another history: from nothing");
    assert_eq!(mutations.first(), Some(&(1, true)));
}

#[tokio::test]
async fn the_list_is_what_the_stock_tool_prints_and_has_no_keys_of_the_node_itself() {
    let world = world().await;
    world.set(b"osdmap\0full_1", b"123456789");
    world.set(b"odd %\0a b", b"");
    world.set(b"\0position", b"x");
    let list = world.client.list_crc(0).await.unwrap();
    let crc = |parts: &[&[u8]]| cuttlebone_wire::crc32c(0, &parts.concat());
    let (odd, map) = (crc(&[b"odd %", b"a b"]), crc(&[b"osdmap", b"full_1", b"123456789"]));
    assert_eq!(list, format!("odd%20%25\ta%20b\t{odd}\nosdmap\tfull_1\t{map}\n"));
    assert_eq!(refusal(world.client.list_crc(9).await), (404, "no_such_vbucket".into()));
}

#[tokio::test]
async fn more_clients_than_there_are_places_are_told_so() {
    let world = world().await;
    let query = |n: usize| ChangesQuery { cursor: format!("c{n}"), ..Default::default() };
    let mut open = Vec::new();
    for n in 0..cuttlebone_http::changes::STREAMS_MAX {
        open.push(world.client.changes(&query(n)).await.unwrap());
    }
    assert_eq!(refusal(world.client.changes(&query(99)).await), (503, "at_capacity".into()));
}
