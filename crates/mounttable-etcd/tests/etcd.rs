//! Against real etcd: started on loopback with its data in a temporary directory, ended by its process id.

#![allow(clippy::unwrap_used, clippy::zombie_processes, reason = "helpers of tests are tests")]

mod support;

use core::time::Duration;

use cuttlebone_mounttable::{
    Directory, Epoch, Event, Failure, Kept, Kind, Lease, Mount, Name, Namespace, Pattern, Ttl, Watched,
    Withdrawal,
};
use cuttlebone_mounttable_etcd::{Config, EtcdNamespace};
use cuttlebone_publisher::EntryStatus;
use futures::StreamExt;
use support::{Cluster, Running, etcdctl, eventually, name, server};

fn ttl() -> Ttl {
    Ttl::new(Duration::from_secs(4)).unwrap()
}

fn mount(at: &str, what: &str) -> Mount {
    Mount::new(name(at), server(what), ttl())
}

async fn connect(cluster: &Cluster) -> EtcdNamespace {
    EtcdNamespace::connect(&Config::new(cluster.endpoints())).await.unwrap()
}

#[tokio::test]
async fn an_entry_is_mounted_resolved_with_its_suffix_listed_and_withdrawn() {
    let cluster = Cluster::start(1).await;
    let etcd = connect(&cluster).await;
    let leaf = mount("a/b", "h:1").with_kind(Kind::Leaf);
    assert!(etcd.mount(vec![leaf, mount("c/@d/50%", "h:2/x")]).await.iter().all(Result::is_ok));
    let resolved = etcd.resolve(name("a/b/c/d")).await.unwrap();
    assert_eq!((resolved.mount, resolved.suffix, resolved.kind), (name("a/b"), name("c/d"), Kind::Leaf));
    assert_eq!(etcd.resolve(name("c/@d/50%")).await.unwrap().servers[0].server, server("h:2/x"));
    assert!(etcd.resolve(name("a/bc")).await.is_err() && etcd.resolve(Name::root()).await.is_err());
    let listed = etcd.list(&Pattern::parse("*/b").unwrap()).await.unwrap();
    assert_eq!(listed.found.len(), 1);
    let gone = Withdrawal::new(name("a/b"), server("h:1"), Epoch(0));
    assert!(etcd.unmount(vec![gone]).await[0].is_ok());
    assert!(etcd.resolve(name("a/b")).await.is_err());
    etcd.release().await.unwrap();
    assert!(etcd.list(&Pattern::everything()).await.unwrap().found.is_empty());
    etcd.release().await.unwrap();
}

#[tokio::test]
async fn a_late_withdrawal_of_an_old_incarnation_leaves_the_new_ones_entry() {
    let cluster = Cluster::start(1).await;
    let (old, new) = (connect(&cluster).await, connect(&cluster).await);
    assert!(old.mount(vec![mount("a", "h:1").with_epoch(Epoch(7))]).await[0].is_ok());
    assert!(new.mount(vec![mount("a", "h:1").with_epoch(Epoch(8))]).await[0].is_ok());
    let resolved = old.resolve(name("a")).await.unwrap();
    assert_eq!(resolved.servers.len(), 1, "one server, whoever mounted it");
    assert_eq!(resolved.servers[0].epoch, Epoch(8));
    for epoch in [7, 8] {
        old.unmount(vec![Withdrawal::new(name("a"), server("h:1"), Epoch(epoch))]).await.remove(0).unwrap();
    }
    old.release().await.unwrap();
    assert_eq!(new.resolve(name("a")).await.unwrap().servers[0].epoch, Epoch(8));
}

#[tokio::test]
async fn a_lease_revoked_behind_our_back_is_reported_and_the_next_mount_begins_another() {
    let cluster = Cluster::start(1).await;
    let etcd = connect(&cluster).await;
    assert!(etcd.mount(vec![mount("a", "h:1")]).await[0].is_ok());
    assert!(matches!(etcd.keep().await, Ok(Kept::For { .. })));
    assert!(matches!(etcd.keep().await, Ok(Kept::For { .. })), "over the stream that is open now");
    revoke_all(&cluster).await;
    assert_eq!(etcd.keep().await, Ok(Kept::Lost { lease: Lease(1) }));
    assert_eq!(
        etcd.keep().await,
        Ok(Kept::Lost { lease: Lease(1) }),
        "and again, since the first answer may have been given up"
    );
    assert_eq!(etcd.mount(vec![mount("a", "h:1")]).await[0].as_ref().unwrap().lease, Lease(2));
    revoke_all(&cluster).await;
    assert_eq!(etcd.mount(vec![mount("b", "h:1")]).await, [Err(Failure::LeaseLost { lease: Lease(2) })]);
    assert_eq!(etcd.mount(vec![mount("b", "h:1")]).await[0].as_ref().unwrap().lease, Lease(3));
    assert!(matches!(etcd.keep().await, Ok(Kept::For { .. })));
}

