use core::time::Duration;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;

use crate::clock::now;
use crate::ground::Shared;
use crate::{Error, NodeBucket};

/// How long what was written may lie in memory alone before it is put on the disk.
const FLUSH_EVERY: Duration = Duration::from_millis(20);
/// How long to wait after a first failure of the disk, and after the last of many.
const RETRY: core::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(5);

/// The thread that puts a bucket on its disk.
#[derive(Debug)]
pub(crate) struct Flushing {
    stop: SyncSender<()>,
    thread: JoinHandle<Result<(), cuttlebone_bucket::Error>>,
}

impl Flushing {
    pub(crate) fn start(bucket: NodeBucket, shared: Arc<Shared>) -> Result<Self, Error> {
        let (stop, stopped) = sync_channel(1);
        let work = move || work(&bucket, &shared, &stopped);
        let thread =
            std::thread::Builder::new().name("cuttlebone-flush".into()).spawn(work).map_err(Error::Thread)?;
        Ok(Self { stop, thread })
    }

    /// Puts everything on the disk that may go there, and ends. Waits for the disk.
    pub(crate) fn finish(self) -> Result<(), Error> {
        // It ends only when told, so it listens.
        let _ = self.stop.send(());
        match self.thread.join() {
            Ok(ended) => Ok(ended?),
            Err(_) => Err(Error::Config("the thread of the disk broke off")),
        }
    }
}

/// Ends with a last flush; what it says is how that went.
fn work(
    bucket: &NodeBucket,
    shared: &Shared,
    stopped: &Receiver<()>,
) -> Result<(), cuttlebone_bucket::Error> {
    let mut pause = FLUSH_EVERY;
    loop {
        match stopped.recv_timeout(pause) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return bucket.flush_all(),
        }
        bucket.tick(now(&shared.clock));
        pause = match bucket.flush() {
            Ok(flushed) => {
                shared.set_disk_error(None);
                if flushed.more { Duration::ZERO } else { FLUSH_EVERY }
            }
            Err(error) => {
                tracing::warn!(%error, "the disk does not take what it is given");
                shared.set_disk_error(Some(crate::error::chain(&error)));
                (pause * 2).clamp(*RETRY.start(), *RETRY.end())
            }
        };
    }
}
