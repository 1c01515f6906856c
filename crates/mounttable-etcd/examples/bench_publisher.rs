//! What publishing on etcd costs, beside the old ways: `cargo xtask bench publisher --json`.
//!
//! One JSON object a line for each number of entries: registering them in transactions and one by one, and refreshing
//! them by one keep-alive and by writing each again. Needs `etcd` in the path; its data goes to a temporary directory.

#![allow(
    clippy::unwrap_used,
    reason = "a benchmark that cannot start has nothing better to do than to say so"
)]

use core::time::Duration;
use std::net::TcpListener;
use std::process::Stdio;

use cuttlebone_mounttable::{Kept, Mount, Namespace, Pattern, Ttl};
use cuttlebone_mounttable_etcd::{Config, EtcdNamespace};
use tokio::process::Command;
use tokio::time::Instant;

/// Entries of each measurement; the old ways are measured up to the second, and by a sample beyond.
const ENTRIES: [usize; 3] = [1000, 10_000, 100_000];
/// Entries that the old ways are measured with at most.
const ONE_BY_ONE_MAX: usize = 10_000;
/// Keep-alives, of which the median counts.
const KEEPS: usize = 101;

#[tokio::main]
async fn main() {
    let folder = tempfile::tempdir().unwrap();
    let sockets: Vec<_> = (0..2).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let [client, peer] = [0, 1].map(|at: usize| format!("http://{}", sockets[at].local_addr().unwrap()));
    drop(sockets);
    let mut etcd = Command::new("etcd")
        .arg("--data-dir")
        .arg(folder.path())
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("default={peer}"), "--logger", "zap", "--log-level", "error"])
        .args(["--quota-backend-bytes", "4294967296"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("etcd: install etcd-server");
    let endpoint = client.trim_start_matches("http://").to_owned();
    loop {
        let namespace = EtcdNamespace::connect(&Config::new([endpoint.as_str()])).await.unwrap();
        if namespace.list(&Pattern::everything()).await.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for entries in ENTRIES {
        measure(&endpoint, entries).await;
    }
    etcd.kill().await.unwrap();
}

async fn measure(endpoint: &str, entries: usize) {
    let connect = || async { EtcdNamespace::connect(&Config::new([endpoint])).await.unwrap() };
    let mounts: Vec<Mount> = (0..entries).map(mount).collect();

    let batched = connect().await;
    let start = Instant::now();
    for part in mounts.chunks(batched.batch_max()) {
        assert!(batched.mount(part.to_vec()).await.iter().all(Result::is_ok));
    }
    let register = start.elapsed();
    let mut keeps = Vec::new();
    for _ in 0..KEEPS {
        let start = Instant::now();
        assert!(matches!(batched.keep().await, Ok(Kept::For { .. })));
        keeps.push(start.elapsed());
    }
    keeps.sort();
    let keep = keeps[KEEPS / 2];
    batched.release().await.unwrap();

    let single = connect().await;
    let sample = entries.min(ONE_BY_ONE_MAX);
    let start = Instant::now();
    one_by_one(&single, &mounts[..sample]).await;
    let register_single = start.elapsed();
    let start = Instant::now();
    one_by_one(&single, &mounts[..sample]).await;
    let refresh_single = start.elapsed();
    single.release().await.unwrap();
    println!(
        "{{\"schema\":1,\"bench\":\"publisher\",\"entries\":{entries},\"register_seconds\":{:.4},\
         \"keep_seconds\":{:.6},\"one_by_one_entries\":{sample},\"register_one_by_one_seconds\":{:.3},\
         \"refresh_one_by_one_seconds\":{:.3}}}",
        register.as_secs_f64(),
        keep.as_secs_f64(),
        register_single.as_secs_f64(),
        refresh_single.as_secs_f64()
    );
}

async fn one_by_one(namespace: &EtcdNamespace, mounts: &[Mount]) {
    for mount in mounts {
        assert!(namespace.mount(vec![mount.clone()]).await[0].is_ok());
    }
}

fn mount(at: usize) -> Mount {
    let ttl = Ttl::new(Duration::from_secs(300)).unwrap();
    let name = format!("cell{:03}/svc{at:06}", at / 1000);
    Mount::new(name.parse().unwrap(), "10.0.0.1:7000".parse().unwrap(), ttl)
}
