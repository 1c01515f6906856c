//! Clients that are slow, many, half-open, too large, or try to slip something past: limits hold and nobody else suffers.
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use core::time::Duration;
use std::fs;
use std::sync::Arc;

use cuttlebone_http::message::{Event, RegisterRequest, TokenRequest};
use cuttlebone_http::status::{BucketStatus, CursorStatus, Status, VbucketStatus};
use cuttlebone_http::{Address, Bearer, Client, Config, Face, HEAD_BYTES_MAX, Network, Server, TokioClock};
use cuttlebone_tokens::{Limits, Registry};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

struct Service {
    address: String,
    registry: Registry,
    task: JoinHandle<()>,
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Service {
    async fn start(config: Config) -> Self {
        let limits = Limits { tokens: 10_000, ..Limits::default() };
        let tokens = cuttlebone_tokens::Config { limits, ..cuttlebone_tokens::Config::default() };
        let registry = Registry::new(tokens, TokioClock::new());
        let face = Face::new().with_tokens(registry.clone()).with_status(large);
        let server = Server::bind(&"127.0.0.1:0".parse().unwrap(), config).await.unwrap();
        let Address::Tcp(address) = server.address() else { panic!() };
        let task = tokio::spawn(server.serve(face, core::future::pending()));
        Self { address, registry, task }
    }

    fn client(&self) -> Client {
        Client::new(Address::Tcp(self.address.clone()), None)
    }

    async fn status(&self) -> Status {
        let request = "GET /v1/status HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        loop {
            match ask(&self.address, request).await {
                (200, body) => return serde_json::from_slice(body.as_bytes()).unwrap(),
                // Connections that have just been closed still have their places for a moment.
                (503 | 0, _) => tokio::task::yield_now().await,
                other => panic!("{other:?}"),
            }
        }
    }

