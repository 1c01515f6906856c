//! A bucket as the status shows it.

use cuttlebone_bucket::{LogStatus, VbucketId, VbucketState};
use cuttlebone_checkpoint::UpdateState;
use cuttlebone_http::status::{
    self, BucketStatus, CheckpointStatus, CursorStatus, UpdateStage, UpdateStatus, VbucketStatus,
};
use cuttlebone_machine::Instant;

use crate::NodeBucket;

/// What the bucket is called in the status and in metrics: a node has one.
const NAME: &str = "main";

pub(crate) fn of_bucket(
    bucket: &NodeBucket,
    disk_error: Option<String>,
    now: Instant,
) -> (Vec<BucketStatus>, UpdateStatus) {
    let all: Vec<_> = bucket
        .vbuckets()
        .into_iter()
        .filter_map(|id| Some((id, bucket.status(id).ok()?, bucket.log_status(id).ok()?)))
        .collect();
    let update = update(bucket, &all, now);
    let rows = all.into_iter().map(|(id, status, log)| row(id, &status, &log));
    let mut shown = BucketStatus::new(NAME, rows);
    shown.disk_error = disk_error;
    (vec![shown], update)
}

fn update(
    bucket: &NodeBucket,
    all: &[(VbucketId, cuttlebone_bucket::VbucketStatus, LogStatus)],
    now: Instant,
) -> UpdateStatus {
    let stats = bucket.update_stats();
    let held = all.iter().filter(|(_, it, _)| it.in_window).map(|(_, it, _)| it.log.unpersisted).sum();
    let is = |wanted: fn(&UpdateState) -> bool| all.iter().any(|(_, _, log)| wanted(&log.update));
    let stage = if is(|state| matches!(state, UpdateState::Reverting { .. })) {
        UpdateStage::Reverting
    } else if is(|state| matches!(state, UpdateState::On { .. })) {
        UpdateStage::On
    } else {
        UpdateStage::Off
    };
    // The window began when the checkpoint that has its mark was opened.
    let began = all.iter().filter_map(|(_, _, log)| {
        let UpdateState::On { barrier, .. } = log.update else { return None };
        log.checkpoints.iter().find(|checkpoint| checkpoint.id == barrier).map(|barrier| barrier.created)
    });
    UpdateStatus {
        stage,
        since_ms: began.min().and_then(|began| u64::try_from(now.since(began).as_millis()).ok()),
        held_items: held,
        completed_total: stats.completed,
        reverted_total: stats.reverted,
        reverted_keys_total: stats.reverted_adds + stats.reverted_updates + stats.reverted_deletes,
        revert_failed_total: stats.revert_failed,
        ..UpdateStatus::default()
    }
}

fn row(id: VbucketId, status: &cuttlebone_bucket::VbucketStatus, log: &LogStatus) -> VbucketStatus {
    let checkpoints = log.checkpoints.iter().map(|checkpoint| CheckpointStatus {
        id: checkpoint.id.0,
        first_seqno: checkpoint.first.0,
        last_seqno: checkpoint.last.0,
        items: checkpoint.mutations,
        open: checkpoint.is_open,
    });
    let cursors = log.cursors.iter().map(|cursor| CursorStatus {
        name: cursor.name.to_string(),
        checkpoint: cursor.checkpoint.0,
        seqno: cursor.seqno.0,
        lag_items: cursor.remaining_mutations,
    });
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
        dedup_total: status.log.replaced,
        in_window: status.in_window,
        parked: status.parked as u64,
        checkpoints: checkpoints.collect(),
        cursors: cursors.collect(),
    }
}
