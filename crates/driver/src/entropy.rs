use cuttlebone_machine::Entropy;

/// The operating system's random numbers.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct OsEntropy;

impl Entropy for OsEntropy {
    /// # Panics
    ///
    /// If the operating system has no random numbers, which no system that tokio runs on does after it has started.
    fn next_u64(&mut self) -> u64 {
        getrandom::u64().expect("the operating system gives random numbers")
    }
}

/// A nonce for a new link.
///
/// # Panics
///
/// As [`OsEntropy`].
pub fn nonce() -> u32 {
    // Zero is what monitors have, and would not be told apart from one.
    u32::try_from(OsEntropy.next_u64() >> 32).unwrap_or(1).max(1)
}
