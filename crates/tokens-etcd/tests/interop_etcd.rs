//! Against real etcd: races, kills, a lost majority, and registries on two machines.
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod support;

use core::ops::Range;
use core::time::Duration;

use cuttlebone_machine::Instant;
use cuttlebone_tokens::{
    AdmitError, Clock, Config as RegistryConfig, Epoch, EpochStore, EpochStoreError, FenceGate, OwnerId,
    Registry, Sleep, Takeover,
};
use cuttlebone_tokens_etcd::EtcdEpochs;
use support::Cluster;

struct NoTime;

impl Clock for NoTime {
    fn now(&self) -> Instant {
        Instant::ZERO
    }
    fn until(&self, _: Instant) -> Sleep {
        Box::pin(core::future::pending())
    }
}

async fn connect(cluster: &Cluster) -> EtcdEpochs {
    EtcdEpochs::connect(&cluster.config()).await.unwrap()
}

async fn registry(cluster: &Cluster) -> Registry {
    let config = RegistryConfig { epoch_block: 1, ..RegistryConfig::default() };
    Registry::open(config, NoTime, connect(cluster).await).await.unwrap()
}

fn assert_disjoint(mut blocks: Vec<Range<u64>>) {
    blocks.sort_by_key(|block| block.start);
    for pair in blocks.windows(2) {
        assert!(pair[0].end <= pair[1].start, "{pair:?} overlap");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocks_of_two_who_race_never_overlap_and_none_is_lost() {
    let cluster = Cluster::start(1).await;
    let race = |store: EtcdEpochs| async move {
        let mut blocks = Vec::new();
        for count in (1..=7).cycle().take(150) {
            let block = store.reserve(count).await.unwrap();
            assert_eq!(block.end - block.start, count);
            assert!(blocks.last().is_none_or(|last: &Range<u64>| last.end <= block.start), "it went back");
            blocks.push(block);
        }
        blocks
    };
    let (one, two) = (connect(&cluster).await, connect(&cluster).await);
    let (one, two) = tokio::join!(tokio::spawn(race(one)), tokio::spawn(race(two)));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert!(one.iter().any(|block| block.start > two[0].start), "they did not race");
    let blocks: Vec<_> = one.into_iter().chain(two).collect();
    let reserved: u64 = blocks.iter().map(|block| block.end - block.start).sum();
    assert_disjoint(blocks);
    let next = connect(&cluster).await.reserve(1).await.unwrap();
    assert_eq!(next.start, reserved + 1, "nothing failed, so nothing was burned");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_epoch_is_given_out_twice_though_members_are_killed_all_the_time() {
    let mut cluster = Cluster::start(3).await;
    let store = connect(&cluster).await;
    let reserving = tokio::spawn(async move {
        let (mut blocks, mut failed) = (Vec::new(), 0);
        while blocks.len() < 200 {
            match store.reserve(3).await {
                Ok(block) => blocks.push(block),
                Err(EpochStoreError::Unavailable(_)) => failed += 1,
                Err(other) => panic!("{other}"),
            }
        }
        (blocks, failed)
    });
    for round in 0.. {
        if reserving.is_finished() && round >= 3 {
            break;
        }
        cluster.kill(round % 3).await;
        cluster.restart(round % 3).await;
    }
    let (blocks, failed) = reserving.await.unwrap();
    println!("{} blocks, {failed} failures on the way", blocks.len());
    assert!(blocks.windows(2).all(|pair| pair[0].end <= pair[1].start));
    assert_disjoint(blocks);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_majority_nothing_is_given_out_and_afterwards_it_goes_on() {
    let mut cluster = Cluster::start(3).await;
    let store = connect(&cluster).await;
    let before = store.reserve(10).await.unwrap();
    cluster.kill(0).await;
    cluster.kill(1).await;
    assert!(matches!(store.reserve(10).await, Err(EpochStoreError::Unavailable(_))));
    cluster.restart(0).await;
    let after = loop {
        // The connections find their way back by themselves.
        if let Ok(block) = store.reserve(10).await {
            break block;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert!(after.start >= before.end);
}

#[tokio::test]
async fn incarnations_on_two_machines_are_ordered_by_their_epochs_and_the_gate_refuses_the_older() {
    let cluster = Cluster::start(1).await;
    let (here, there) = (registry(&cluster).await, registry(&cluster).await);
    let gate = FenceGate::new("agent");
    let mut last = Epoch(0);
    for (round, machine) in [&here, &there, &there, &here, &there].into_iter().enumerate() {
        let owner = OwnerId(round as u64 + 1);
        let registration = machine.register("agent", owner, Takeover::Preempt).await.unwrap();
        assert!(registration.epoch() > last, "{:?} after {last:?}", registration.epoch());
        let old = last;
        last = registration.epoch();
        let token = registration.acquire().await.unwrap();
        drop(gate.admit(&token.fence()).unwrap());
        let late = cuttlebone_tokens::Fence::new("agent", old, cuttlebone_tokens::Seq(1));
        assert_eq!(gate.admit(&late).unwrap_err(), AdmitError::Stale);
    }
}

#[tokio::test]
async fn a_key_that_holds_no_number_is_an_error_and_never_a_fresh_start() {
    let cluster = Cluster::start(1).await;
    let store = connect(&cluster).await;
    store.reserve(5).await.unwrap();
    let client = etcd_client::Client::connect(cluster.config().endpoints, None).await.unwrap();
    for nonsense in ["", "0", "-4", "+7", "twelve", "99999999999999999999999"] {
        client.kv_client().put("cuttlebone/epochs", nonsense, None).await.unwrap();
        assert!(matches!(store.reserve(1).await, Err(EpochStoreError::Corrupt(_))), "{nonsense:?}");
    }
    client.kv_client().put("cuttlebone/epochs", (u64::MAX - 2).to_string(), None).await.unwrap();
    assert_eq!(store.reserve(3).await, Err(EpochStoreError::Exhausted));
    assert_eq!(store.reserve(2).await, Ok(u64::MAX - 2..u64::MAX));
}

#[tokio::test]
async fn a_reservation_dropped_at_any_await_point_burns_its_block_at_most() {
    let cluster = Cluster::start(1).await;
    let store = connect(&cluster).await;
    let mut last = 0;
    let mut finished = false;
    for polls in 0..12 {
        let mut reserving = store.reserve(1);
        for _ in 0..polls {
            let step = tokio::time::timeout(Duration::from_millis(1), &mut reserving).await;
            if let Ok(block) = step {
                let block = block.unwrap();
                assert!(block.start > last);
                last = block.start;
                finished = true;
                break;
            }
        }
        drop(reserving);
        let block = store.reserve(1).await.unwrap();
        assert!(block.start > last);
        last = block.start;
    }
    assert!(finished);
}
