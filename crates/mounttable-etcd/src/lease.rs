//! The one lease that everything of this namespace is on.

use core::time::Duration;

use cuttlebone_mounttable::{Failure, Kept, Lease, Ttl};
use etcd_client::{Client, Error, LeaseKeepAliveStream, LeaseKeeper};
use tokio::sync::Mutex;

use crate::namespace::{is_lease_not_found, unreachable};

/// A lease as etcd granted it; the time to live is the answer's, which may be longer than what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Granted {
    pub(crate) id: i64,
    pub(crate) ttl: Duration,
    pub(crate) number: Lease,
}

/// Begins a lease when the first entry is mounted, and another one after a loss.
///
/// Any call can be given up at any point, so a loss may be found and told to nobody. The numbers of the leases make up
/// for that.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    held: Mutex<Held>,
    /// Taken out for the time of a question, so that one which is given up takes its stream with it: the answer could
    /// be taken for that of the next question otherwise.
    stream: Mutex<Option<(LeaseKeeper, LeaseKeepAliveStream)>>,
}

#[derive(Debug, Default)]
struct Held {
    granted: Option<Granted>,
    begun: u64,
}

impl Leases {
    /// The lease there is, or a new one.
    pub(crate) async fn ensure(&self, client: &Client, ttl: Ttl) -> Result<Granted, Failure> {
        let mut held = self.held.lock().await;
        if let Some(granted) = held.granted {
            return Ok(granted);
        }
        let seconds = i64::try_from(ttl.as_whole_seconds()).unwrap_or(i64::MAX).min(TTL_SECONDS_MAX);
        let answer = client.lease_client().grant(seconds, None).await.map_err(unreachable)?;
        let seconds = u64::try_from(answer.ttl()).unwrap_or(0);
        held.begun += 1;
        let granted =
            Granted { id: answer.id(), ttl: Duration::from_secs(seconds), number: Lease(held.begun) };
        held.granted = Some(granted);
        Ok(granted)
    }

    /// The lease turned out to be gone.
    pub(crate) async fn lost(&self, id: i64) {
        let mut held = self.held.lock().await;
        // Somebody else may have found that before, and begun another one.
        held.granted = held.granted.filter(|granted| granted.id != id);
    }

    pub(crate) async fn keep(&self, client: &Client) -> Result<Kept, Failure> {
        let (granted, begun) = {
            let held = self.held.lock().await;
            (held.granted, held.begun)
        };
        let Some(granted) = granted else { return Ok(Kept::Lost { lease: Lease(begun) }) };
        let stream = self.stream.lock().await.take();
        let answer = match stream.filter(|(keeper, _)| keeper.id() == granted.id) {
            Some(stream) => ask(stream).await,
            // Opening the stream asks once.
            None => client.lease_client().keep_alive(granted.id).await.map(Some),
        };
        match answer {
            Ok(Some(stream)) => {
                *self.stream.lock().await = Some(stream);
                Ok(Kept::For { left: granted.ttl, lease: granted.number })
            }
            Err(error) if !is_lease_not_found(&error) => Err(unreachable(error)),
            _ => {
                self.lost(granted.id).await;
                Ok(Kept::Lost { lease: granted.number })
            }
        }
    }

    pub(crate) async fn release(&self, client: &Client) -> Result<(), Failure> {
        let Some(granted) = self.held.lock().await.granted else { return Ok(()) };
        match client.lease_client().revoke(granted.id).await {
            Ok(_) => {}
            Err(error) if is_lease_not_found(&error) => {}
            Err(error) => return Err(unreachable(error)),
        }
        self.lost(granted.id).await;
        Ok(())
    }
}

/// Source: `etcd-io/etcd:lease/lessor.go`, MaxLeaseTTL.
const TTL_SECONDS_MAX: i64 = 9_000_000_000;

type Stream = (LeaseKeeper, LeaseKeepAliveStream);

/// Asks for a keep-alive; `None` when etcd says that there is nothing to keep (a time to live of 0).
async fn ask((mut keeper, mut stream): Stream) -> Result<Option<Stream>, Error> {
    keeper.keep_alive().await?;
    match stream.message().await? {
        Some(answer) if answer.ttl() > 0 => Ok(Some((keeper, stream))),
        Some(_) => Ok(None),
        None => Err(Error::LeaseKeepAliveError("the stream has ended".into())),
    }
}
