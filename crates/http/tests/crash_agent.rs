//! An agent is killed with work in flight and restarted at once, round after round; the resource behind a gate never
//! takes an old operation after a new one.
//!
//! The agents are processes: this test binary once more, in another role. `CUTTLEBONE_ROUNDS` says how many there are.
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use core::time::Duration;
use std::env;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use cuttlebone_http::message::{Event, LeaseTerms, RegisterRequest, TakeoverName, TokenRequest};
use cuttlebone_http::{Address, Client, Config, Server, TokioClock};
use cuttlebone_machine::{Entropy, SplitMix};
use cuttlebone_tokens::{AdmitError, Epoch, Fence, FenceGate, Registry};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

const ROUNDS: u32 = 250;
const WORKERS: usize = 4;
/// Each worker writes this many operations without waiting for an answer.
const IN_FLIGHT: usize = 8;

/// What the resource saw.
#[derive(Default)]
struct History {
    /// The epoch of every operation that took effect, in order.
    effects: Vec<Epoch>,
    running: Vec<Epoch>,
    refused: usize,
}

/// A resource that takes its time, so that what a dead agent wrote is still unread when its successor's work arrives.
async fn resource(
    listener: TcpListener,
    gate: FenceGate,
    history: Arc<Mutex<History>>,
    newest: watch::Sender<Epoch>,
) {
    let mut random = SplitMix::new(7);
    while let Ok((connection, _)) = listener.accept().await {
        let slow = Duration::from_micros(random.below(3_000));
        tokio::spawn(operations(connection, slow, gate.clone(), Arc::clone(&history), newest.clone()));
    }
}

async fn operations(
    mut connection: TcpStream,
    slow: Duration,
    gate: FenceGate,
    history: Arc<Mutex<History>>,
    newest: watch::Sender<Epoch>,
) {
    let mut bytes = [0; Fence::BYTES];
    while connection.read_exact(&mut bytes).await.is_ok() {
        tokio::time::sleep(slow).await;
        let fence = Fence::from_bytes(&bytes).unwrap();
        let admission = loop {
            match gate.admit(&fence) {
                Ok(admission) => break admission,
                Err(AdmitError::Draining) => gate.advance(fence.epoch()).await,
                Err(AdmitError::Stale) => {
                    history.lock().unwrap().refused += 1;
                    return; // and with it goes what the dead agent wrote behind this one
                }
                Err(error) => panic!("{error}"),
            }
        };
        {
            let mut history = history.lock().unwrap();
            assert!(
                history.running.iter().all(|running| *running == fence.epoch()),
                "two incarnations at once"
            );
            history.running.push(fence.epoch());
            history.effects.push(fence.epoch());
        }
        tokio::time::sleep(slow / 2).await;
        let mut history = history.lock().unwrap();
        let place = history.running.iter().position(|running| *running == fence.epoch()).unwrap();
        history.running.swap_remove(place);
        drop(history);
        drop(admission);
        newest.send_if_modified(|newest| {
            core::mem::replace(newest, fence.epoch().max(*newest)) < fence.epoch()
        });
    }
}

fn start_agent(service: &Address, resource: &str) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", "the_role_of_an_agent", "--ignored", "--nocapture"])
        .env("CUTTLEBONE_SERVICE", service.to_string())
        .env("CUTTLEBONE_RESOURCE", resource)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
#[ignore = "a role that the test below starts as a process"]
fn the_role_of_an_agent() {
    let Ok(service) = env::var("CUTTLEBONE_SERVICE") else { return };
    let resource = env::var("CUTTLEBONE_RESOURCE").unwrap();
    let client = Client::new(service.parse().unwrap(), None);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let request = RegisterRequest {
            name: "agent".into(),
            takeover: TakeoverName::Wait,
            limit: Some(u32::try_from(WORKERS).unwrap()),
            lease: LeaseTerms::Response,
        };
        let mut life = client.register(&request).await.unwrap();
        let Event::Registered { epoch, .. } = life.held(|_| ()).await.unwrap() else { panic!() };
        let workers = (0..WORKERS).map(|_| work(client.clone(), resource.clone(), epoch));
        futures::future::join_all(workers).await;
    });
}

/// Writes operations until it is killed.
async fn work(client: Client, resource: String, epoch: u64) {
    let request = TokenRequest { epoch: Some(epoch), slots: 1, wait: true, ..TokenRequest::default() };
    loop {
        let mut life = client.token("agent", &request).await.unwrap();
        let Event::Granted { fence, .. } = life.held(|_| ()).await.unwrap() else { panic!() };
        let fence: Fence = fence.parse().unwrap();
        let mut connection = TcpStream::connect(&resource).await.unwrap();
        connection.write_all(&fence.to_bytes().repeat(IN_FLIGHT)).await.unwrap();
    }
}

#[test]
fn no_operation_of_a_killed_agent_takes_effect_after_one_of_its_successor() {
    let rounds = env::var("CUTTLEBONE_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let history = Arc::new(Mutex::new(History::default()));
    runtime.block_on(async {
        let registry = Registry::new(cuttlebone_tokens::Config::default(), TokioClock::new());
        let server = Server::bind(&"127.0.0.1:0".parse().unwrap(), Config::default()).await.unwrap();
        let service = server.address();
        tokio::spawn(server.serve(registry, core::future::pending()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (newest, mut seen) = watch::channel(Epoch(0));
        tokio::spawn(resource(listener, FenceGate::new("agent"), Arc::clone(&history), newest));

        let mut agent = start_agent(&service, &address);
        let mut last = Epoch(0);
        for _ in 0..rounds {
            // It is at work: an operation of it has taken effect, and more are on their way.
            last = *seen.wait_for(|newest| *newest > last).await.unwrap();
            agent.kill().unwrap(); // SIGKILL
            let next = start_agent(&service, &address);
            agent.wait().unwrap();
            agent = next;
        }
        agent.kill().unwrap();
        agent.wait().unwrap();
    });
    let history = history.lock().unwrap();
    assert!(history.effects.is_sorted(), "an old operation took effect after a new one");
    let mut epochs = history.effects.clone();
    epochs.dedup();
    println!(
        "{rounds} rounds: {} operations of {} incarnations took effect, {} late ones were refused",
        history.effects.len(),
        epochs.len(),
        history.refused
    );
    assert!(epochs.len() >= usize::try_from(rounds).unwrap());
    assert!(history.refused > 0, "no operation was ever late, so nothing was shown");
}
