//! Real etcd on free loopback ports; ends with the test.

use core::time::Duration;
use std::net::TcpListener;
use std::process::Stdio;

use cuttlebone_tokens::EpochStore;
use cuttlebone_tokens_etcd::{Config, EtcdEpochs};
use tokio::process::{Child, Command};

/// The members of one cluster.
pub(crate) struct Cluster {
    folder: tempfile::TempDir,
    /// Client and peer port of each.
    ports: Vec<(u16, u16)>,
    members: Vec<Option<Child>>,
}

impl Cluster {
    pub(crate) async fn start(count: usize) -> Self {
        // Held together, so that no two are the same; between here and etcd's own bind somebody else could take one.
        let held: Vec<_> = (0..2 * count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let all: Vec<u16> = held.iter().map(|socket| socket.local_addr().unwrap().port()).collect();
        drop(held);
        let ports = all.chunks(2).map(|pair| (pair[0], pair[1])).collect();
        let mut cluster = Self { folder: tempfile::tempdir().unwrap(), ports, members: Vec::new() };
        cluster.members = (0..count).map(|member| Some(cluster.spawn(member))).collect();
        cluster.healthy().await;
        cluster
    }

    fn spawn(&self, member: usize) -> Child {
        let (client, peer) = self.ports[member];
        let name = |(at, (_, peer)): (usize, &(u16, u16))| format!("m{at}=http://127.0.0.1:{peer}");
        let cluster: Vec<_> = self.ports.iter().enumerate().map(name).collect();
        Command::new("etcd")
            .args(["--name", &format!("m{member}"), "--logger", "zap", "--log-level", "error"])
            .arg("--data-dir")
            .arg(self.folder.path().join(format!("m{member}")))
            .args(["--listen-client-urls", &format!("http://127.0.0.1:{client}")])
            .args(["--advertise-client-urls", &format!("http://127.0.0.1:{client}")])
            .args(["--listen-peer-urls", &format!("http://127.0.0.1:{peer}")])
            .args(["--initial-advertise-peer-urls", &format!("http://127.0.0.1:{peer}")])
            .args(["--initial-cluster", &cluster.join(","), "--initial-cluster-state", "new"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("etcd: install etcd-server")
    }

    pub(crate) fn config(&self) -> Config {
        Config::new(self.ports.iter().map(|(client, _)| format!("127.0.0.1:{client}")))
            .with_timeout(Duration::from_secs(2))
    }

    /// Waits until the members that run answer a reservation under a key of its own.
    async fn healthy(&self) {
        loop {
            let config = self.config().with_key("healthy");
            if let Ok(epochs) = EtcdEpochs::connect(&config).await
                && epochs.reserve(1).await.is_ok()
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// `kill -9`.
    pub(crate) async fn kill(&mut self, member: usize) {
        self.members[member].take().unwrap().kill().await.unwrap();
    }

    pub(crate) async fn restart(&mut self, member: usize) {
        self.members[member] = Some(self.spawn(member));
        self.healthy().await;
    }
}
