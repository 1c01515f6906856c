//! Over TLS, with certificates that are made for the test.
#![cfg(feature = "tls")]
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod support;

use core::time::Duration;
use std::path::Path;
use std::process::Command;

use cuttlebone_mounttable::{Failure, Kept, Mount, Namespace, Ttl};
use cuttlebone_mounttable_etcd::{Certificate, Config, EtcdNamespace, Identity, TlsOptions};
use support::{Cluster, name, server};

fn openssl(folder: &Path, arguments: &str) {
    let mut command = Command::new("openssl");
    let output = command.current_dir(folder).args(arguments.split(' ')).output().expect("openssl");
    assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// An authority, and a certificate of 127.0.0.1 that is good for both ends.
fn certificates(folder: &Path) {
    let fresh = "req -x509 -newkey rsa:2048 -nodes -days 2";
    openssl(folder, &format!("{fresh} -subj /CN=authority -keyout ca.key -out ca.pem"));
    let signed = "-CA ca.pem -CAkey ca.key -subj /CN=etcd -addext subjectAltName=IP:127.0.0.1";
    let usage = "-addext basicConstraints=CA:FALSE -addext extendedKeyUsage=serverAuth,clientAuth";
    openssl(folder, &format!("{fresh} {signed} {usage} -keyout own.key -out own.pem"));
}

#[tokio::test]
async fn entries_are_mounted_and_kept_over_tls_and_strangers_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let file = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    let trust = || TlsOptions::new().ca_certificate(Certificate::from_pem(file("ca.pem")));
    let known = trust().identity(Identity::from_pem(file("own.pem"), file("own.key")));
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let arguments = [
        ("--cert-file", path("own.pem")),
        ("--key-file", path("own.key")),
        ("--trusted-ca-file", path("ca.pem")),
        ("--client-cert-auth", "true".into()),
    ];
    let arguments = arguments.map(|(name, value)| format!("{name}={value}")).to_vec();
    let config = Config::new::<&str>([]).with_tls(known.clone());
    let cluster = Cluster::start_with(1, "https", arguments, config).await;
    let endpoint = format!("https://{}", cluster.endpoints()[0]);

    let etcd = EtcdNamespace::connect(&Config::new([endpoint.as_str()]).with_tls(known)).await.unwrap();
    let ttl = Ttl::new(Duration::from_secs(4)).unwrap();
    let mount = Mount::new(name("a"), server("h:1"), ttl);
    assert!(etcd.mount(vec![mount.clone()]).await[0].is_ok());
    assert!(matches!(etcd.keep().await, Ok(Kept::For { .. })));
    assert_eq!(etcd.resolve(name("a")).await.unwrap().servers[0].server, server("h:1"));
    etcd.release().await.unwrap();

    // Without a certificate of one's own, without trust in the other's, and without TLS at all.
    let plain = format!("http://{}", cluster.endpoints()[0]);
    for config in [
        Config::new([endpoint.as_str()]).with_tls(trust()),
        Config::new([endpoint.as_str()]).with_tls(TlsOptions::new()),
        Config::new([plain.as_str()]),
    ] {
        let refused = match EtcdNamespace::connect(&config).await {
            Ok(etcd) => etcd.mount(vec![mount.clone()]).await.remove(0).map(drop),
            Err(failure) => Err(failure),
        };
        assert!(matches!(refused, Err(Failure::Unreachable { .. })), "{refused:?}");
    }
}
