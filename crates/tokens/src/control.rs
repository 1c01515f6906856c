use crate::{AcquireError, Class, Fence, Worker};

/// How an agent issues its commands: each under a token of its own, each with the fence to show the resource.
#[derive(Clone, Debug)]
pub struct Control {
    worker: Worker,
}

impl Control {
    /// Commands of the incarnation that `worker` belongs to.
    pub const fn new(worker: Worker) -> Self {
        Self { worker }
    }

    /// Takes a token, runs `command` with its fence, and gives the token back however the command ends: with a value,
    /// with a panic, or because this future is dropped.
    ///
    /// # Errors
    ///
    /// When no token is granted; the command has not begun then.
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops the command. What the command had already sent is ordered by the fence it carries.
    pub async fn call<T>(
        &self,
        class: Class,
        command: impl AsyncFnOnce(Fence) -> T,
    ) -> Result<T, AcquireError> {
        let token = self.worker.acquire_as(class, 1).await?;
        Ok(command(token.fence()).await)
    }
}
