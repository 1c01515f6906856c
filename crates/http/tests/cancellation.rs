//! Every public future of the client and the server, dropped after k polls for every k: nothing stays held.
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use core::pin::{Pin, pin};
use core::task::Poll;
use core::time::Duration;

use cuttlebone_http::message::{
    ClassName, Event, LeaseTerms, ReclaimRequest, RegisterRequest, TakeoverName, TokenRequest,
};
use cuttlebone_http::{Address, Client, Config, Life, Server, TokioClock};
use cuttlebone_tokens::{FileEpochs, Registry};
use futures::future::BoxFuture;
use tokio::task::JoinHandle;

#[path = "../../tokens/tests/support/futures_in.rs"]
mod futures_in;

/// The public futures that have a scene here.
const FUTURES: &[&str] = &[
    "fn bind",
    "fn connect",
    "fn ending",
    "fn held",
    "fn list",
    "fn next", // of the lines of a life
    "fn reclaim",
    "fn register",
    "fn release",
    "fn release",
    "fn renew",
    "fn renew",
    "fn revoke",
    "fn serve",
    "fn token",
    "fn token",
];

/// Calls that hold nothing: a connection and one exchange on it, as `list` and `revoke` are.
const CALLS: &[&str] = &[
    "fn batch",
    "fn changes",
    "fn delete",
    "fn find",
    "fn list_crc",
    "fn permissions",
    "fn reload",
    "fn resolve_step",
    "fn set_permissions",
    "fn status",
    "fn unmount_all",
    "fn update",
    "fn watch",
];

/// Answers that are read line by line, as the lines of a life are; and the change log behind them.
const STREAMS: &[&str] = &["Taken", "fn next", "fn next"];

#[test]
fn no_public_future_is_forgotten_here() {
    let found = futures_in::futures_in(concat!(env!("CARGO_MANIFEST_DIR"), "/src"));
    let mut listed: Vec<_> = [FUTURES, CALLS, STREAMS].concat();
    listed.sort_unstable();
    assert_eq!(found, listed, "what is in the source, and what is listed here: write a scene for a new one");
}

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
    async fn start(registry: Registry) -> Self {
        let config = Config { lease: Duration::from_millis(300), ..Config::default() };
        let server = Server::bind(&"127.0.0.1:0".parse().unwrap(), config).await.unwrap();
        let address = server.address();
        let task = tokio::spawn(server.serve(registry.clone(), core::future::pending()));
        Self { address, registry, task }
    }

    async fn new() -> Self {
        Self::start(Registry::new(cuttlebone_tokens::Config::default(), TokioClock::new())).await
    }

    fn client(&self) -> Client {
        Client::new(self.address.clone(), None)
    }

    /// Nothing is held, and everything works.
    async fn assert_whole(&self, what: &str) {
        let again = async {
            let preempt = RegisterRequest { takeover: TakeoverName::Preempt, ..owner() };
            let mut life = self.client().register(&preempt).await.unwrap();
            let Event::Registered { epoch, .. } = life.held(|_| ()).await.unwrap() else { panic!() };
            let mut held = self.client().token("n", &token(Some(epoch))).await.unwrap();
            held.held(|_| ()).await.unwrap();
            drop((held, life));
            while self.registry.lookup("n", 0).is_some() {
                tokio::task::yield_now().await;
            }
        };
        assert!(tokio::time::timeout(Duration::from_secs(30), again).await.is_ok(), "{what}: wedged");
    }
}

fn owner() -> RegisterRequest {
    let takeover = TakeoverName::Deny;
    RegisterRequest { name: "n".into(), takeover, limit: None, lease: LeaseTerms::Renewed }
}

fn token(epoch: Option<u64>) -> TokenRequest {
    TokenRequest { epoch, slots: 1, wait: true, lease: LeaseTerms::Renewed, ..TokenRequest::default() }
}

