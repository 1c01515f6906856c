//! A mount table behind HTTP and its client, over real sockets on loopback.
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use core::time::Duration;

use cuttlebone_http::mounts::message::{Batch, BatchMount, Outcome};
use cuttlebone_http::mounts::{BATCH_ENTRIES_MAX, HttpTables, MountClient, Mounts, Principals};
use cuttlebone_http::{Address, Bearer, Client, ClientError, Config, Face, Server, TokioClock};
use cuttlebone_machine::Instant;
use cuttlebone_mounttable::{
    Before, Dial, Directory, Epoch, Error, Event, Failure, Journal, Kind, Limits, Mount, Name, Namespace,
    Pattern, Permissions, Principal, Resolver, SharedTable, Subtree, Table, Tag, Ttl, Version, Watched,
    Withdrawal,
};
use cuttlebone_publisher::{Clock, Settled, publisher};
use futures::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

const PEOPLE: &str = "ann ann-secret\nbob bob-secret\n";

struct Service {
    address: Address,
    table: SharedTable,
    task: JoinHandle<()>,
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn now(clock: TokioClock) -> Instant {
    cuttlebone_tokens::Clock::now(&clock)
}

impl Service {
    async fn open() -> Self {
        Self::start(Limits::private(), Principals::owner(Principal::new("service")), None).await
    }

    /// With people who have secrets, and an owner who has one too.
    async fn with_people(limits: Limits) -> Self {
        let principals = Principals::parse(Principal::new("service"), PEOPLE).unwrap();
        Self::start(limits, principals, Bearer::new("owner-secret")).await
    }

    async fn start(limits: Limits, principals: Principals, bearer: Option<Bearer>) -> Self {
        let clock = TokioClock::new();
        let table = Table::new(limits, Principal::new("service"));
        let table = SharedTable::new(table, move || now(clock));
        Self::serve(table, principals, Config { bearer, ..Config::default() }, "127.0.0.1:0").await
    }

    async fn serve(table: SharedTable, principals: Principals, config: Config, at: &str) -> Self {
        let server = Server::bind(&at.parse().unwrap(), config).await.unwrap();
        let address = server.address();
        let mounts = Mounts::new(table.clone(), principals);
        let task = tokio::spawn(server.serve(mounts, core::future::pending()));
        Self { address, table, task }
    }

    fn client(&self) -> MountClient {
        MountClient::new(Client::new(self.address.clone(), None))
    }

    fn by(&self, secret: &str) -> MountClient {
        MountClient::new(Client::new(self.address.clone(), Bearer::new(secret)))
    }

    fn host(&self) -> String {
        let Address::Tcp(host) = &self.address else { panic!() };
        host.clone()
    }

    /// One request in plain text, and its answer's status and body.
    async fn raw(&self, request: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.host()).await.unwrap();
        let length = body.len();
        let text = format!(
            "{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n\r\n{body}"
        );
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let status = answer[9..12].parse().unwrap();
        (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
    }

