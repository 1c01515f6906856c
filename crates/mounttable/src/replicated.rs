use alloc::vec::Vec;
use core::future::Future;

use futures::future::join_all;

use crate::{Before, Failure, Kept, Lease, Mount, Mounted, Name, Namespace, Resolved, Upkeep, Withdrawal};

/// Several tables that hold the same entries, used as one.
///
/// Everything goes to every table, side by side. Mounting succeeds when it succeeded everywhere; the failure that is
/// reported otherwise is that of the first table that had one, and is never masked by a later success. Resolving asks
/// all and takes the answer of the first, in their order, that has one.
///
/// A publisher that is given the tables themselves instead keeps a state for each, so that a dead one delays nothing
/// at the others; this is for callers that want one answer.
#[derive(Clone, Debug)]
pub struct Replicated<N> {
    tables: Vec<N>,
    upkeep: Upkeep,
    batch_max: usize,
}

impl<N: Namespace> Replicated<N> {
    /// All of `tables`; `None` without any, or when they are kept alive in different ways.
    pub fn new(tables: Vec<N>) -> Option<Self> {
        let upkeep = tables.first()?.upkeep();
        let batch_max = tables.iter().map(Namespace::batch_max).min()?;
        tables.iter().all(|table| table.upkeep() == upkeep).then_some(Self { tables, upkeep, batch_max })
    }

    /// The tables.
    pub fn tables(&self) -> &[N] {
        &self.tables
    }

    /// Asks every table, and merges the answers for each entry from left to right.
    async fn each<T, F>(
        &self,
        count: usize,
        ask: impl Fn(usize) -> F,
        merge: impl Fn(T, T) -> T,
    ) -> Vec<Result<T, Failure>>
    where
        F: Future<Output = Vec<Result<T, Failure>>>,
    {
        let answers = join_all((0..self.tables.len()).map(ask)).await;
        let mut answers: Vec<_> = answers.into_iter().map(Vec::into_iter).collect();
        let missing = || Err(Failure::Unreachable { reason: "an answer is missing".into() });
        (0..count)
            .map(|_| {
                answers
                    .iter_mut()
                    .map(|answers| answers.next().unwrap_or_else(missing))
                    .reduce(|left, right| match (left, right) {
                        (Ok(left), Ok(right)) => Ok(merge(left, right)),
                        (Err(failure), _) | (_, Err(failure)) => Err(failure),
                    })
                    .unwrap_or_else(missing)
            })
            .collect()
    }
}

/// Grows when one of them does.
const fn both(left: Lease, right: Lease) -> Lease {
    Lease(left.0.saturating_add(right.0))
}

impl<N: Namespace> Namespace for Replicated<N> {
    fn upkeep(&self) -> Upkeep {
        self.upkeep
    }

    fn batch_max(&self) -> usize {
        self.batch_max
    }

    async fn mount(&self, batch: Vec<Mount>) -> Vec<Result<Mounted, Failure>> {
        let weaker = |left: Mounted, right: Mounted| {
            let absent = [left.before, right.before].contains(&Before::Absent);
            let before = if absent { Before::Absent } else { Before::Present };
            Mounted::new(left.ttl.min(right.ttl), before).with_lease(both(left.lease, right.lease))
        };
        let ask = |at: usize| {
            let call = self.tables.get(at).map(|table| table.mount(batch.clone()));
            async move { if let Some(call) = call { call.await } else { Vec::new() } }
        };
        self.each(batch.len(), ask, weaker).await
    }

    async fn unmount(&self, batch: Vec<Withdrawal>) -> Vec<Result<(), Failure>> {
        let ask = |at: usize| {
            let call = self.tables.get(at).map(|table| table.unmount(batch.clone()));
            async move { if let Some(call) = call { call.await } else { Vec::new() } }
        };
        self.each(batch.len(), ask, |(), ()| ()).await
    }

    async fn keep(&self) -> Result<Kept, Failure> {
        let answers = join_all(self.tables.iter().map(Namespace::keep)).await;
        let start = Kept::For { left: core::time::Duration::MAX, lease: Lease::NONE };
        answers.into_iter().try_fold(start, |all, one| {
            Ok(match (all, one?) {
                (Kept::For { left, lease }, Kept::For { left: other, lease: its }) => {
                    Kept::For { left: left.min(other), lease: both(lease, its) }
                }
                (
                    Kept::Lost { lease } | Kept::For { lease, .. },
                    Kept::Lost { lease: its } | Kept::For { lease: its, .. },
                ) => Kept::Lost { lease: both(lease, its) },
            })
        })
    }

    async fn release(&self) -> Result<(), Failure> {
        join_all(self.tables.iter().map(Namespace::release)).await.into_iter().collect()
    }

    async fn resolve(&self, name: Name) -> Result<Resolved, Failure> {
        let answers = join_all(self.tables.iter().map(|table| table.resolve(name.clone()))).await;
        let nothing = Err(Failure::Unreachable { reason: "there is no table".into() });
        answers.into_iter().reduce(Result::or).unwrap_or(nothing)
    }
}
