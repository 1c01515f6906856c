//! A node whose names and epochs are in real etcd, from a configuration file.

#![cfg(feature = "etcd")]
#![expect(clippy::unwrap_used, reason = "a failure in a test is a panic")]

use core::time::Duration;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use cuttlebone_http::Client;
use cuttlebone_http::message::{Event, LeaseTerms, RegisterRequest, TakeoverName};
use cuttlebone_http::reload::Outcome;
use cuttlebone_mounttable::{Name, Pattern};
use cuttlebone_mounttable_etcd::EtcdNamespace;
use cuttlebone_node::config::Config;
use tokio::sync::oneshot;

const PATIENCE: Duration = Duration::from_secs(60);

/// Ended by its process id with its test.
struct Etcd {
    child: Child,
    endpoint: String,
    _folder: tempfile::TempDir,
}

impl Etcd {
    fn start() -> Self {
        // Held together, so that they differ; between here and etcd's own bind somebody else could take one.
        let sockets = [0, 1].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
        let [client, peer] =
            sockets.each_ref().map(|it| format!("http://127.0.0.1:{}", it.local_addr().unwrap().port()));
        drop(sockets);
        let folder = tempfile::tempdir().unwrap();
        let child = Command::new("etcd")
            .args(["--logger", "zap", "--log-level", "error", "--data-dir"])
            .arg(folder.path().join("data"))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("etcd: install etcd-server");
        Self { child, endpoint: client, _folder: folder }
    }

    /// What is announced below the prefix.
    async fn names(&self) -> Vec<String> {
        let config =
            cuttlebone_mounttable_etcd::Config::new([self.endpoint.as_str()]).with_root("test/mounts");
        let table = EtcdNamespace::connect(&config).await.unwrap();
        let found = table.list(&Pattern::everything()).await;
        let found = found.map(|snapshot| snapshot.found.iter().map(|found| found.name.to_string()).collect());
        found.unwrap_or_default()
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _status = self.child.wait();
    }
}

/// Runs a node until `work` is done, and answers what that answers.
async fn with_node<T>(etcd: &Etcd, work: impl AsyncFnOnce(Client) -> T) -> T {
    let text = format!(
        "[http]\nlisten = \"127.0.0.1:0\"\nlease_s = 1\n[etcd]\nendpoints = [\"{}\"]\n\
         [tokens]\netcd_key = \"test/epochs\"\n\
         [publish]\nnames = [\"cell/store\"]\nserver = \"10.0.0.9:3300\"\netcd_prefix = \"test/mounts\"\n",
        etcd.endpoint
    );
    let config = Config::parse(&text, "node.toml", &[]).unwrap();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    // etcd may not have come up yet.
    let node = loop {
        match config.open(None::<fn() -> Outcome>).await {
            Ok(node) => break node,
            Err(error) => assert!(tokio::time::Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let (handle, (stop, stopped)) = (node.handle(), oneshot::channel::<()>());
    let node = tokio::spawn(node.run(async { drop(stopped.await) }));
    while handle.http().is_none() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let client = Client::new(handle.http().unwrap().trim_start_matches("http://").parse().unwrap(), None);
    let done = work(client).await;
    drop(stop);
    node.await.unwrap().unwrap();
    done
}

async fn epoch(client: &Client) -> u64 {
    let (takeover, lease) = (TakeoverName::Deny, LeaseTerms::Response);
    let request = RegisterRequest { name: "agent".into(), takeover, limit: None, lease };
    match client.register(&request).await.unwrap().held(|_| {}).await.unwrap() {
        Event::Registered { epoch, .. } => epoch,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_in_etcd_while_it_serves_and_epochs_go_on_in_the_next_one() {
    let etcd = Etcd::start();
    let name: Name = "cell/store".parse().unwrap();
    let first = with_node(&etcd, async |client| {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while etcd.names().await != [name.to_string()] {
            assert!(tokio::time::Instant::now() < deadline, "it is not announced");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        epoch(&client).await
    })
    .await;
    assert_eq!(etcd.names().await, Vec::<String>::new(), "withdrawn at its end");
    // Another node with nothing on its disk: the order is etcd's.
    let second = with_node(&etcd, async |client| epoch(&client).await).await;
    assert!(second > first, "{second} after {first}");
}
