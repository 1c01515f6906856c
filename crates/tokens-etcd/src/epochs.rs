use core::fmt;
use core::ops::Range;

use cuttlebone_tokens::{EpochStore, EpochStoreError, Reserving};
use etcd_client::{Client, Compare, CompareOp, Error, KeyValue, Txn, TxnOp};

use crate::Config;

/// Races lost in a row before a reservation gives up. Every one of them was won by another registry, so that this many
/// are lost only under a load that no registry makes by registering.
const RACES_MAX: usize = 100;

/// Epochs kept in one key of etcd; see the crate's documentation.
#[derive(Clone)]
pub struct EtcdEpochs {
    client: Client,
    key: String,
}

impl EtcdEpochs {
    /// Prepares connections, and authenticates if there is a user.
    ///
    /// # Errors
    ///
    /// [`EpochStoreError::Unavailable`] for endpoints that are none, or etcd's refusal of the user.
    pub async fn connect(config: &Config) -> Result<Self, EpochStoreError> {
        let client = Client::connect(&config.endpoints, Some(config.options())).await.map_err(unavailable)?;
        Ok(Self { client, key: config.key.clone() })
    }

    async fn reserve_block(&self, count: u64) -> Result<Range<u64>, EpochStoreError> {
        for _ in 0..RACES_MAX {
            let (start, revision) = self.read().await?;
            let end = start.checked_add(count).ok_or(EpochStoreError::Exhausted)?;
            if self.write(end, revision).await? {
                return Ok(start..end);
            }
        }
        Err(EpochStoreError::Unavailable(format!("lost {RACES_MAX} races in a row for {}", self.key)))
    }

    /// The next free epoch and the revision of its key: 0 if there is none yet. A linearizable read.
    async fn read(&self) -> Result<(u64, i64), EpochStoreError> {
        let answer = self.client.kv_client().get(self.key.as_str(), None).await.map_err(unavailable)?;
        match answer.kvs().first() {
            Some(found) => Ok((next_free(found)?, found.mod_revision())),
            None => Ok((1, 0)),
        }
    }

    /// Puts `next` if nobody has written since `revision`. Returns only after etcd has committed it.
    async fn write(&self, next: u64, revision: i64) -> Result<bool, EpochStoreError> {
        let untouched = Compare::mod_revision(self.key.as_str(), CompareOp::Equal, revision);
        let put = TxnOp::put(self.key.as_str(), next.to_string(), None);
        let txn = Txn::new().when([untouched]).and_then([put]);
        Ok(self.client.kv_client().txn(txn).await.map_err(unavailable)?.succeeded())
    }
}

fn next_free(found: &KeyValue) -> Result<u64, EpochStoreError> {
    let text = core::str::from_utf8(found.value()).ok().filter(|text| !text.starts_with('+'));
    let next = text.and_then(|text| text.trim_end().parse().ok());
    next.filter(|next| *next > 0).ok_or(EpochStoreError::Corrupt("the key in etcd holds no number"))
}

#[expect(clippy::needless_pass_by_value, reason = "shaped for map_err")]
fn unavailable(error: Error) -> EpochStoreError {
    EpochStoreError::Unavailable(match &error {
        Error::GRpcStatus(status) => format!("etcd: {}", status.message()),
        other => format!("etcd: {other}"),
    })
}

impl EpochStore for EtcdEpochs {
    /// Two round trips, and two more for every race lost. A reservation whose answer is lost fails and burns its block.
    fn reserve(&self, count: u64) -> Reserving<'_> {
        Box::pin(self.reserve_block(count))
    }
}

impl fmt::Debug for EtcdEpochs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdEpochs").field("key", &self.key).finish_non_exhaustive()
    }
}
