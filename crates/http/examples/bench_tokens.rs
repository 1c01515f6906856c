//! What a token costs, beside tokio's semaphore in the same run. Prints one JSON object a line.
//!
//! `cargo xtask bench tokens --json`
#![expect(clippy::unwrap_used, clippy::cast_precision_loss, reason = "a benchmark; figures of four digits")]

use core::hint::black_box;
use core::time::Duration;
use std::fs;
use std::sync::Arc;

use cuttlebone_http::message::{Event, TokenRequest};
use cuttlebone_http::{Client, Config as ServiceConfig, Server, TokioClock};
use cuttlebone_tokens::{Config, Limits, OwnerId, Registration, Registry, Takeover, Token};
use futures::FutureExt;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio::time::Instant;

const HOLDERS: u32 = 1_000_000;
const NAMES: u64 = 100_000;
const HERD: usize = 10_000;
const TASKS: usize = 64;
const CYCLES: u32 = 500;

fn main() {
    for _ in 0..3 {
        uncontended();
        contended(1);
        contended(4);
    }
    herd();
    many_holders();
    many_names();
    takeover();
    for _ in 0..3 {
        over_http();
    }
}

fn say(what: &str, figures: &Value) {
    println!("{}", json!({ "bench": "tokens", "what": what, "figures": figures }));
}

fn registry(tokens: u32) -> Registry {
    let limits = Limits { tokens, grants_max: HOLDERS, ..Limits::default() };
    Registry::new(Config { limits, ..Config::default() }, TokioClock::new())
}

fn register(registry: &Registry, name: &str, owner: u64) -> Registration {
    registry.register(name, OwnerId(owner), Takeover::Deny).now_or_never().unwrap().unwrap()
}

/// The best of twenty blocks: other work on the machine only ever adds.
fn nanos_each(rounds: u32, mut call: impl FnMut()) -> f64 {
    let block = rounds / 20;
    let mut best = f64::MAX;
    for _ in 0..20 {
        let start = Instant::now();
        (0..block).for_each(|_| call());
        best = best.min(start.elapsed().as_nanos() as f64 / f64::from(block));
    }
    best
}

fn uncontended() {
    let rounds = 2_000_000;
    let semaphore = Arc::new(Semaphore::new(1));
    let registry = registry(1);
    let owner = register(&registry, "n", 1);
    let worker = owner.worker();
    let semaphore_try =
        nanos_each(rounds, || drop(black_box(Arc::clone(&semaphore).try_acquire_owned().unwrap())));
    let registry_try = nanos_each(rounds, || drop(black_box(worker.try_acquire().unwrap())));
    let semaphore_wait = nanos_each(rounds, || {
        drop(black_box(Arc::clone(&semaphore).acquire_owned().now_or_never().unwrap().unwrap()));
    });
    let registry_wait =
        nanos_each(rounds, || drop(black_box(worker.acquire().now_or_never().unwrap().unwrap())));
    say(
        "uncontended get and release",
        &json!({
            "semaphore_try_ns": semaphore_try, "registry_try_ns": registry_try,
            "semaphore_acquire_ns": semaphore_wait, "registry_acquire_ns": registry_wait,
            "times": registry_wait / semaphore_wait,
        }),
    );
}

fn two_threads() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// 64 tasks, each holding across one yield; the two in turn, the best of ten.
fn contended(permits: u32) {
    let semaphore = Arc::new(Semaphore::new(permits as usize));
    let registry = registry(permits);
    let owner = register(&registry, "n", 1);
    let runtime = two_threads();
    let (mut by_semaphore, mut by_registry) = (f64::MAX, f64::MAX);
    for _ in 0..10 {
        let each = cycles(&runtime, || {
            let semaphore = Arc::clone(&semaphore);
            async move {
                for _ in 0..CYCLES {
                    let _permit = Arc::clone(&semaphore).acquire_owned().await.unwrap();
                    tokio::task::yield_now().await;
                }
            }
        });
        by_semaphore = by_semaphore.min(each);
        let each = cycles(&runtime, || {
            let worker = owner.worker();
            async move {
                for _ in 0..CYCLES {
                    let _token = worker.acquire().await.unwrap();
                    tokio::task::yield_now().await;
                }
            }
        });
        by_registry = by_registry.min(each);
    }
    say(
        "64 tasks on two threads, held across one yield, per cycle",
        &json!({
            "permits": permits, "semaphore_ns": by_semaphore, "registry_ns": by_registry,
            "times": by_registry / by_semaphore,
        }),
    );
}

