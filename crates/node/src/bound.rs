//! Work of the node's own that is bounded by tokens of its registry, where everybody can see who holds and who waits.

use core::sync::atomic::{AtomicU64, Ordering};

use cuttlebone_tokens::{OwnerId, RegisterError, Registration, Takeover, Token, Watching, Worker};
use tokio::sync::Mutex;

use crate::{Error, Ground};

/// The name whose tokens those replicas hold for which the disk is read.
pub(crate) const BACKFILL: &str = "backfill";
/// The name whose tokens those monitors hold that synchronise from the copy.
pub(crate) const PROVIDE: &str = "provide";

/// Owners within the node are counted from the top, those over HTTP from the bottom.
static OWNERS: AtomicU64 = AtomicU64::new(0);

/// One kind of work.
///
/// Its name is registered when the first token is asked for. When somebody fences it, what is under way ends, and the next
/// one who asks registers it anew; whoever else registers it holds the work up until that is over.
#[derive(Debug)]
pub(crate) struct Bound {
    ground: Ground,
    name: &'static str,
    tokens_max: u32,
    registered: Mutex<Option<Registration>>,
}

/// The right to do it once, until this is dropped. A node without a registry bounds nothing.
#[derive(Debug)]
pub(crate) struct Permit(Option<Token>);

impl Bound {
    pub(crate) fn new(ground: &Ground, name: &'static str, tokens_max: u32) -> Self {
        Self { ground: ground.clone(), name, tokens_max, registered: Mutex::new(None) }
    }

    /// Waits for its turn.
    ///
    /// # Errors
    ///
    /// If the registry is closed or has no room.
    ///
    /// # Cancel safety
    ///
    /// Dropping it gives up the place in line.
    pub(crate) async fn permit(&self) -> Result<Permit, Error> {
        loop {
            let Some(worker) = self.worker().await.map_err(|error| Error::Other(Box::new(error)))? else {
                return Ok(Permit(None));
            };
            match worker.acquire().await {
                Ok(token) => return Ok(Permit(Some(token))),
                // Fenced while we waited: a new incarnation may go on.
                Err(_) if !worker.is_current() && !self.ground.is_ending() => {}
                Err(error) => return Err(Error::Other(Box::new(error))),
            }
        }
    }

    async fn worker(&self) -> Result<Option<Worker>, RegisterError> {
        let Some(registry) = self.ground.registry() else { return Ok(None) };
        let mut registered = self.registered.lock().await;
        if let Some(registration) = registered.as_ref().filter(|registration| registration.is_current()) {
            return Ok(Some(registration.worker()));
        }
        if self.ground.is_ending() {
            return Err(RegisterError::Closed);
        }
        *registered = None;
        let owner = OwnerId(u64::MAX - OWNERS.fetch_add(1, Ordering::Relaxed));
        let registration =
            registry.register(self.name, owner, Takeover::Wait).with_tokens(self.tokens_max).await?;
        Ok(Some(registered.insert(registration).worker()))
    }
}

impl Permit {
    /// Ends when it is taken back: then the work has to end.
    pub(crate) fn fenced(&self) -> impl Future<Output = ()> + Send + use<> {
        let fenced: Option<Watching> = self.0.as_ref().map(Token::fenced);
        async move {
            match fenced {
                Some(fenced) => fenced.await,
                None => core::future::pending().await,
            }
        }
    }
}
