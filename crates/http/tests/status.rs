//! The three faces of one snapshot: JSON, metrics and readiness.
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::sync::{Arc, Mutex};

use cuttlebone_http::mounts::{Mounts, Principals};
use cuttlebone_http::status::{
    BucketStatus, CheckpointStatus, CursorStatus, SNAPSHOT_AGE_MAX, SourceStatus, Stage, Status,
    VbucketStatus,
};
use cuttlebone_http::{Address, Config, Face, Server, TokioClock};
use cuttlebone_mounttable::{Limits, Mount, Principal, SharedTable, Table, Ttl};
use cuttlebone_tokens::{OwnerId, Registry, Takeover};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn get(address: &Address, path: &str) -> (u16, String) {
    request(address, &format!("GET {path}"), "").await
}

async fn request(address: &Address, line: &str, body: &str) -> (u16, String) {
    let Address::Tcp(address) = address else { panic!() };
    let mut stream = TcpStream::connect(address).await.unwrap();
    let length = body.len();
    let head = format!("{line} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
    let kind = "content-type: application/json";
    let request = format!("{head}{kind}\r\ncontent-length: {length}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.into())
}

fn vbucket(id: u16) -> VbucketStatus {
    let cursor =
        |name: &str, seqno| CursorStatus { name: name.into(), checkpoint: 2, seqno, lag_items: 20 - seqno };
    VbucketStatus {
        id,
        items: 15,
        last_seqno: 20,
        persisted_seqno: 12,
        unpersisted: 8,
        checkpoints: vec![
            CheckpointStatus { id: 1, first_seqno: 1, last_seqno: 10, items: 10, open: false },
            CheckpointStatus { id: 2, first_seqno: 11, last_seqno: 20, items: 10, open: true },
        ],
        cursors: vec![cursor("persistence", 12), cursor("replica-b", 17)],
        ..VbucketStatus::default()
    }
}

#[tokio::test]
async fn json_metrics_and_readiness_tell_the_same() {
    let registry = Registry::new(cuttlebone_tokens::Config::default(), TokioClock::new());
    let owner = registry.register("agent \"7\"", OwnerId(1), Takeover::Deny).await.unwrap();
    let _token = owner.acquire().await.unwrap();
    let stage = Arc::new(Mutex::new(Stage::CatchingUp));
    let shown = Arc::clone(&stage);
    let face = Face::new().with_tokens(registry.clone()).with_status(move || {
        let mut status = Status {
            buckets: vec![BucketStatus::new("main", (0..3).map(vbucket))],
            sources: vec![SourceStatus { name: "mon".into(), kind: "monsync".into(), ..Default::default() }],
            ..Status::default()
        };
        status.node.name = "a\"b\\c\n".into();
        status.node.stage = *shown.lock().unwrap();
        status
    });
    let server = Server::bind(&"127.0.0.1:0".parse().unwrap(), Config::default()).await.unwrap();
    let address = server.address();
    let task = tokio::spawn(server.serve(face, core::future::pending()));

    assert_eq!(get(&address, "/readyz").await, (503, "catching up\n".into()));
    *stage.lock().unwrap() = Stage::Serving;
    tokio::time::sleep(SNAPSHOT_AGE_MAX).await; // the promise under test: no older answer than this
    assert_eq!(get(&address, "/readyz").await, (200, "ready\n".into()));
    let (code, body) = get(&address, "/v1/status").await;
    let status: Status = serde_json::from_str(&body).unwrap();
    assert_eq!(code, 200);
    assert_eq!((status.tokens.held, status.tokens.names.rows[0].name.as_str()), (1, "agent \"7\""));
    assert_eq!((status.buckets[0].items, status.buckets[0].unpersisted), (45, 24));
    assert_eq!(status.buckets[0].cursors[1].lag_items, 9);
    assert!(status.listener.accepted_total >= 2);

    let (code, metrics) = get(&address, "/metrics").await;
    assert_eq!(code, 200);
    for line in [
        "cuttlebone_ready 1",
        "cuttlebone_registry_permits_in_use 1",
        "cuttlebone_checkpoint_cursor_lag_items{bucket=\"main\",cursor=\"replica-b\"} 9",
        "cuttlebone_checkpoint_persisted_seqno{bucket=\"main\"} 36",
        "cuttlebone_mon_backup_failures_total{source=\"mon\"} 0",
    ] {
        assert!(metrics.lines().any(|other| other == line), "{line} is not in\n{metrics}");
    }
    assert!(metrics.contains(r#"name="a\"b\\c\n""#), "{metrics}");
    task.abort();
}

#[tokio::test]
async fn mounts_are_shown_to_the_owner_and_only_counted_where_names_may_be_hidden() {
    let who = Principal::new("service");
    let hidden = Principals::parse(who.clone(), "reader secret").unwrap();
    for (principals, shown) in [(Principals::owner(who.clone()), 1), (hidden, 0)] {
        let clock = TokioClock::new();
        let table = Table::new(Limits::private(), who.clone());
        let table = SharedTable::new(table, move || cuttlebone_tokens::Clock::now(&clock));
        let ttl = Ttl::new(core::time::Duration::from_secs(60)).unwrap();
        table.mount(&who, &Mount::new("a/b".parse().unwrap(), "h:1".parse().unwrap(), ttl)).unwrap();
        let server = Server::bind(&"127.0.0.1:0".parse().unwrap(), Config::default()).await.unwrap();
        let address = server.address();
        let face = Face::new().with_mounts(Mounts::new(table, principals));
        let task = tokio::spawn(server.serve(face, core::future::pending()));
        let status: Status = serde_json::from_str(&get(&address, "/v1/status").await.1).unwrap();
        assert_eq!((status.mounts.total, status.mounts.rows.len()), (1, shown));
        if let Some(row) = status.mounts.rows.first() {
            assert!(row.age_ms.is_some_and(|age| age < 60_000));
            assert_eq!((row.name.as_str(), row.server.as_str()), ("a/b", "h:1"));
            assert!(row.expires_in_ms.is_some_and(|left| left <= 60_000));
        }
        task.abort();
    }
}

#[tokio::test]
async fn whoever_changed_something_sees_it_at_once() {
    let who = Principal::new("service");
    let clock = TokioClock::new();
    let table = Table::new(Limits::private(), who.clone());
    let table = SharedTable::new(table, move || cuttlebone_tokens::Clock::now(&clock));
    let server = Server::bind(&"127.0.0.1:0".parse().unwrap(), Config::default()).await.unwrap();
    let address = server.address();
    let face = Face::new().with_mounts(Mounts::new(table, Principals::owner(who)));
    let task = tokio::spawn(server.serve(face, core::future::pending()));
    for (i, name) in (0..).zip(["a", "b", "c"]) {
        let status: Status = serde_json::from_str(&get(&address, "/v1/status").await.1).unwrap();
        assert_eq!(status.mounts.total, i);
        let put = format!("PUT /v1/mounts/{name}");
        assert_eq!(request(&address, &put, r#"{"server":"h:1","ttl_ms":60000}"#).await.0, 200);
    }
    task.abort();
}