fn cycles<F: Future<Output = ()> + Send + 'static>(runtime: &Runtime, task: impl Fn() -> F) -> f64 {
    runtime.block_on(async {
        let start = Instant::now();
        let tasks: Vec<_> = (0..TASKS).map(|_| tokio::spawn(task())).collect();
        futures::future::join_all(tasks).await;
        start.elapsed().as_nanos() as f64 / (f64::from(CYCLES) * TASKS as f64)
    })
}

/// Waiters that come before the first release, granted in order.
fn herd() {
    let registry = registry(1);
    let owner = register(&registry, "n", 1);
    let mut held = owner.acquire().now_or_never().unwrap().unwrap();
    let mut waiters: Vec<_> = (0..HERD).map(|_| owner.acquire()).collect();
    let start = Instant::now();
    assert!(waiters.iter_mut().all(|waiter| waiter.now_or_never().is_none()));
    let queued = start.elapsed();
    let start = Instant::now();
    for waiter in &mut waiters {
        drop(held);
        held = waiter.now_or_never().expect("granted in the order they came").unwrap();
    }
    let served = start.elapsed();
    let each = |took: Duration| took.as_nanos() as f64 / HERD as f64;
    say(
        "herd of 10000 waiters, granted in order",
        &json!({ "queue_ns": each(queued), "serve_ns": each(served) }),
    );
}

fn many_holders() {
    let registry = registry(HOLDERS);
    let owner = register(&registry, "n", 1);
    let mut tokens: Vec<Token> = Vec::with_capacity(HOLDERS as usize);
    tokens.push(owner.acquire().now_or_never().unwrap().unwrap());
    tokens.clear();
    let before = resident();
    let start = Instant::now();
    tokens.extend((0..HOLDERS).map(|_| owner.acquire().now_or_never().unwrap().unwrap()));
    let get = start.elapsed();
    let bytes = (resident() - before) as f64 / f64::from(HOLDERS);
    let one_more = nanos_each(100_000, || {
        let token = tokens.pop().unwrap();
        drop(token);
        tokens.push(owner.acquire().now_or_never().unwrap().unwrap());
    });
    let start = Instant::now();
    tokens.clear();
    let release = start.elapsed();
    let each = |took: Duration| took.as_nanos() as f64 / f64::from(HOLDERS);
    say(
        "1000000 holders of one name",
        &json!({
            "bytes_per_holder_with_its_guard": bytes, "guard_bytes": size_of::<Token>(),
            "get_ns": each(get), "release_ns": each(release), "get_and_release_among_all_ns": one_more,
        }),
    );
}

fn many_names() {
    let registry = registry(1);
    let names: Vec<String> = (0..NAMES).map(|n| format!("cell/agent-{n:06}")).collect();
    let mut registrations = Vec::with_capacity(names.len());
    let before = resident();
    let start = Instant::now();
    registrations.extend(names.iter().zip(0..).map(|(name, owner)| register(&registry, name, owner)));
    let took = start.elapsed();
    let bytes = (resident() - before) as f64 / NAMES as f64;
    let middle = &registrations[registrations.len() / 2];
    let pair = nanos_each(1_000_000, || drop(middle.acquire().now_or_never().unwrap().unwrap()));
    let start = Instant::now();
    registrations.clear();
    let each = |took: Duration| took.as_nanos() as f64 / NAMES as f64;
    say(
        "100000 names",
        &json!({
            "bytes_per_name_with_its_registration": bytes, "register_ns": each(took),
            "unregister_ns": each(start.elapsed()), "get_and_release_of_one_ns": pair,
        }),
    );
}

fn takeover() {
    let registry = registry(1);
    let mut owner = 0;
    let again = nanos_each(200_000, || {
        owner += 1;
        drop(register(&registry, "n", owner));
    });
    let mut current = register(&registry, "n", 0);
    let preempt = nanos_each(200_000, || {
        owner += 1;
        let next = registry.register("n", OwnerId(owner), Takeover::Preempt).now_or_never().unwrap().unwrap();
        current = next;
    });
    say("one name", &json!({ "register_and_unregister_ns": again, "takeover_ns": preempt }));
}

const PAIRS: usize = 4_000;
const CLIENTS: usize = 16;

