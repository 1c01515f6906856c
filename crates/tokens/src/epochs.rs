use alloc::boxed::Box;
use alloc::sync::Arc;
use core::ops::Range;
use core::pin::Pin;

use crate::sync::{Mutex, lock};
use crate::{Epoch, EpochStoreError};

/// The answer of an [`EpochStore`], later.
pub type Reserving<'a> = Pin<Box<dyn Future<Output = Result<Range<u64>, EpochStoreError>> + Send + 'a>>;

/// Remembers which epochs were given out, so that none is given out twice, also after a restart.
///
/// A registry takes epochs in blocks and loses what is left of one when it stops; so a store is asked rarely.
/// Registries on several machines may share a store. Their epochs then never collide; for the order of their
/// registrations to be the order of their epochs, each has to take blocks of one (`Config::epoch_block`). A registration
/// that waited in line may then find at the gate that its epoch is too old; it registers again.
pub trait EpochStore: Send + Sync + 'static {
    /// At least `count` consecutive numbers greater than all that were ever returned, from 1 on.
    ///
    /// It returns only when the reservation is durable. Dropping the future may burn the block and does no other harm.
    fn reserve(&self, count: u64) -> Reserving<'_>;
}

/// Epochs that live as long as the process: right where owners and holders live in that process too.
#[derive(Debug)]
pub struct MemoryEpochs(Mutex<u64>);

impl Default for MemoryEpochs {
    fn default() -> Self {
        Self::starting_at(Epoch(1))
    }
}

impl MemoryEpochs {
    /// The first epoch will be `first`, or 1 if that is greater.
    pub fn starting_at(first: Epoch) -> Self {
        Self(Mutex::new(first.0.max(1)))
    }
}

impl EpochStore for MemoryEpochs {
    fn reserve(&self, count: u64) -> Reserving<'_> {
        let mut next = lock(&self.0);
        let block = next.checked_add(count).map(|end| *next..end).ok_or(EpochStoreError::Exhausted);
        if let Ok(block) = &block {
            *next = block.end;
        }
        Box::pin(core::future::ready(block))
    }
}

/// Hands out the epochs of reserved blocks. Whoever may need one later has it promised first.
pub(crate) struct Epochs {
    store: Box<dyn EpochStore>,
    block_len: u64,
    refill: futures_util::lock::Mutex<()>,
    block: Mutex<Block>,
}

#[derive(Debug)]
struct Block {
    next: u64,
    end: u64,
    /// Promises out. One whose epoch was taken still counts, so this is never too small.
    promised: u64,
}

impl Epochs {
    pub(crate) fn new(store: Box<dyn EpochStore>, block_len: u64) -> Self {
        Self {
            store,
            block_len: block_len.max(1),
            refill: futures_util::lock::Mutex::new(()),
            block: Mutex::new(Block { next: 1, end: 1, promised: 0 }),
        }
    }

    /// The lowest epoch that was not given out before.
    pub(crate) async fn begin(&self) -> Result<Epoch, EpochStoreError> {
        self.reserve().await?;
        let mut block = lock(&self.block);
        let first = block.next;
        if self.block_len == 1 {
            // Whoever shares the store wants the order of registrations, so this one is too old to be used.
            block.next = block.end;
        }
        Ok(Epoch(first))
    }

    /// Makes sure that one epoch is left for the caller. Cancel safe.
    pub(crate) async fn promise(self: Arc<Self>) -> Result<Promise, EpochStoreError> {
        if !self.try_promise() {
            let _one_at_a_time = self.refill.lock().await;
            while !self.try_promise() {
                self.reserve().await?;
            }
        }
        Ok(Promise(self))
    }

    fn try_promise(&self) -> bool {
        let mut block = lock(&self.block);
        let enough = block.end - block.next > block.promised;
        block.promised += u64::from(enough);
        enough
    }

    async fn reserve(&self) -> Result<(), EpochStoreError> {
        let promised = lock(&self.block).promised;
        let fresh = self.store.reserve(self.block_len.max(promised.saturating_add(1))).await?;
        let mut block = lock(&self.block);
        if fresh.start < block.end || fresh.end <= fresh.start {
            return Err(EpochStoreError::Corrupt("the store went back"));
        }
        if fresh.end - fresh.start > block.promised {
            (block.next, block.end) = (fresh.start, fresh.end);
        }
        Ok(())
    }

    /// Takes an epoch that was promised.
    pub(crate) fn take(&self) -> Epoch {
        let mut block = lock(&self.block);
        assert!(block.next < block.end, "an epoch is taken only by a registration that was promised one");
        block.next += 1;
        Epoch(block.next - 1)
    }
}

/// One epoch will be there when it is needed.
pub(crate) struct Promise(Arc<Epochs>);

impl Drop for Promise {
    fn drop(&mut self) {
        lock(&self.0.block).promised -= 1;
    }
}
