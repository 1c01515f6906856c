use core::time::Duration;

use cuttlebone_driver::nonce;
use cuttlebone_link::{Backoff, Timing};
use cuttlebone_machine::SplitMix;
use cuttlebone_wire::EntityAddrs;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::Error;

/// A monitor that says nothing for so long gets company: the next one is dialled too.
const PATIENCE: Duration = Duration::from_secs(2);
/// The longest pause before all of them are dialled again.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// What became of looking for one monitor among several.
pub(crate) struct Hunted<T> {
    /// Where in the list the one that answered stands, and its session.
    pub(crate) found: Option<(usize, T)>,
    /// How the last attempt with each of the others ended, where one ended at all.
    pub(crate) failures: Vec<(usize, Error)>,
}

/// Dials the monitors in their order until one answers.
///
/// One with which dialling fails is followed by the next at once, and one that is silent after [`PATIENCE`], so that a
/// dead one costs no more than that: a link dials again by itself while it is refused, so who refuses is silent here.
/// Ceph's own clients dial three at a time instead. When all have failed they are dialled again after a pause, until
/// `within` is over.
///
/// Source: `ceph/ceph:src/common/options.cc`, `mon_client_hunt_parallel`.
pub(crate) async fn hunt<T, F>(
    monitors: &[EntityAddrs],
    within: Duration,
    dial: impl Fn(EntityAddrs) -> F,
) -> Hunted<T>
where
    F: Future<Output = Result<T, Error>>,
{
    let timing = Timing::default();
    let mut backoff = Backoff::new(timing.retry_first, PAUSE_MAX);
    let mut entropy = SplitMix::new(nonce().into());
    let mut failures: Vec<Option<Error>> = monitors.iter().map(|_| None).collect();
    let rounds = async {
        loop {
            if let Some(found) = round(monitors, &dial, &mut failures).await {
                return Some(found);
            }
            // What none of them can mend is not worth another round.
            if !failures.iter().flatten().any(Error::is_retryable) {
                return None;
            }
            sleep(backoff.next(&mut entropy)).await;
        }
    };
    // An instant that cannot be told is as good as never.
    let found = match Instant::now().checked_add(within) {
        Some(deadline) => timeout_at(deadline, rounds).await.ok().flatten(),
        None => rounds.await,
    };
    let failures =
        failures.into_iter().enumerate().filter_map(|(at, failure)| Some((at, failure?))).collect();
    Hunted { found, failures }
}

/// Every monitor once.
async fn round<T, F>(
    monitors: &[EntityAddrs],
    dial: &impl Fn(EntityAddrs) -> F,
    failures: &mut [Option<Error>],
) -> Option<(usize, T)>
where
    F: Future<Output = Result<T, Error>>,
{
    let mut waiting = monitors.iter().enumerate();
    let mut dialled = FuturesUnordered::new();
    loop {
        if let Some((at, addrs)) = waiting.next() {
            let dialling = dial(addrs.clone());
            dialled.push(async move { (at, dialling.await) });
        }
        match timeout(PATIENCE, dialled.next()).await {
            Ok(Some((at, Ok(session)))) => return Some((at, session)),
            Ok(Some((at, Err(error)))) => failures[at] = Some(error),
            Ok(None) => return None,
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use core::future::pending;

    use cuttlebone_wire::EntityAddr;

    use super::*;

    const WITHIN: Duration = Duration::from_secs(30);

    fn monitors() -> Vec<EntityAddrs> {
        ["v2:10.0.0.1:3300/0", "v2:10.0.0.2:3300/0", "v2:10.0.0.3:3300/0"]
            .map(|addr| addr.parse::<EntityAddr>().expect("an address").into())
            .into()
    }

    fn failed() -> Error {
        Error::LinkClosed
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_fails_is_followed_by_the_next_at_once() {
        let monitors = monitors();
        let start = Instant::now();
        let hunted = hunt(
            &monitors,
            WITHIN,
            async |addrs| {
                if addrs == monitors[1] { Ok("here") } else { Err(failed()) }
            },
        );
        let hunted = hunted.await;
        assert_eq!(hunted.found, Some((1, "here")));
        assert!(matches!(hunted.failures[..], [(0, Error::LinkClosed)]), "{:?}", hunted.failures);
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn silent_ones_cost_their_patience_each_and_may_still_answer() {
        let monitors = monitors();
        let start = Instant::now();
        let answers = async |addrs: EntityAddrs| match monitors.iter().position(|one| *one == addrs) {
            Some(0) => {
                sleep(PATIENCE * 3 / 2).await;
                Ok(())
            }
            _ => pending().await,
        };
        assert_eq!(hunt(&monitors, WITHIN, answers).await.found, Some((0, ())), "the first is not given up");
        assert_eq!(start.elapsed(), PATIENCE * 3 / 2);
        let start = Instant::now();
        let last = async |addrs: EntityAddrs| if addrs == monitors[2] { Ok(()) } else { pending().await };
        assert_eq!(hunt(&monitors, WITHIN, last).await.found, Some((2, ())));
        assert_eq!(start.elapsed(), PATIENCE * 2);
    }

    #[tokio::test(start_paused = true)]
    async fn monitors_that_are_being_restarted_are_waited_for_and_no_longer_than_told() {
        let monitors = monitors();
        let start = Instant::now();
        let later = async |_| if start.elapsed() < WITHIN / 2 { Err(failed()) } else { Ok(()) };
        assert_eq!(hunt(&monitors, WITHIN, later).await.found, Some((0, ())));
        let start = Instant::now();
        let hunted = hunt(&monitors, WITHIN, async |_| Err::<(), _>(failed())).await;
        assert_eq!(hunted.found, None);
        assert_eq!(hunted.failures.len(), 3);
        assert_eq!(start.elapsed(), WITHIN);
    }

    #[tokio::test(start_paused = true)]
    async fn what_no_monitor_can_mend_is_not_tried_again() {
        let start = Instant::now();
        let hunted = hunt(&monitors(), WITHIN, async |_| Err::<(), _>(Error::NoMonMap)).await;
        assert_eq!((hunted.found, hunted.failures.len(), start.elapsed()), (None, 3, Duration::ZERO));
    }
}