/// Polls at most so many times, then drops; `None` if that was not enough.
async fn at_most<F: Future>(polls: usize, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = polls;
    core::future::poll_fn(move |cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match Pin::new(&mut future).poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            // The drop comes with the next wake-up, at once if that was the last poll.
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

async fn granted(client: &Client) -> (Life, u64, u64, String) {
    let mut life = client.token("n", &token(None)).await.unwrap();
    let Event::Granted { epoch, seq, session, .. } = life.held(|_| ()).await.unwrap() else { panic!() };
    (life, epoch, seq, session)
}

type Scene = for<'a> fn(&'a Service, usize) -> BoxFuture<'a, bool>;

/// Each says whether its future came to an end within so many polls.
const SCENES: &[(&str, Scene)] = &[
    ("connect", |service, k| Box::pin(async move { at_most(k, service.client().connect()).await.is_some() })),
    ("list", |service, k| Box::pin(async move { at_most(k, service.client().list()).await.is_some() })),
    ("register", |service, k| {
        Box::pin(async move { at_most(k, service.client().register(&owner())).await.is_some() })
    }),
    ("token", |service, k| {
        Box::pin(async move { at_most(k, service.client().token("n", &token(None))).await.is_some() })
    }),
    ("revoke", |service, k| {
        Box::pin(async move {
            let _held = granted(&service.client()).await;
            at_most(k, service.client().revoke("n", true)).await.is_some()
        })
    }),
    ("release", |service, k| {
        Box::pin(async move {
            let (_life, _, seq, _) = granted(&service.client()).await;
            at_most(k, service.client().release("n", seq)).await.is_some()
        })
    }),
    ("renew", |service, k| {
        Box::pin(async move {
            let (_life, .., session) = granted(&service.client()).await;
            at_most(k, service.client().renew(&session)).await.is_some()
        })
    }),
    ("token on a connection", |service, k| {
        Box::pin(async move {
            let mut connection = service.client().connect().await.unwrap();
            at_most(k, connection.token("n", &token(None))).await.is_some()
        })
    }),
    ("release on a connection", |service, k| {
        Box::pin(async move {
            let (_life, _, seq, _) = granted(&service.client()).await;
            let mut connection = service.client().connect().await.unwrap();
            at_most(k, connection.release("n", seq)).await.is_some()
        })
    }),
    ("renew on a connection", |service, k| {
        Box::pin(async move {
            let (_life, .., session) = granted(&service.client()).await;
            let mut connection = service.client().connect().await.unwrap();
            at_most(k, connection.renew(&session)).await.is_some()
        })
    }),
    ("next", |service, k| {
        Box::pin(async move {
            let mut connection = service.client().connect().await.unwrap();
            let mut lines = connection.token("n", &token(None)).await.unwrap();
            let first = at_most(k, lines.next()).await;
            let done = first.is_some();
            let line = match first {
                Some(line) => line,
                None => lines.next().await, // nothing was lost
            };
            assert!(matches!(line.unwrap(), Some(Event::Granted { .. })));
            done
        })
    }),
    ("held", |service, k| {
        Box::pin(async move {
            let mut life = service.client().token("n", &token(None)).await.unwrap();
            let first = at_most(k, life.held(|_| ())).await;
            let done = first.is_some();
            let line = match first {
                Some(line) => line,
                None => life.held(|_| ()).await, // also not between the line and its first renewal
            };
            assert!(matches!(line.unwrap(), Event::Granted { .. }));
            done
        })
    }),
    ("ending", |service, k| {
        Box::pin(async move {
            let (mut life, _, seq, _) = granted(&service.client()).await;
            if k % 2 == 0 {
                service.client().release("n", seq).await.unwrap();
            }
            at_most(k, life.ending()).await.is_some()
        })
    }),
];

#[tokio::test]
async fn every_call_can_be_dropped_at_every_await_point() {
    for (what, scene) in SCENES {
        let service = Service::new().await;
        let mut finished = false;
        for polls in 0..12 {
            finished |= scene(&service, polls).await;
            service.assert_whole(&format!("{what}, dropped after {polls} polls")).await;
        }
        assert!(finished, "{what} never comes to its end");
    }
}

#[tokio::test]
async fn a_reclaim_can_be_dropped_at_every_await_point() {
    let mut finished = false;
    for polls in 0..16 {
        let directory = tempfile::tempdir().unwrap();
        let config = cuttlebone_tokens::Config {
            recovery: Duration::from_millis(150),
            ..cuttlebone_tokens::Config::default()
        };
        let open = async || {
            let store = FileEpochs::open(directory.path()).unwrap();
            Registry::open(config.clone(), TokioClock::new(), store).await.unwrap()
        };
        let before = open().await;
        let owner = before.register("n", cuttlebone_tokens::OwnerId(1), cuttlebone_tokens::Takeover::Deny);
        let old = owner.await.unwrap().epoch().0;
        drop(before);
        let service = Service::start(open().await).await;
        let request = ReclaimRequest { epoch: old, seq: 1, class: ClassName::Light, slots: 1 };
        finished = at_most(polls, service.client().reclaim("n", &request)).await.is_some();
        service.assert_whole(&format!("reclaim, dropped after {polls} polls")).await;
    }
    assert!(finished);
}

#[tokio::test]
async fn binding_and_serving_can_be_dropped_at_every_await_point() {
    let directory = tempfile::tempdir().unwrap();
    let address: Address = format!("unix:{}", directory.path().join("socket").display()).parse().unwrap();
    let mut finished = false;
    for polls in 0..8 {
        let bound = at_most(polls, Server::bind(&address, Config::default())).await;
        finished |= bound.is_some();
        if let Some(server) = bound {
            let registry = Registry::new(cuttlebone_tokens::Config::default(), TokioClock::new());
            let served =
                at_most(polls, server.unwrap().serve(registry.clone(), core::future::ready(()))).await;
            assert_eq!(served.is_some(), polls > 0);
            assert!(Client::new(address.clone(), None).list().await.is_err(), "the socket is closed");
        }
        // The next round binds the same path.
    }
    assert!(finished);
}
