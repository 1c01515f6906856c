use core::ops::Bound;

use crate::Error;
use crate::bucket::{Bucket, VbucketId};
use crate::engine::Engine;
use crate::vbucket::VbucketState;

impl<E: Engine> Bucket<E> {
    /// The keys that have a value, in order, within `range`; also of a replica. What is out of time is there until somebody
    /// removes it.
    ///
    /// Looks at every key under the vbucket's lock: some ten milliseconds for a million.
    ///
    /// # Errors
    ///
    /// [`Error::NotMyVbucket`] if there is no such vbucket or it is dead.
    pub fn keys(&self, id: VbucketId, range: (Bound<&[u8]>, Bound<&[u8]>)) -> Result<Vec<Box<[u8]>>, Error> {
        let mut keys: Vec<Box<[u8]>> = self.with(id, |vbucket| {
            if vbucket.state == VbucketState::Dead {
                return Err(Error::NotMyVbucket);
            }
            let mut keys = Vec::new();
            vbucket.table.for_each(|entry| {
                if entry.is_live() && within(range, entry.key()) {
                    keys.push(entry.key().into());
                }
            });
            Ok(keys)
        })?;
        keys.sort_unstable();
        Ok(keys)
    }
}

fn within((start, end): (Bound<&[u8]>, Bound<&[u8]>), key: &[u8]) -> bool {
    let after = match start {
        Bound::Included(start) => key >= start,
        Bound::Excluded(start) => key > start,
        Bound::Unbounded => true,
    };
    after
        && match end {
            Bound::Included(end) => key <= end,
            Bound::Excluded(end) => key < end,
            Bound::Unbounded => true,
        }
}
