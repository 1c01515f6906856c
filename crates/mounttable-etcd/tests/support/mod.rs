//! Real etcd on free loopback ports, and a publisher on it.

#![allow(unreachable_pub, dead_code, clippy::unwrap_used, reason = "helpers of tests")]

use core::time::Duration;
use std::net::TcpListener;
use std::process::Stdio;
use std::sync::Arc;

use cuttlebone_machine::Instant;
use cuttlebone_mounttable::{Kind, Name, Pattern, Server};
use cuttlebone_mounttable_etcd::{Config, EtcdNamespace};
use cuttlebone_publisher::{Clock, Publisher, publisher};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

pub fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub fn server(text: &str) -> Server {
    text.parse().unwrap()
}

/// Members of one etcd cluster; they end with it.
pub struct Cluster {
    folder: tempfile::TempDir,
    /// Client and peer port of each.
    ports: Vec<(u16, u16)>,
    members: Vec<Option<Child>>,
    /// How clients speak to it: `http` or `https`, what etcd is told about that, and what they are told.
    scheme: &'static str,
    arguments: Vec<String>,
    config: Config,
}

impl Cluster {
    pub async fn start(count: usize) -> Self {
        Self::start_with(count, "http", Vec::new(), Config::new::<&str>([])).await
    }

    pub async fn start_with(
        count: usize,
        scheme: &'static str,
        arguments: Vec<String>,
        config: Config,
    ) -> Self {
        // Held together, so that no two are the same; between here and etcd's own bind somebody else could take one.
        let held: Vec<_> = (0..2 * count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let all: Vec<u16> = held.iter().map(|socket| socket.local_addr().unwrap().port()).collect();
        drop(held);
        let ports = all.chunks(2).map(|pair| (pair[0], pair[1])).collect();
        let (folder, members) = (tempfile::tempdir().unwrap(), Vec::new());
        let mut cluster = Self { folder, ports, members, scheme, arguments, config };
        for member in 0..count {
            let child = cluster.spawn(member);
            cluster.members.push(Some(child));
        }
        cluster.healthy().await;
        cluster
    }

    fn spawn(&self, member: usize) -> Child {
        let (client, peer) = self.ports[member];
        let cluster: Vec<_> = self
            .ports
            .iter()
            .enumerate()
            .map(|(at, (_, peer))| format!("m{at}=http://127.0.0.1:{peer}"))
            .collect();
        Command::new("etcd")
            .args(["--name", &format!("m{member}"), "--logger", "zap", "--log-level", "error"])
            .arg("--data-dir")
            .arg(self.folder.path().join(format!("m{member}")))
            .args(["--listen-client-urls", &format!("{}://127.0.0.1:{client}", self.scheme)])
            .args(["--advertise-client-urls", &format!("{}://127.0.0.1:{client}", self.scheme)])
            .args(&self.arguments)
            .args(["--listen-peer-urls", &format!("http://127.0.0.1:{peer}")])
            .args(["--initial-advertise-peer-urls", &format!("http://127.0.0.1:{peer}")])
            .args(["--initial-cluster", &cluster.join(","), "--initial-cluster-state", "new"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("etcd: install etcd-server")
    }

    pub fn endpoints(&self) -> Vec<String> {
        self.ports.iter().map(|(client, _)| format!("127.0.0.1:{client}")).collect()
    }

    /// Waits until a linearizable read is answered by every member that runs.
    async fn healthy(&self) {
        for (member, (client, _)) in self.ports.iter().enumerate() {
            if self.members[member].is_none() {
                continue;
            }
            let mut config = self.config.clone();
            config.endpoints = vec![format!("{}://127.0.0.1:{client}", self.scheme)];
            loop {
                if let Ok(etcd) = EtcdNamespace::connect(&config).await
                    && etcd.list(&Pattern::everything()).await.is_ok()
                {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    /// `kill -9`.
    pub async fn kill(&mut self, member: usize) {
        let mut child = self.members[member].take().unwrap();
        child.kill().await.unwrap();
    }

    pub async fn restart(&mut self, member: usize) {
        self.members[member] = Some(self.spawn(member));
        self.healthy().await;
    }
}

pub async fn etcdctl(cluster: &Cluster, arguments: &[&str]) -> String {
    let output = Command::new("etcdctl")
        .env("ETCDCTL_API", "3")
        .args(["--endpoints", &cluster.endpoints().join(",")])
        .args(arguments)
        .output()
        .await
        .expect("etcdctl: install etcd-client");
    assert!(output.status.success(), "etcdctl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Waits for something that another task or process brings about; the test's own time limit ends it.
pub async fn eventually(mut done: impl FnMut() -> bool) {
    while !done() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[derive(Clone)]
pub struct TokioClock(tokio::time::Instant);

impl Clock for TokioClock {
    fn now(&self) -> Instant {
        Instant::ZERO + self.0.elapsed()
    }

    async fn sleep_until(&self, at: Instant) {
        tokio::time::sleep_until(self.0 + at.since(Instant::ZERO)).await;
    }
}

/// A publisher on a task, with short times.
pub struct Running {
    pub publisher: Publisher<EtcdNamespace, TokioClock>,
    clock: TokioClock,
    task: JoinHandle<()>,
    entries: Arc<usize>,
}

impl Running {
    /// Publishes so many names for so many servers, and waits until all are mounted.
    pub async fn start(cluster: &Cluster, names: usize, servers: usize) -> Self {
        let clock = TokioClock(tokio::time::Instant::now());
        let mut config = cuttlebone_publisher::Config::default();
        config.period = Duration::from_secs(2);
        config.slack = Duration::from_secs(2);
        config.call_timeout = Duration::from_secs(1);
        config.retry_max = Duration::from_secs(1);
        let etcd = EtcdNamespace::connect(&Config::new(cluster.endpoints())).await.unwrap();
        let (publisher, driver) = publisher(config, vec![etcd], clock.clone(), 1).unwrap();
        let task = tokio::spawn(driver.run());
        for at in 0..names {
            drop(publisher.add_name(&name(&format!("cell/{}/n{at}", at % 7)), Kind::Server).unwrap());
        }
        for at in 0..servers {
            let added = publisher.add_server(&server(&format!("h:{}", at + 1))).unwrap();
            assert_eq!(added.await, cuttlebone_publisher::Settled::Applied);
        }
        Self { publisher, clock, task, entries: Arc::new(names * servers) }
    }

    pub fn shown_as_mounted(&self) -> usize {
        self.publisher.status().iter().filter(|status| status.is_mounted()).count()
    }

    /// Servers that etcd has.
    pub async fn mounted(&self, cluster: &Cluster) -> usize {
        let etcd = EtcdNamespace::connect(&Config::new(cluster.endpoints())).await.unwrap();
        let snapshot = etcd.list(&Pattern::everything()).await;
        snapshot.map_or(0, |snapshot| snapshot.found.iter().map(|found| found.servers.len()).sum())
    }

    pub async fn all_are_back(&self, cluster: &Cluster) {
        loop {
            if self.mounted(cluster).await >= *self.entries && self.shown_as_mounted() >= *self.entries {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub async fn stop(self) {
        self.publisher.stop(self.clock.now() + Duration::from_secs(8));
        let report = self.publisher.closed().await;
        assert!(report.left.is_empty(), "{} are left", report.left.len());
        self.task.await.unwrap();
    }

    /// As `kill -9` would: nothing is withdrawn.
    pub fn kill(self) {
        self.task.abort();
    }
}
