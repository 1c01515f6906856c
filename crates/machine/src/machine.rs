use crate::Instant;

/// The contract every protocol core implements.
///
/// The caller's duties, which cores may check with `debug_assert!`:
///
/// * time never goes backwards between calls;
/// * after every `handle` and `handle_timeout`, [`poll_output`](Self::poll_output) is drained to `None` before the
///   next call, so that the queue inside is bounded by what one input can cause;
/// * [`poll_timeout`](Self::poll_timeout) is read again after every call.
pub trait Machine {
    /// What the world tells the machine: a message, a store's answer, a lost connection.
    type Input;
    /// What the machine asks of the world: send, apply, an event. The last one says how it ended.
    type Output;

    /// Takes one input in.
    fn handle(&mut self, now: Instant, input: Self::Input);

    /// Tells the time. Early or repeated calls change nothing.
    fn handle_timeout(&mut self, now: Instant);

    /// The next thing the machine wants done, in order; `None` when there is nothing more.
    fn poll_output(&mut self) -> Option<Self::Output>;

    /// When [`handle_timeout`](Self::handle_timeout) has to be called at the latest; `None` for never.
    fn poll_timeout(&self) -> Option<Instant>;
}