    /// Waits until so few connections are left; the test's time limit ends it.
    async fn until_left(&self, connections: u64) {
        // The one that asks is open, too.
        while self.status().await.listener.connections > connections + 1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A status of a megabyte, as of a node with a thousand vbuckets.
fn large() -> Status {
    let cursor = |at| CursorStatus { name: format!("replica-{at}"), seqno: 1_000, ..CursorStatus::default() };
    let vbucket =
        |id| VbucketStatus { id, cursors: (0..8).map(cursor).collect(), ..VbucketStatus::default() };
    Status { buckets: vec![BucketStatus::new("main", (0..1_024).map(vbucket))], ..Status::default() }
}

/// Says `request` in one piece, and reads until the other end closes.
async fn ask(address: &str, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A service that has had enough resets what it has not read; what it said before that counts.
    let _closed_or_reset = timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await.unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.get(9..12).and_then(|status| status.parse().ok()).unwrap_or_default();
    (status, answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}

/// Resident memory of this process, clients included, in bytes.
fn resident() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4_096
}

async fn token(client: &Client, name: &str) -> cuttlebone_http::Life {
    let request = TokenRequest { slots: 1, wait: true, ..TokenRequest::default() };
    let mut life = client.token(name, &request).await.unwrap();
    assert!(matches!(life.held(|_| ()).await.unwrap(), Event::Granted { .. }));
    life
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_fast_clients_are_served_beside_two_hundred_slow_ones() {
    let (stall_timeout, head_timeout) = (Duration::from_secs(1), Duration::from_secs(2));
    let service = Service::start(Config { stall_timeout, head_timeout, ..Config::default() }).await;
    let mut slow = Vec::new();
    for at in 0..200 {
        // A small window, so that most of the answer stays with the service.
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4_096).unwrap();
        let mut stream = socket.connect(service.address.parse().unwrap()).await.unwrap();
        match at % 3 {
            // Asks for more than the system keeps for it, and reads nothing.
            0 => {
                let ask = b"GET /v1/status HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(40);
                stream.write_all(&ask).await.unwrap();
            }
            // Says half a head, and half a body.
            1 => stream.write_all(b"GET /v1/status HTT").await.unwrap(),
            _ => {
                let half = b"POST /v1/registrations HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{\"n";
                stream.write_all(half).await.unwrap();
            }
        }
        slow.push(stream);
    }
    let before = resident();
    let fast = (0..2_000).map(|at| {
        let client = service.client();
        tokio::spawn(async move { drop(token(&client, &format!("n{}", at % 7)).await) })
    });
    for client in fast.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < 256 << 20, "{grown} bytes more");
    // Whoever reads nothing or says nothing more is broken off, though it is still there.
    service.until_left(0).await;
    assert!(service.status().await.listener.accepted_total >= 2_200);
    assert!(service.registry.lookup("n0", 0).is_none(), "what clients held is back");
    drop(slow);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_heads_half_bodies_and_silence_end_in_time() {
    let config = Config { head_timeout: Duration::from_millis(300), ..Config::default() };
    let service = Service::start(config).await;
    let post = "POST /v1/registrations HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 50\r\n\r\n{";
    let chunked = "POST /v1/registrations HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"na";
    for half in
        ["", "G", "GET / HTTP/1.1\r\nhost: x\r\n", post, chunked, "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"]
    {
        let mut stream = TcpStream::connect(&service.address).await.unwrap();
        stream.write_all(half.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let closed = timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await;
        assert!(closed.is_ok(), "{half:?} keeps its connection for ever");
        let answer = String::from_utf8_lossy(&answer);
        let fits = |wanted: &[&str]| wanted.iter().any(|wanted| answer.starts_with(wanted));
        assert!(answer.is_empty() || fits(&["HTTP/1.1 4", "HTTP/1.1 200"]), "{half:?}: {answer}");
    }
    service.until_left(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_is_refused_and_costs_nothing() {
    let service = Service::start(Config::default()).await;
    let long = "x".repeat(HEAD_BYTES_MAX + 1);
    let many = "a: b\r\n".repeat(100);
    let body = format!("{{\"name\":\"{}\"}}", "x".repeat(200_000));
    let json = "content-type: application/json\r\n";
    let length = body.len();
    for (request, wanted) in [
        (format!("GET /{long} HTTP/1.1\r\nhost: x\r\n\r\n"), &[414, 431][..]),
        (format!("GET / HTTP/1.1\r\nhost: x\r\nx: {long}\r\n\r\n"), &[431]),
        (format!("GET / HTTP/1.1\r\nhost: x\r\n{many}\r\n"), &[431]),
        (
            format!(
                "POST /v1/registrations HTTP/1.1\r\nhost: x\r\n{json}content-length: {length}\r\n\r\n{body}"
            ),
            &[400, 413],
        ),
        (
            format!(
                "POST /v1/registrations HTTP/1.1\r\nhost: x\r\n{json}transfer-encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n"
            ),
            &[400, 413],
        ),
    ] {
        let (status, _) = ask(&service.address, &request).await;
        assert!(wanted.contains(&status), "{status} for {request:.60}");
    }
    assert!(service.client().list().await.unwrap().registrations.is_empty());
}

/// Source: RFC 9112, sections 6.1 and 6.3, and 11.2: both lengths, two lengths, spaces and other spellings of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_smuggled_behind_a_request_with_two_lengths() {
    let service = Service::start(Config::default()).await;
    let hidden = r#"{"name":"smuggled"}"#;
    let inner = format!(
        "POST /v1/registrations HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{hidden}",
        hidden.len()
    );
    for lengths in [
        "content-length: 5\r\ncontent-length: 6",
        "content-length: 5, 6",
        "content-length: +5",
        "content-length: -1",
        "content-length: 0x5",
        "content-length: 99999999999999999999999",
        "content-length: 4\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 4",
        "transfer-encoding: chunked, identity",
        "transfer-encoding: identity, chunked, identity",
        "transfer-encoding: xchunked",
        "transfer-encoding : chunked",
        "transfer-encoding:\u{b}chunked",
        " transfer-encoding: chunked",
        "transfer-encoding: chunked\r\n transfer-encoding: identity",
        "content-length\u{0}: 4",
    ] {
        let request =
            format!("POST /v1/registrations HTTP/1.1\r\nhost: x\r\n{lengths}\r\n\r\n0\r\n\r\n{inner}");
        let (status, _) = ask_in_time(&service.address, &request).await;
        assert!((400..500).contains(&status) || status == 0, "{status} for {lengths:?}");
        assert!(service.registry.lookup("smuggled", 0).is_none(), "{lengths:?} let something through");
    }
    for path in [
        "/v1/registrations/../../etc/passwd",
        "/..%2f..%2fetc/passwd",
        "//v1/registrations",
        "/v1/registrations/%00/tokens/1",
        "/v1//registrations",
        "/%2e%2e/",
    ] {
        let (status, _) =
            ask(&service.address, &format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"))
                .await;
        assert!((400..500).contains(&status), "{status} for {path}");
    }
}

/// As [`ask`], but a connection that stays open after its answer is enough.
async fn ask_in_time(address: &str, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // It may hang up before it has heard everything.
    let _heard = stream.write_all(request.as_bytes()).await;
    let mut answer = vec![0; 65_536];
    let n = timeout(Duration::from_secs(15), stream.read(&mut answer)).await.unwrap().unwrap_or_default();
    let answer = String::from_utf8_lossy(&answer[..n]).into_owned();
    (answer.get(9..12).and_then(|status| status.parse().ok()).unwrap_or_default(), answer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_client_of_many_connections_is_turned_away_and_its_places_come_back() {
    // A proxy lies between, so that loopback counts as a network.
    let config = Config { connections_per_client_max: 5, network: Network::Between, ..Config::default() };
    let service = Service::start(config).await;
    let mut lives = Vec::new();
    for at in 0..4 {
        lives.push(token(&service.client(), &format!("n{at}")).await);
    }
    let status = service.status().await.listener;
    assert_eq!((status.connections, status.turned_away_total), (5, 0));
    lives.push(token(&service.client(), "n5").await);
    let (status, _) = ask_in_time(&service.address, "").await;
    assert_eq!(status, 503);
    drop(lives.pop());
    while ask_in_time(&service.address, "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.0 == 503 {
        tokio::task::yield_now().await;
    }
    drop(lives.pop());
    while service.status().await.listener.turned_away_total == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await; // a snapshot answers for a moment
    }
}

#[tokio::test]
async fn a_page_of_another_site_can_do_nothing() {
    let service = Service::start(Config::default()).await;
    let address = &service.address;
    let post = |headers: &str| {
        format!(
            "POST /v1/registrations HTTP/1.1\r\n{headers}\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: 1\r\n\r\n{{"
        )
    };
    for (headers, wanted) in [
        (format!("host: {address}"), 400),
        (format!("host: {address}\r\norigin: http://{address}"), 400),
        ("host: localhost:80".into(), 400),
        ("host: [::1]:80".into(), 400),
        (format!("host: {address}\r\norigin: http://evil.example"), 403),
        (format!("host: {address}\r\norigin: null"), 403),
        ("host: evil.example".into(), 403),
        ("host: evil.example:8080\r\norigin: http://evil.example:8080".into(), 403),
        ("host: 127.0.0.1.evil.example".into(), 403),
    ] {
        let (status, body) = ask(address, &post(&headers)).await;
        assert_eq!(status, wanted, "{headers}: {body}");
    }
}

#[tokio::test]
async fn a_wrong_secret_gets_401_in_every_spelling_and_browsers_are_asked() {
    let bearer = Bearer::new("correct horse").unwrap();
    let service = Service::start(Config { bearer: Some(bearer), ..Config::default() }).await;
    // "me:correct horse", "me:wrong", "correct horse" and ":"
    for (shown, wanted) in [
        ("authorization: Bearer correct horse\r\n", 200),
        ("authorization: bearer correct horse\r\n", 200),
        ("authorization: Basic bWU6Y29ycmVjdCBob3JzZQ==\r\n", 200),
        ("authorization: Basic bWU6d3Jvbmc=\r\n", 401),
        ("authorization: Basic Y29ycmVjdCBob3JzZQ==\r\n", 401),
        ("authorization: Basic Og==\r\n", 401),
        ("authorization: Basic ====\r\n", 401),
        ("authorization: Bearer correct hors\r\n", 401),
        ("authorization: Bearer\r\n", 401),
        ("authorization: correct horse\r\n", 401),
        ("", 401),
    ] {
        for path in ["/", "/metrics", "/v1/status", "/v1/registrations", "/style.css"] {
            let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{shown}\r\n");
            assert_eq!(ask(&service.address, &request).await.0, wanted, "{path} with {shown:?}");
        }
    }
    let open = "GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    assert_eq!(ask(&service.address, open).await.0, 200, "load balancers have no secret");
    let (_, challenge) = ask_in_time(&service.address, "GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(challenge.contains("www-authenticate: Basic realm="), "{challenge}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_of_a_stream_loses_only_its_own_lines() {
    let service = Service::start(Config { lease: Duration::from_millis(30), ..Config::default() }).await;
    let owner = RegisterRequest { limit: None, ..serde_json::from_str(r#"{"name":"n"}"#).unwrap() };
    let mut slow = service.client().register(&owner).await.unwrap();
    let Event::Registered { epoch, .. } = slow.held(|_| ()).await.unwrap() else { panic!() };
    // It reads nothing for many beats, and still has what it has.
    let fast = Arc::new(service.client());
    for _ in 0..50 {
        let request = TokenRequest { epoch: Some(epoch), slots: 1, wait: true, ..TokenRequest::default() };
        let mut life = fast.token("n", &request).await.unwrap();
        life.held(|_| ()).await.unwrap();
    }
    assert!(service.registry.worker("n", cuttlebone_tokens::Epoch(epoch)).is_ok());
    assert!(service.registry.fence("n"));
    assert_eq!(
        slow.ending().await.unwrap(),
        cuttlebone_http::Ending::Fenced,
        "the line that matters comes through"
    );
}