async fn revoke_all(cluster: &Cluster) {
    let leases = etcdctl(cluster, &["lease", "list"]).await;
    for lease in leases.lines().skip(1) {
        etcdctl(cluster, &["lease", "revoke", lease.trim()]).await;
    }
}

#[tokio::test]
async fn a_watch_lists_follows_and_ends_when_what_comes_next_was_compacted() {
    let cluster = Cluster::start(1).await;
    let etcd = connect(&cluster).await;
    assert!(etcd.mount(vec![mount("a/1", "h:1"), mount("b/1", "h:1")]).await.iter().all(Result::is_ok));
    let mut watch = etcd.watch(Pattern::parse("a/*").unwrap()).await.unwrap();
    let Some(Ok(Watched::Present(found))) = watch.next().await else { panic!("the list first") };
    assert_eq!(found.name, name("a/1"));
    let Some(Ok(Watched::Listed(revision))) = watch.next().await else { panic!("then its revision") };
    assert!(etcd.mount(vec![mount("a/2", "h:1"), mount("b/2", "h:1")]).await.iter().all(Result::is_ok));
    let Some(Ok(Watched::Change(change))) = watch.next().await else { panic!("then changes") };
    assert_eq!((change.name, change.revision.0), (name("a/2"), revision.0 + 1));
    etcd.release().await.unwrap();
    let mut gone = Vec::new();
    for _ in 0..2 {
        let Some(Ok(Watched::Change(change))) = watch.next().await else { panic!("the withdrawal") };
        assert_eq!(change.event, Event::Unmounted);
        gone.push(change.name);
    }
    assert_eq!(gone, [name("a/1"), name("a/2")]);
    // Compaction disturbs neither a watch that is up to date nor a new one, only one that would begin before it.
    let now = etcd.list(&Pattern::everything()).await.unwrap().revision;
    etcdctl(&cluster, &["compact", &now.0.to_string()]).await;
    assert!(etcd.mount(vec![mount("a/3", "h:1")]).await[0].is_ok());
    let Some(Ok(Watched::Change(change))) = watch.next().await else { panic!("it goes on") };
    assert_eq!(change.name, name("a/3"));
    let mut late = etcd.watch_from(Pattern::everything(), revision).await.unwrap();
    assert!(matches!(late.next().await, Some(Err(Failure::Unreachable { .. }))));
    assert!(late.next().await.is_none());
    let mut fresh = etcd.watch(Pattern::everything()).await.unwrap();
    assert!(matches!(fresh.next().await, Some(Ok(Watched::Present(_)))));
}

#[tokio::test]
async fn a_listing_of_many_pages_is_complete() {
    let cluster = Cluster::start(1).await;
    let etcd = connect(&cluster).await;
    let batch: Vec<Mount> = (0..2500).map(|at| mount(&format!("n{at}"), "h:1")).collect();
    assert!(etcd.mount(batch).await.iter().all(Result::is_ok));
    assert_eq!(etcd.list(&Pattern::everything()).await.unwrap().found.len(), 2500);
}

#[tokio::test]
async fn a_glob_tells_what_matches_and_the_mounts_that_lead_on() {
    let cluster = Cluster::start(1).await;
    let etcd = connect(&cluster).await;
    let table = mount("mt", "h:1/home").with_kind(Kind::Table);
    assert!(
        etcd.mount(vec![table, mount("a/b", "h:2"), mount("a/c/d", "h:3")]).await.iter().all(Result::is_ok)
    );
    for (base, pattern, expected) in [
        ("", "...", "a/b a/c/d mt"),
        ("", "a/*", "a/b"),
        ("a", "*/d", "b c/d"),
        ("", "mt/x/*", "mt"),
        ("mt/x", "*", ""),
        ("", "nothing/...", "-"),
    ] {
        let found = etcd.glob(name(base), Pattern::parse(pattern).unwrap());
        let mut found: Vec<_> = found.map(Result::unwrap).collect().await;
        found.sort_by(|a, b| a.name.cmp(&b.name));
        let names: Vec<_> = found.iter().map(|found| found.name.to_string()).collect();
        let names = if names.is_empty() { "-".into() } else { names.join(" ") };
        assert_eq!(names, expected, "{base} {pattern}");
        if base == "mt/x" {
            assert_eq!(
                found[0].servers[0].server,
                server("h:1/home/x"),
                "what is left of the name is asked there"
            );
        }
    }
}

#[tokio::test]
async fn a_name_is_emptied_whoever_mounted_its_servers() {
    let cluster = Cluster::start(1).await;
    let (one, other) = (connect(&cluster).await, connect(&cluster).await);
    assert!(one.mount(vec![mount("a", "h:1"), mount("a", "h:2"), mount("a/b", "h:1")]).await[0].is_ok());
    assert!(other.mount(vec![mount("a", "h:1").with_epoch(Epoch(3))]).await[0].is_ok());
    other.remove(&name("a"), Some(&server("h:1"))).await.unwrap();
    assert_eq!(one.resolve(name("a")).await.unwrap().servers.len(), 1);
    other.remove(&name("a"), None).await.unwrap();
    assert_eq!(one.resolve(name("a/b")).await.unwrap().mount, name("a/b"), "what lies below stays");
}