/// Get and release through HTTP on loopback, clients and service in this process on two threads; and beside it the same
/// requests to a service that does nothing but answer, which is what HTTP costs here.
fn over_http() {
    let runtime = two_threads();
    let plain = runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(plain_service(listener));
        clients(Client::new(address.parse().unwrap(), None), None).await
    });
    let tokens = runtime.block_on(async {
        let server = Server::bind(&"127.0.0.1:0".parse().unwrap(), ServiceConfig::default()).await.unwrap();
        let client = Client::new(server.address(), None);
        let registry = registry(1_000);
        let owner = register(&registry, "n", 1);
        tokio::spawn(server.serve(registry.clone(), core::future::pending()));
        clients(client, Some(owner.epoch().0)).await
    });
    say(
        "get and release over HTTP on loopback, 16 clients",
        &json!({
            "pairs_per_second": tokens.pairs_per_second, "p50_us": tokens.p50_us, "p99_us": tokens.p99_us,
            "cpu_us_per_pair": tokens.cpu_us,
            "plain_pairs_per_second": plain.pairs_per_second, "plain_p50_us": plain.p50_us,
            "plain_p99_us": plain.p99_us, "plain_cpu_us_per_pair": plain.cpu_us,
            "cpu_times": tokens.cpu_us / plain.cpu_us,
        }),
    );
}

struct OverHttp {
    pairs_per_second: f64,
    p50_us: u128,
    p99_us: u128,
    cpu_us: f64,
}

/// Every client has two connections: one that holds, one that gives back.
async fn clients(client: Client, epoch: Option<u64>) -> OverHttp {
    let (start, cpu) = (Instant::now(), cpu_time());
    let tasks = (0..CLIENTS).map(|_| {
        let client = client.clone();
        tokio::spawn(async move {
            let request = TokenRequest { epoch, slots: 1, wait: true, ..TokenRequest::default() };
            let (mut holds, mut releases) =
                (client.connect().await.unwrap(), client.connect().await.unwrap());
            let mut latencies = Vec::with_capacity(PAIRS);
            for _ in 0..PAIRS {
                let start = Instant::now();
                let mut lines = holds.token("n", &request).await.unwrap();
                let Some(Event::Granted { seq, .. }) = lines.next().await.unwrap() else { panic!() };
                releases.release("n", seq).await.unwrap();
                while lines.next().await.unwrap().is_some() {}
                latencies.push(start.elapsed());
            }
            latencies
        })
    });
    let all = futures::future::join_all(tasks.collect::<Vec<_>>()).await;
    let (took, cpu) = (start.elapsed(), cpu_time().saturating_sub(cpu));
    let mut latencies: Vec<_> = all.into_iter().flat_map(Result::unwrap).collect();
    latencies.sort_unstable();
    let percentile = |percent: usize| latencies[(latencies.len() - 1) * percent / 100].as_micros();
    let pairs = latencies.len() as f64;
    OverHttp {
        pairs_per_second: pairs / took.as_secs_f64(),
        p50_us: percentile(50),
        p99_us: percentile(99),
        cpu_us: cpu.as_secs_f64() * 1e6 / pairs,
    }
}

/// Answers what a token service would, from memory.
async fn plain_service(listener: tokio::net::TcpListener) {
    use http_body_util::Full;
    use hyper::{Request, Response, body::Bytes, body::Incoming};
    const GRANTED: &[u8] = br#"{"event":"granted","epoch":1,"seq":123456,"fence":"8f75c61dfd19093f0000000000000007000000000000002a","session":"8f75c61dfd19093f8f75c61dfd19093f","lease_ms":15000}
"#;
    let answer = async |request: Request<Incoming>| {
        let body = if request.method() == hyper::Method::POST { GRANTED } else { b"" };
        Ok::<_, core::convert::Infallible>(Response::new(Full::new(Bytes::from_static(body))))
    };
    while let Ok((stream, _)) = listener.accept().await {
        stream.set_nodelay(true).unwrap();
        tokio::spawn(async move {
            let service = hyper::service::service_fn(answer);
            let stream = hyper_util::rt::TokioIo::new(stream);
            hyper::server::conn::http1::Builder::new().serve_connection(stream, service).await
        });
    }
}

/// What the whole process has used of all processors.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// Resident memory, in bytes.
fn resident() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split_whitespace().nth(1).unwrap().parse().unwrap();
    pages * 4_096
}
