//! A bucket as the status shows it.

use cuttlebone_bucket::VbucketState;
use cuttlebone_http::status::{self, BucketStatus, UpdateStage, UpdateStatus, VbucketStatus};

use crate::NodeBucket;

/// What the bucket is called in the status and in metrics: a node has one.
const NAME: &str = "main";

pub(crate) fn of_bucket(
    bucket: &NodeBucket,
    disk_error: Option<String>,
) -> (Vec<BucketStatus>, UpdateStatus) {
    let statuses: Vec<_> =
        bucket.vbuckets().into_iter().filter_map(|id| Some((id, bucket.status(id).ok()?))).collect();
    let stats = bucket.update_stats();
    let in_window = statuses.iter().any(|(_, status)| status.in_window);
    let held: u64 = statuses.iter().filter(|(_, it)| it.in_window).map(|(_, it)| it.log.unpersisted).sum();
    let update = UpdateStatus {
        stage: if in_window { UpdateStage::On } else { UpdateStage::Off },
        held_items: held,
        reverted_keys_total: stats.reverted_adds + stats.reverted_updates + stats.reverted_deletes,
        revert_failed_total: stats.revert_failed,
        ..UpdateStatus::default()
    };
    let rows = statuses.into_iter().map(|(id, status)| row(id, &status));
    let mut shown = BucketStatus::new(NAME, rows);
    shown.disk_error = disk_error;
    (vec![shown], update)
}

fn row(id: u16, status: &cuttlebone_bucket::VbucketStatus) -> VbucketStatus {
    VbucketStatus {
        id,
        state: match status.state {
            VbucketState::Active => status::VbucketState::Active,
            VbucketState::Replica => status::VbucketState::Replica,
            VbucketState::Pending => status::VbucketState::Pending,
            VbucketState::Dead => status::VbucketState::Dead,
        },
        items: status.items as u64,
        evicted: status.evicted as u64,
        resident_bytes: status.resident_bytes as u64,
        log_bytes: status.log.memory as u64,
        last_seqno: status.log.last_seqno.0,
        persisted_seqno: status.log.persisted.0,
        unpersisted: status.log.unpersisted,
        in_window: status.in_window,
        parked: status.parked as u64,
        ..VbucketStatus::default()
    }
}