#[tokio::test]
async fn a_user_and_a_password_are_used_and_their_absence_is_refused() {
    let cluster = Cluster::start(1).await;
    for command in [
        &["user", "add", "root:secret"][..],
        &["role", "add", "root"],
        &["user", "grant-role", "root", "root"],
        &["auth", "enable"],
    ] {
        etcdctl(&cluster, command).await;
    }
    let stranger = connect(&cluster).await;
    let refused = stranger.mount(vec![mount("a", "h:1")]).await.remove(0);
    assert!(matches!(refused, Err(Failure::Forbidden { .. })), "{refused:?}");
    let wrong = EtcdNamespace::connect(&Config::new(cluster.endpoints()).with_user("root", "wrong")).await;
    assert!(matches!(wrong, Err(Failure::Forbidden { .. })), "{wrong:?}");
    let config = Config::new(cluster.endpoints()).with_user("root", "secret");
    assert!(!format!("{config:?}").contains("secret"));
    let etcd = EtcdNamespace::connect(&config).await.unwrap();
    assert!(etcd.mount(vec![mount("a", "h:1")]).await[0].is_ok());
    assert!(matches!(etcd.keep().await, Ok(Kept::For { .. })));
}

#[tokio::test]
async fn published_names_come_back_by_themselves_after_a_revoked_lease() {
    let cluster = Cluster::start(1).await;
    let running = Running::start(&cluster, 300, 2).await;
    revoke_all(&cluster).await;
    assert!(running.mounted(&cluster).await < 600);
    running.all_are_back(&cluster).await;
    running.stop().await;
    assert_eq!(connect(&cluster).await.list(&Pattern::everything()).await.unwrap().found.len(), 0);
}

#[tokio::test]
async fn published_names_survive_kill_9_of_etcd_and_its_restart() {
    let mut cluster = Cluster::start(1).await;
    let running = Running::start(&cluster, 200, 1).await;
    cluster.kill(0).await;
    tokio::time::sleep(Duration::from_secs(5)).await; // Longer than the lease's local deadline: what is tested.
    assert_eq!(running.shown_as_mounted(), 0, "nothing is shown as mounted after its local deadline");
    cluster.restart(0).await;
    running.all_are_back(&cluster).await;
    running.stop().await;
}

#[tokio::test]
async fn one_of_three_members_can_be_killed() {
    let mut cluster = Cluster::start(3).await;
    let running = Running::start(&cluster, 100, 1).await;
    cluster.kill(1).await;
    let added = running.publisher.add_name(&name("while/one/is/gone"), Kind::Server).unwrap();
    tokio::time::timeout(Duration::from_secs(20), added).await.unwrap();
    running.all_are_back(&cluster).await;
    running.stop().await;
}

#[tokio::test]
async fn servers_that_stop_and_start_under_load_are_seen_by_watchers() {
    let cluster = Cluster::start(1).await;
    let reader = connect(&cluster).await;
    let mut watch = reader.watch(Pattern::everything()).await.unwrap();
    let mut copy = std::collections::BTreeSet::new();
    for round in 0..3 {
        let (first, second) = (Running::start(&cluster, 100, 1).await, Running::start(&cluster, 50, 1).await);
        first.stop().await;
        eventually(|| second.publisher.status().iter().all(EntryStatus::is_mounted)).await;
        second.stop().await;
        let fence = format!("fence/{round}");
        reader.mount(vec![mount(&fence, "h:9")]).await.remove(0).unwrap();
        loop {
            match watch.next().await.unwrap().unwrap() {
                Watched::Change(change) if change.name == name(&fence) => break,
                Watched::Change(change) => match change.event {
                    Event::Mounted { epoch, .. } => drop(copy.insert((change.name, change.server, epoch))),
                    _ => copy.retain(|(name, server, _)| *name != change.name || *server != change.server),
                },
                Watched::Present(_) | Watched::Listed(_) => {}
            }
        }
        assert!(copy.is_empty(), "round {round}: {} are left", copy.len());
    }
}

#[tokio::test]
async fn a_publisher_that_is_killed_leaves_nothing_after_its_lease() {
    let cluster = Cluster::start(1).await;
    let running = Running::start(&cluster, 50, 1).await;
    running.kill();
    let reader = connect(&cluster).await;
    let mut watch = reader.watch(Pattern::everything()).await.unwrap();
    let mut left = 0;
    loop {
        match watch.next().await.unwrap().unwrap() {
            Watched::Present(_) => left += 1,
            Watched::Listed(_) => {}
            Watched::Change(change) => {
                assert_eq!(change.event, Event::Unmounted);
                left -= 1;
                if left == 0 {
                    break;
                }
            }
        }
    }
}
