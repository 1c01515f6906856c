use futures::Stream;

use crate::{Failure, Found, Name, Namespace, Pattern};

/// A mount table that can be looked through, beside what a publisher needs of it.
pub trait Directory: Namespace {
    /// Everything that matches `pattern` below `base`, in no order, by names relative to `base`.
    ///
    /// A mount that the pattern goes on below is found too, for the asker to go on there. The results are no
    /// snapshot. A failure is the last item.
    fn glob(
        &self,
        base: Name,
        pattern: Pattern,
    ) -> impl Stream<Item = Result<Found, Failure>> + Send + 'static;
}

/// Opens the mount tables that other tables name.
///
/// Anybody who may mount can name any address. An implementation therefore shows a secret only to the addresses that
/// it was meant for.
pub trait Dial: Send + Sync {
    /// A table as this opens it.
    type Table: Directory;

    /// A handle to the table at `address`, the part of a [`Server`](crate::Server) before its suffix. Nothing is sent
    /// before the handle is used.
    ///
    /// # Errors
    ///
    /// [`Failure::Foreign`] for an address that this cannot reach by its nature.
    fn dial(&self, address: &str) -> Result<Self::Table, Failure>;
}