    async fn refused(&self, request: &str, body: &str) -> (u16, String) {
        let (status, body) = self.raw(request, body).await;
        let problem: serde_json::Value = serde_json::from_str(&body).unwrap_or_else(|_| panic!("{body}"));
        for field in ["error", "detail", "hint"] {
            assert!(problem[field].as_str().is_some_and(|text| !text.is_empty()), "{field} in {body}");
        }
        (status, problem["error"].as_str().unwrap().to_owned())
    }
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn mount(at: &str, what: &str) -> Mount {
    Mount::new(name(at), what.parse().unwrap(), Ttl::new(Duration::from_secs(60)).unwrap())
}

async fn found(client: &MountClient, base: &str, pattern: &str) -> Vec<String> {
    let found = client.glob(name(base), pattern.parse().unwrap());
    let mut names: Vec<String> = found.map(|found| found.unwrap().name.to_string()).collect().await;
    names.sort();
    names
}

fn status(error: ClientError) -> (u16, String) {
    match error {
        ClientError::Refused(status, problem) => (status.as_u16(), problem.error),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn entries_are_mounted_resolved_found_and_withdrawn() {
    let service = Service::open().await;
    let client = service.client();
    let batch = vec![
        mount("cell7/store", "10.0.0.1:7000"),
        mount("cell7/50% of/%2F\"\\", "[::1]:7/x y").with_kind(Kind::Leaf),
        mount("cell7/../.", "h:1"),
        mount("ünï/?glob=x&#", "h:1").with_epoch(Epoch(u64::MAX)),
    ];
    let mounted = client.mount(batch.clone()).await;
    assert!(mounted.iter().all(|mounted| mounted.as_ref().unwrap().before == Before::Absent), "{mounted:?}");
    let again = client.mount(batch.clone()).await;
    assert!(again.iter().all(|mounted| mounted.as_ref().unwrap().before == Before::Present));
    for entry in &batch {
        let resolved = client.resolve(entry.name.join(&name("a/b")).unwrap()).await.unwrap();
        assert_eq!((&resolved.mount, resolved.suffix), (&entry.name, name("a/b")));
        assert_eq!(resolved.kind, entry.kind);
        assert_eq!((&resolved.servers[0].server, resolved.servers[0].epoch), (&entry.server, entry.epoch));
        assert!(resolved.servers[0].left.is_some_and(|left| left > Duration::from_secs(50)));
    }
    assert_eq!(found(&client, "", "*").await, ["cell7", "ünï"]);
    assert_eq!(found(&client, "cell7", "...").await.len(), 6);
    assert_eq!(found(&client, "ünï", "\\?glob=x&#").await, ["?glob=x&#"]);
    for entry in batch {
        let gone = Withdrawal::new(entry.name.clone(), entry.server, entry.epoch);
        assert_eq!(client.unmount(vec![gone]).await, [Ok(())]);
        assert_eq!(client.resolve(entry.name).await, Err(Failure::Refused(Error::NoSuchName)));
    }
    assert_eq!(service.table.counters().nodes, 1);
}

#[tokio::test]
async fn what_a_table_refuses_comes_back_as_the_same_refusal() {
    let service = Service::open().await;
    let client = service.client();
    let answers = client
        .mount(vec![
            mount("a", "h:1").with_epoch(Epoch(8)),
            mount("a", "h:1").with_epoch(Epoch(7)),
            mount("a", "h:2").with_kind(Kind::Table),
            mount("a/b", "h:1"),
            mount("", "h:1"),
            mount("c", "h:1"),
        ])
        .await;
    assert!(answers[0].is_ok() && answers[5].is_ok(), "one that is refused spoils nothing");
    assert_eq!(answers[1], Err(Failure::Refused(Error::Fenced { newer: Epoch(8) })));
    for (at, part) in [(2, "of kind Server"), (3, "answer for everything below")] {
        let Err(Failure::Foreign { reason }) = &answers[at] else { panic!("{:?}", answers[at]) };
        assert!(reason.contains(part), "{reason}");
    }
    assert_eq!(answers[4], Err(Failure::Refused(Error::Root)));
    let late = Withdrawal::new(name("a"), "h:1".parse().unwrap(), Epoch(7));
    assert_eq!(client.unmount(vec![late]).await, [Err(Failure::Refused(Error::Fenced { newer: Epoch(8) }))]);
    assert_eq!(client.resolve(Name::root()).await, Err(Failure::Refused(Error::Root)));
    let Err(nowhere) = client.find(&name("nowhere"), &Pattern::everything()).await else { panic!() };
    assert_eq!(status(nowhere), (404, "no_such_name".into()));
}

#[tokio::test]
async fn bad_input_is_a_problem_with_a_word_a_sentence_and_a_hint() {
    let service = Service::open().await;
    let good = r#"{"server":"h:1","ttl_ms":1000}"#;
    let long = format!("PUT /v1/mounts/{}", "x".repeat(513));
    let deep = format!("GET /v1/mounts/{}", "a/".repeat(65));
    let big = format!(r#"{{"server":"h:1","ttl_ms":1,"kind":"{}"}}"#, "x".repeat(20_000));
    let many = vec![r#"{"name":"a","server":"h:1"}"#; BATCH_ENTRIES_MAX + 1].join(",");
    let many = format!(r#"{{"unmount":[{many}]}}"#);
    for (request, body, expected) in [
        ("PATCH /v1/mounts/a", "", (405, "method_not_allowed")),
        ("GET /v1/mount", "", (404, "not_found")),
        ("GET /v1/mounts", "", (400, "root")),
        ("GET /v1/mounts/", "", (400, "root")),
        ("GET /v1/mounts//", "", (400, "root")),
        ("PUT /v1/mounts", good, (400, "root")),
        ("DELETE /v1/mounts?subtree=delete", "", (400, "root")),
        ("GET /v1/mounts/nothing", "", (404, "no_such_name")),
        ("GET /v1/mounts/%ff", "", (400, "bad_request")),
        ("GET /v1/mounts/a%00b", "", (400, "bad_name")),
        (&*long, good, (400, "bad_name")),
        (&*deep, "", (400, "bad_name")),
        ("GET /v1/mounts?glob=[", "", (400, "bad_pattern")),
        ("GET /v1/mounts?watch=%5C", "", (400, "bad_pattern")),
        ("GET /v1/mounts?glob=*&watch=*", "", (400, "bad_request")),
        ("GET /v1/mounts?glob=*&glob=*", "", (400, "bad_request")),
        ("GET /v1/mounts?glub=*", "", (400, "bad_request")),
        ("GET /v1/mounts/nothing?glob=*", "", (404, "no_such_name")),
        ("PUT /v1/mounts/a", "", (400, "bad_request")),
        ("PUT /v1/mounts/a", "[]", (400, "bad_request")),
        ("PUT /v1/mounts/a", r#"{"server":"h:1"}"#, (400, "bad_request")),
        ("PUT /v1/mounts/a", r#"{"server":"h:1","ttl_ms":0}"#, (400, "bad_request")),
        ("PUT /v1/mounts/a", r#"{"server":"h:1","ttl_ms":-1}"#, (400, "bad_request")),
        ("PUT /v1/mounts/a", r#"{"server":"h:1","ttl_ms":1,"ttl":1}"#, (400, "bad_request")),
        ("PUT /v1/mounts/a", r#"{"server":"host","ttl_ms":1}"#, (400, "bad_server")),
        ("PUT /v1/mounts/a", &big, (400, "bad_request")),
        ("DELETE /v1/mounts/a?server=host", "", (400, "bad_server")),
        ("DELETE /v1/mounts/a?server=h:1&subtree=keep", "", (400, "bad_request")),
        ("DELETE /v1/mounts/a?subtree=all", "", (400, "bad_request")),
        ("POST /v1/mounts", "{", (400, "bad_request")),
        ("POST /v1/mounts", &many, (400, "bad_request")),
        ("PUT /v1/permissions/a", r#"{"permissions":{"owner":["x"]}}"#, (400, "bad_request")),
        ("GET /v1/permissions/nothing", "", (404, "no_such_name")),
        ("PUT /v1/permissions/a", r#"{"permissions":{},"version":9}"#, (412, "version")),
    ] {
        let (status, error) = service.refused(request, body).await;
        assert_eq!((status, error.as_str()), expected, "{request} {body}");
    }
    assert_eq!(service.table.counters().nodes, 1, "nothing was done");
    let (status, body) = service.raw("PUT /v1/mounts/a", r#"{"server":"h:1","ttl_ms":"forever"}"#).await;
    assert_eq!((status, body.as_str()), (200, r#"{"ttl_ms":"forever","known":false}"#));
    let (status, body) = service.raw("GET /v1/mounts/a/b", "").await;
    let expected = r#"{"schema":1,"mount":"a","suffix":"b","kind":"server","servers":[{"server":"h:1","left_ms":null,"epoch":0}]}"#;
    assert_eq!((status, body.as_str()), (200, expected));
    assert_eq!(service.raw("DELETE /v1/mounts/a", "").await.0, 204);
    assert_eq!(service.raw("DELETE /v1/mounts/a", "").await.0, 204, "what was wanted is so");
}

#[tokio::test]
async fn a_secret_makes_a_principal_and_permissions_and_quotas_are_its() {
    let mut limits = Limits::default();
    limits.nodes_per_principal_max = Some(3);
    let service = Service::with_people(limits).await;
    let (ann, bob, owner) = (service.by("ann-secret"), service.by("bob-secret"), service.by("owner-secret"));
    for nobody in [service.client(), service.by("ann-secre"), service.by("x")] {
        let refused = nobody.resolve_step(&name("a")).await.unwrap_err();
        assert_eq!(status(refused), (401, "unauthorized".into()));
        assert!(matches!(nobody.mount(vec![mount("a", "h:1")]).await[0], Err(Failure::Forbidden { .. })));
    }
    let everybody =
        Permissions::none().allow(Tag::Admin, "service").allow(Tag::Create, "...").allow(Tag::Read, "...");
    owner.set_permissions(&Name::root(), &everybody, None).await.unwrap();
    let mine = Permissions::none().allow(Tag::Admin, "ann").allow(Tag::Resolve, "...");
    ann.set_permissions(&name("ann"), &mine, Some(Version(0))).await.unwrap();
    assert_eq!(ann.permissions(&name("ann")).await.unwrap(), Some((mine, Version(1))));
    assert!(ann.mount(vec![mount("ann/phone", "h:1")]).await[0].is_ok());
    let denied = bob.mount(vec![mount("ann/tablet", "h:2")]).await.remove(0);
    assert!(
        matches!(&denied, Err(Failure::Forbidden { reason }) if reason.contains("bob may not create")),
        "{denied:?}"
    );
    assert!(bob.resolve(name("ann/phone")).await.is_ok());
    assert_eq!(status(bob.permissions(&name("ann")).await.unwrap_err()), (403, "denied".into()));
    assert_eq!(status(bob.delete(&name("ann"), Subtree::Delete).await.unwrap_err()), (403, "denied".into()));
    let over = ann.mount(vec![mount("ann/b", "h:1"), mount("ann/c", "h:1")]).await;
    assert!(over[0].is_ok() && over[1].is_err(), "ann, phone and b are three");
    assert!(bob.mount(vec![mount("bob/a", "h:1")]).await[0].is_ok());
    let bobs = owner.permissions(&name("bob")).await.unwrap().unwrap().0;
    assert_eq!(bobs.patterns(Tag::Admin), ["bob", "service"], "the parent's, and its creator's");
    ann.delete(&name("ann"), Subtree::Delete).await.unwrap();
    assert_eq!(found(&bob, "", "*").await, ["bob"]);
}

#[tokio::test]
async fn a_watch_lists_follows_and_tells_of_what_expires_although_nobody_calls() {
    let service = Service::open().await;
    let client = service.client();
    client.mount(vec![mount("a/1", "h:1"), mount("b/1", "h:1")]).await;
    let mut watch = client.watch(&name("a"), &Pattern::everything()).await.unwrap();
    let Ok(Watched::Present(first)) = watch.next().await.unwrap() else { panic!("the list first") };
    assert_eq!(first.name, name("1"), "relative to where the watch begins");
    let Ok(Watched::Listed(revision)) = watch.next().await.unwrap() else { panic!("then its revision") };
    let brief = Mount::new(name("a/2"), "h:2".parse().unwrap(), Ttl::new(Duration::from_millis(1)).unwrap());
    client.mount(vec![brief, mount("b/2", "h:1")]).await;
    let mut seen = Vec::new();
    for _ in 0..2 {
        let Ok(Watched::Change(change)) = watch.next().await.unwrap() else { panic!("then changes") };
        assert!(change.revision > revision);
        seen.push((change.name.to_string(), change.event));
    }
    let mounted = Event::Mounted { kind: Kind::Server, epoch: Epoch(0) };
    assert_eq!(seen, [("2".into(), mounted), ("2".into(), Event::Expired)]);
}

#[tokio::test]
async fn a_watcher_that_does_not_read_delays_nobody_and_is_told_that_it_lags() {
    let mut limits = Limits::private();
    limits.changes_max = 64;
    let service = Service::start(limits, Principals::owner(Principal::new("service")), None).await;
    let client = service.client();
    let mut watch = client.watch(&Name::root(), &Pattern::everything()).await.unwrap();
    let long = "x".repeat(500);
    // More than the sockets on the way hold.
    for round in 0..400 {
        let batch = (0..32).map(|at| mount(&format!("{long}/{long}/{round}/{at}"), "h:1")).collect();
        assert!(client.mount(batch).await.iter().all(Result::is_ok));
        client.delete(&name(&long), Subtree::Delete).await.unwrap();
    }
    let lagged = loop {
        if let Err(lagged) = watch.next().await.unwrap() {
            break lagged;
        }
    };
    assert!(lagged.oldest > cuttlebone_mounttable::Revision(0));
    assert!(matches!(watch.next().await, Err(ClientError::Unreachable(..))), "that was the last line");
}

#[tokio::test]
async fn a_watch_that_would_list_too_much_and_one_too_many_are_refused() {
    let mut limits = Limits::private();
    (limits.watchers_max, limits.watch_list_max) = (1, 2);
    let service = Service::start(limits, Principals::owner(Principal::new("service")), None).await;
    let client = service.client();
    client.mount(vec![mount("a", "h:1"), mount("b", "h:1"), mount("c", "h:1")]).await;
    let large = client.watch(&Name::root(), &Pattern::everything()).await.unwrap_err();
    assert_eq!(status(large), (507, "full".into()));
    let first = client.watch(&Name::root(), &"[ab]".parse().unwrap()).await.unwrap();
    let second = client.watch(&Name::root(), &"a".parse().unwrap()).await.unwrap_err();
    assert_eq!(status(second), (507, "full".into()));
    drop(first);
    while client.watch(&Name::root(), &"a".parse().unwrap()).await.is_err() {
        tokio::task::yield_now().await; // until the service has seen that the first has gone
    }
}

#[tokio::test]
async fn a_batch_of_the_longest_names_fits() {
    let service = Service::open().await;
    let client = service.client();
    let element = "\"".repeat(511);
    let long = |at: usize| name(&format!("{at:02}/{}", [element.as_str(); 7].join("/")));
    let server = |at: usize| format!("{}:{}/{}", "h".repeat(1000), at + 1, [element.as_str(); 7].join("/"));
    let ttl = Ttl::new(Duration::from_secs(60)).unwrap();
    let batch: Vec<_> =
        (0..BATCH_ENTRIES_MAX).map(|at| Mount::new(long(at), server(at).parse().unwrap(), ttl)).collect();
    assert!(client.mount(batch.clone()).await.iter().all(Result::is_ok));
    assert!(client.resolve(batch[0].name.clone()).await.is_ok());
    let too_many =
        Batch { mount: batch.iter().chain(&batch).map(BatchMount::from).collect(), unmount: vec![] };
    assert!(matches!(client.batch(&too_many).await, Err(ClientError::Refused(..))));
    assert_eq!(client.mount([batch.clone(), batch].concat()).await.len(), 2 * BATCH_ENTRIES_MAX, "in two");
}

#[derive(Clone)]
struct PublisherClock(TokioClock);

impl Clock for PublisherClock {
    fn now(&self) -> Instant {
        now(self.0)
    }

    async fn sleep_until(&self, at: Instant) {
        cuttlebone_tokens::Clock::until(&self.0, at).await;
    }
}

#[tokio::test]
async fn a_publisher_keeps_names_over_http_and_fills_a_service_that_restarted_empty() {
    let first = Service::open().await;
    let clock = PublisherClock(TokioClock::new());
    let mut config = cuttlebone_publisher::Config::default();
    (config.period, config.slack) = (Duration::from_millis(300), Duration::from_secs(2));
    (config.call_timeout, config.retry_max) = (Duration::from_millis(500), Duration::from_millis(500));
    let (publisher, driver) = publisher(config, vec![first.client()], clock.clone(), 1).unwrap();
    let driver = tokio::spawn(driver.run());
    for at in 0..200 {
        drop(publisher.add_name(&name(&format!("n/{at}")), Kind::Server).unwrap());
    }
    assert_eq!(publisher.add_server(&"h:1".parse().unwrap()).unwrap().await, Settled::Applied);
    assert_eq!(first.table.counters().servers, 200);

    // Killed and started again where it was, with nothing in it.
    let host = first.host();
    drop(first);
    let clock_again = TokioClock::new();
    let table = Table::new(Limits::private(), Principal::new("service"));
    let table = SharedTable::new(table, move || now(clock_again));
    let principals = Principals::owner(Principal::new("service"));
    let second = loop {
        // The first one's socket closes when its task has been dropped.
        let config = Config::default();
        if Server::bind(&host.parse().unwrap(), config.clone()).await.is_ok() {
            break Service::serve(table, principals, config, &host).await;
        }
        tokio::task::yield_now().await;
    };
    while second.table.counters().servers < 200 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    publisher.stop(clock.now() + Duration::from_secs(5));
    assert!(publisher.closed().await.left.is_empty());
    assert_eq!(second.table.counters().servers, 0);
    driver.await.unwrap();
}

#[tokio::test]
async fn names_lead_from_one_service_to_the_next_and_secrets_stay_with_whom_they_are_for() {
    let (outer, inner) = (Service::open().await, Service::with_people(Limits::private()).await);
    outer.client().mount(vec![mount("mt", &inner.host()).with_kind(Kind::Table)]).await;
    inner.by("ann-secret").mount(vec![mount("deep/x", "h:1")]).await;
    let known = HttpTables::new().with_bearer(inner.host(), Bearer::new("ann-secret").unwrap());
    let resolver = Resolver::new(vec![outer.client()], known);
    let end = resolver.resolve(&name("mt/deep/x/y")).await.unwrap();
    assert_eq!((end.mount, end.suffix), (name("mt/deep/x"), name("y")));
    let everything = Pattern::everything();
    let names: Vec<_> =
        resolver.glob(&everything).map(|found| found.unwrap().name.to_string()).collect().await;
    assert_eq!(names, ["", "mt", "mt/deep", "mt/deep/x"]);
    let stranger = Resolver::new(vec![outer.client()], HttpTables::new());
    assert!(matches!(stranger.resolve(&name("mt/deep/x")).await, Err(Failure::Forbidden { .. })));
    assert!(
        HttpTables::new().dial("@6@tcp@10.0.0.1:80@@@s@@@").is_err(),
        "an endpoint speaks another protocol"
    );
}

#[tokio::test]
async fn permissions_survive_a_restart_and_a_second_one() {
    let folder = tempfile::tempdir().unwrap();
    let mine = Permissions::none().allow(Tag::Admin, "ann").allow(Tag::Admin, "service");
    for round in 0..3 {
        let clock = TokioClock::new();
        let journal = loop {
            // The journal of the round before is closed when its service's task has been dropped.
            match Journal::open(folder.path()) {
                Ok(journal) => break journal,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        let table = Table::new(Limits::private(), Principal::new("service"));
        let table = SharedTable::with_journal(table, journal, move || now(clock)).unwrap();
        let principals = Principals::owner(Principal::new("service"));
        let service = Service::serve(table, principals, Config::default(), "127.0.0.1:0").await;
        let client = service.client();
        if round == 0 {
            for at in ["a/b", "c", "gone/x"] {
                client.set_permissions(&name(at), &mine, None).await.unwrap();
            }
            client.delete(&name("gone"), Subtree::Delete).await.unwrap();
        }
        assert_eq!(found(&client, "", "...").await, ["", "a", "a/b", "c"], "round {round}");
        for at in ["a/b", "c"] {
            assert_eq!(client.permissions(&name(at)).await.unwrap(), Some((mine.clone(), Version(1))));
        }
    }
}

#[tokio::test]
async fn tokens_and_mounts_share_one_listener() {
    let registry = cuttlebone_tokens::Registry::new(cuttlebone_tokens::Config::default(), TokioClock::new());
    let clock = TokioClock::new();
    let table = Table::new(Limits::private(), Principal::new("service"));
    let table = SharedTable::new(table, move || now(clock));
    let server = Server::bind(&"127.0.0.1:0".parse().unwrap(), Config::default()).await.unwrap();
    let client = Client::new(server.address(), None);
    let mounts = Mounts::new(table, Principals::owner(Principal::new("service")));
    let face = Face::new().with_tokens(registry).with_mounts(mounts);
    let task = tokio::spawn(server.serve(face, core::future::pending()));
    assert!(client.list().await.unwrap().registrations.is_empty());
    let batch = Batch { mount: vec![(&mount("a", "h:1")).into()], unmount: vec![] };
    let answer = MountClient::new(client).batch(&batch).await.unwrap();
    assert!(matches!(answer.mounted[0], Outcome::Mounted(_)));
    task.abort();
}
