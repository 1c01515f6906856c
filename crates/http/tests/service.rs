//! The service and its client over real sockets on loopback.
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use core::time::Duration;
use std::path::Path;
use std::sync::Arc;

use cuttlebone_http::message::{Event, LeaseTerms, RegisterRequest, TakeoverName, TokenRequest};
use cuttlebone_http::{
    Address, Bearer, Client, ClientError, Config, Ending, Life, Network, ServeError, Server, TokioClock,
};
use cuttlebone_tokens::{FileEpochs, Registry};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

struct Service {
    address: Address,
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
        Self::with(Registry::new(cuttlebone_tokens::Config::default(), TokioClock::new()), config).await
    }

    async fn with(registry: Registry, config: Config) -> Self {
        let server = Server::bind(&"127.0.0.1:0".parse().unwrap(), config).await.unwrap();
        let address = server.address();
        let task = tokio::spawn(server.serve(registry.clone(), core::future::pending()));
        Self { address, registry, task }
    }

    fn client(&self) -> Client {
        Client::new(self.address.clone(), None)
    }
}

fn owner(takeover: TakeoverName) -> RegisterRequest {
    RegisterRequest { name: "n".into(), takeover, limit: None, lease: LeaseTerms::Response }
}

fn token(epoch: Option<u64>) -> TokenRequest {
    TokenRequest { epoch, slots: 1, wait: true, ..TokenRequest::default() }
}

async fn registered(life: &mut Life) -> u64 {
    match life.held(|_| ()).await.unwrap() {
        Event::Registered { epoch, .. } => epoch,
        other => panic!("{other:?}"),
    }
}

async fn granted(life: &mut Life) -> u64 {
    match life.held(|_| ()).await.unwrap() {
        Event::Granted { seq, .. } => seq,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_owner_and_its_holders_live_as_long_as_their_answers_are_open() {
    let service = Service::start(Config::default()).await;
    let client = service.client();
    let mut first = client.register(&owner(TakeoverName::Deny)).await.unwrap();
    let epoch = registered(&mut first).await;
    let mut holder = client.token("n", &token(Some(epoch))).await.unwrap();
    let seq = granted(&mut holder).await;
    let listing = client.list().await.unwrap();
    assert_eq!(
        (listing.registrations[0].state.as_str(), listing.registrations[0].holders[0].seq),
        ("active", seq)
    );

    let taken = client.register(&owner(TakeoverName::Deny)).await.unwrap_err();
    let ClientError::Refused(status, problem) = taken else { panic!("{taken:?}") };
    assert_eq!((status.as_u16(), problem.error.as_str()), (409, "name_taken"));

    // The owner goes; its token may finish; the next incarnation is told that it is next.
    let mut second = client.register(&owner(TakeoverName::Wait)).await.unwrap();
    drop(first);
    let mut told = Vec::new();
    let (next, ()) = tokio::join!(second.held(|event| told.push(event.clone())), async {
        while client.list().await.unwrap().registrations[0].state != "draining" {
            tokio::task::yield_now().await;
        }
        client.release("n", seq).await.unwrap();
        assert_eq!(holder.ending().await.unwrap(), Ending::Released);
    });
    let Event::Registered { epoch: next, .. } = next.unwrap() else { panic!() };
    assert!(next > epoch);
    assert_eq!(told, [Event::Waiting, Event::Draining { epoch: next }]);
    let stale = client.token("n", &token(Some(epoch))).await.unwrap_err();
    let ClientError::Refused(_, problem) = stale else { panic!("{stale:?}") };
    assert_eq!((problem.error.as_str(), problem.detail.as_str()), ("fenced", "fenced"));
}

#[tokio::test]
async fn a_preempted_owner_and_its_holders_are_told_to_stop() {
    let service = Service::start(Config::default()).await;
    let client = service.client();
    let mut first = client.register(&owner(TakeoverName::Deny)).await.unwrap();
    let epoch = registered(&mut first).await;
    let mut holder = client.token("n", &token(Some(epoch))).await.unwrap();
    granted(&mut holder).await;
    let mut second = client.register(&owner(TakeoverName::Preempt)).await.unwrap();
    assert_eq!(holder.ending().await.unwrap(), Ending::Fenced);
    assert_eq!(first.ending().await.unwrap(), Ending::Fenced);
    drop(holder);
    assert!(registered(&mut second).await > epoch);
    client.revoke("n", false).await.unwrap();
    assert_eq!(second.ending().await.unwrap(), Ending::Fenced);
}

#[tokio::test]
async fn tokens_without_an_epoch_share_a_registration_of_the_service_and_its_limit() {
    let service = Service::start(Config::default()).await;
    let client = service.client();
    let two = TokenRequest { limit: Some(2), ..token(None) };
    let mut lives = Vec::new();
    for _ in 0..2 {
        let mut life = client.token("n", &two).await.unwrap();
        granted(&mut life).await;
        lives.push(life);
    }
    let refused = client.token("n", &TokenRequest { wait: false, ..two.clone() }).await.unwrap_err();
    assert!(matches!(refused, ClientError::Refused(_, problem) if problem.error == "would_block"));
    let mut third = client.token("n", &two).await.unwrap();
    drop(lives.pop());
    granted(&mut third).await;
    drop((lives, third));
    while !client.list().await.unwrap().registrations.is_empty() {
        tokio::task::yield_now().await;
    }
}

/// What a proxy does to the connections through it.
const PASS: u8 = 0;
const STALL: u8 = 1;
const RESET: u8 = 2;

/// A network that can be cut. Each connection is one task, so that dropping it resets both sides at once.
async fn network(to: Address) -> (Address, Arc<AtomicU8>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Address::Tcp(listener.local_addr().unwrap().to_string());
    let mode = Arc::new(AtomicU8::new(PASS));
    let Address::Tcp(to) = to else { panic!() };
    let network = Arc::clone(&mode);
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let far = TcpStream::connect(&to).await.unwrap();
            tokio::spawn(carry(near, far, Arc::clone(&network)));
        }
    });
    (address, mode)
}

async fn carry(mut near: TcpStream, mut far: TcpStream, mode: Arc<AtomicU8>) {
    let (mut up, mut down) = ([0; 4_096], [0; 4_096]);
    let mut look = tokio::time::interval(Duration::from_millis(5));
    loop {
        let open = mode.load(Ordering::Relaxed) == PASS;
        if mode.load(Ordering::Relaxed) == RESET {
            near.set_zero_linger().unwrap();
            far.set_zero_linger().unwrap();
            return;
        }
        tokio::select! {
            _ = look.tick() => {}
            n = near.read(&mut up), if open => match n {
                _ if mode.load(Ordering::Relaxed) != PASS => {} // cut while it was under way
                Ok(n) if n > 0 && far.write_all(&up[..n]).await.is_ok() => {}
                _ => return,
            },
            n = far.read(&mut down), if open => match n {
                _ if mode.load(Ordering::Relaxed) != PASS => {}
                Ok(n) if n > 0 && near.write_all(&down[..n]).await.is_ok() => {}
                _ => return,
            },
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_network_means_unknown_until_the_lease_ends_and_the_holder_stops_first() {
    for cut in [STALL, RESET] {
        let lease = Duration::from_millis(800);
        let service = Service::start(Config { lease, network: Network::Between, ..Config::default() }).await;
        let (through, mode) = network(service.address.clone()).await;
        let far = Client::new(through, None).with_timeout(Duration::from_millis(200));
        let renewed = |request| RegisterRequest { lease: LeaseTerms::Renewed, ..request };
        let mut first = far.register(&renewed(owner(TakeoverName::Deny))).await.unwrap();
        let epoch = registered(&mut first).await;
        let request = TokenRequest { lease: LeaseTerms::Renewed, ..token(Some(epoch)) };
        let mut holder = far.token("n", &request).await.unwrap();
        granted(&mut holder).await;

        mode.store(cut, Ordering::Relaxed);
        let order = AtomicU64::new(0);
        let turn = || order.fetch_add(1, Ordering::SeqCst);
        let client = service.client();
        let (stopped, owner_stopped, taken_over) = tokio::join!(
            async {
                assert_eq!(holder.ending().await.unwrap(), Ending::Lost);
                turn()
            },
            async {
                assert_eq!(first.ending().await.unwrap(), Ending::Lost);
                turn()
            },
            async {
                let mut second = client.register(&owner(TakeoverName::Preempt)).await.unwrap();
                let mut told = Vec::new();
                second.held(|event| told.push(event.clone())).await.unwrap();
                assert!(matches!(told[..], [Event::Waiting, Event::Draining { .. }]), "{told:?}");
                turn()
            },
        );
        assert!(stopped < taken_over && owner_stopped < taken_over, "cut {cut}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_whose_stream_is_lost_keeps_its_token_by_renewing_on_another_connection() {
    let lease = Duration::from_millis(600);
    let service = Service::start(Config { lease, network: Network::Between, ..Config::default() }).await;
    let (through, mode) = network(service.address.clone()).await;
    let far = Client::new(through, None).with_timeout(Duration::from_millis(100));
    let request = TokenRequest { lease: LeaseTerms::Renewed, ..token(None) };
    let mut holder = far.token("n", &request).await.unwrap();
    let seq = granted(&mut holder).await;
    mode.store(RESET, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(50)).await;
    mode.store(PASS, Ordering::Relaxed);
    assert!(tokio::time::timeout(3 * lease, holder.ending()).await.is_err(), "it goes on for leases");
    let held = service.registry.lookup("n", 1).unwrap();
    assert_eq!(held.holders[0].seq.0, seq);
    // It hears of a fence through its renewals.
    service.registry.fence("n");
    assert_eq!(holder.ending().await.unwrap(), Ending::Fenced);
}

/// One request as any program would write it; the answer up to its end or 64 KiB.
async fn raw(address: &Address, request: String) -> String {
    let Address::Tcp(address) = address else { panic!() };
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = vec![0; 65_536];
    let n = stream.read(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer[..n]).into_owned()
}

fn post(path: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

#[tokio::test]
async fn bad_input_is_answered_with_one_json_object_that_says_what_to_do() {
    let service = Service::start(Config { sessions_max: 1, ..Config::default() }).await;
    for (request, status, word) in [
        (post("/v1/registrations", "{"), "400", "bad_request"),
        (post("/v1/registrations", r#"{"name":""}"#), "400", "bad_name"),
        (post("/v1/registrations", r#"{"name":"n","surplus":1}"#), "400", "bad_request"),
        (post("/v1/registrations/n/tokens", r#"{"epoch":7}"#), "404", "not_registered"),
        (post("/v1/registrations/n/tokens", r#"{"epoch":7,"limit":3}"#), "400", "bad_request"),
        (post("/v1/registrations/n/tokens", r#"{"slots":9}"#), "400", "too_many"),
        (post("/v1/registrations/n/reclaims", r#"{"epoch":1,"seq":1}"#), "410", "nothing_to_reclaim"),
        (
            post("/v1/registrations", &format!("{{\"name\":\"{}\"}}", "x".repeat(20_000))),
            "400",
            "bad_request",
        ),
        ("DELETE /v1/registrations/n HTTP/1.1\r\nhost: x\r\n\r\n".into(), "404", "not_found"),
        ("GET /nonsense HTTP/1.1\r\nhost: x\r\n\r\n".into(), "404", "not_found"),
    ] {
        let answer = raw(&service.address, request.clone()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request:.80}: {answer}");
        let body: serde_json::Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
        assert_eq!(body["error"], word, "{request:.80}");
        assert!(body["detail"].is_string() && body["hint"].is_string());
    }
    let mut held = service.client().token("n", &token(None)).await.unwrap();
    granted(&mut held).await;
    let crowded = service.client().token("m", &token(None)).await.unwrap_err();
    assert!(matches!(crowded, ClientError::Refused(_, problem) if problem.error == "at_capacity"));
}

#[tokio::test]
async fn a_listener_that_others_can_reach_needs_a_bearer_token_and_asks_for_it() {
    let open = Server::bind(&"0.0.0.0:0".parse().unwrap(), Config::default()).await.unwrap_err();
    assert!(matches!(open, ServeError::TokenRequired(_)), "{open}");
    let bearer = Bearer::new("correct horse\n").unwrap();
    let service = Service::start(Config { bearer: Some(bearer.clone()), ..Config::default() }).await;
    for wrong in [None, Bearer::new("correct hors"), Bearer::new("correct horse2"), Bearer::new("x")] {
        let refused = Client::new(service.address.clone(), wrong).list().await.unwrap_err();
        assert!(matches!(refused, ClientError::Refused(status, _) if status == 401));
    }
    Client::new(service.address.clone(), Some(bearer.clone())).list().await.unwrap();
    assert_eq!(format!("{bearer:?}"), "[redacted]");
}

#[tokio::test]
async fn a_unix_socket_is_private_survives_a_killed_service_and_belongs_to_one() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let address: Address = format!("unix:{}", path.display()).parse().unwrap();
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap()); // a killed service leaves its file
    let server = Server::bind(&address, Config::default()).await.unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let registry = Registry::new(cuttlebone_tokens::Config::default(), TokioClock::new());
    let task = tokio::spawn(server.serve(registry, core::future::pending()));
    let mut life = Client::new(address.clone(), None).token("n", &token(None)).await.unwrap();
    granted(&mut life).await;
    let second = Server::bind(&address, Config::default()).await.unwrap_err();
    assert!(matches!(second, ServeError::Listen(..)));
    task.abort();
    let _aborted = task.await;
    assert!(!Path::new(&path).exists());
    std::fs::write(&path, b"somebody's file").unwrap();
    assert!(
        Server::bind(&address, Config::default()).await.is_err(),
        "a file that is no socket is left alone"
    );
    assert_eq!(std::fs::read(&path).unwrap(), b"somebody's file");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restart_of_the_service_an_old_token_is_reclaimed_and_drained() {
    let directory = tempfile::tempdir().unwrap();
    let config = cuttlebone_tokens::Config {
        recovery: Duration::from_millis(700),
        ..cuttlebone_tokens::Config::default()
    };
    let open = async || {
        let store = FileEpochs::open(directory.path()).unwrap();
        Registry::open(config.clone(), TokioClock::new(), store).await.unwrap()
    };
    let lease = Duration::from_millis(700);
    let service = Service::with(open().await, Config { lease, ..Config::default() }).await;
    let mut life = service.client().token("n", &token(None)).await.unwrap();
    let Event::Granted { epoch, seq, .. } = life.held(|_| ()).await.unwrap() else { panic!() };
    drop(service);
    assert_eq!(life.ending().await.unwrap(), Ending::Lost);

    let registry = loop {
        // The old service's tasks may still be on their way out, and the epoch file is theirs until then.
        match FileEpochs::open(directory.path()) {
            Ok(store) => break Registry::open(config.clone(), TokioClock::new(), store).await.unwrap(),
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let service = Service::with(registry, Config { lease, ..Config::default() }).await;
    let client = service.client();
    let reclaim = cuttlebone_http::message::ReclaimRequest {
        epoch,
        seq,
        class: cuttlebone_http::message::ClassName::default(),
        slots: 1,
    };
    let mut old = client.reclaim("n", &reclaim).await.unwrap();
    assert_eq!(granted(&mut old).await, seq);
    let mut next = client.register(&owner(TakeoverName::Deny)).await.unwrap();
    let order = AtomicU64::new(0);
    let (done, taken_over) = tokio::join!(
        async {
            // Works on for longer than the window, kept by its renewals.
            let going_on = tokio::time::timeout(2 * lease, old.ending()).await;
            assert!(going_on.is_err(), "{going_on:?}");
            let turn = order.fetch_add(1, Ordering::SeqCst);
            drop(old);
            turn
        },
        async {
            assert!(registered(&mut next).await > epoch);
            order.fetch_add(1, Ordering::SeqCst)
        }
    );
    assert!(done < taken_over);
}

#[tokio::test]
async fn a_long_list_comes_in_pages_and_the_client_puts_them_together() {
    let service = Service::start(Config::default()).await;
    let mut registrations = Vec::new();
    for at in 0..2_345 {
        let owner = cuttlebone_tokens::OwnerId(at);
        let name = format!("cell & co/agent-{at:04}");
        let registering = service.registry.register(&name, owner, cuttlebone_tokens::Takeover::Deny);
        registrations.push(registering.await.unwrap());
    }
    let listing = service.client().list().await.unwrap();
    let names: Vec<_> = listing.registrations.iter().map(|row| row.name.as_str()).collect();
    let expected: Vec<_> = registrations.iter().map(cuttlebone_tokens::Registration::name).collect();
    assert_eq!((names, listing.more), (expected, false));
}
