/// Where chance comes from: cookies, nonces, jitter.
///
/// Drivers give the operating system's source, worlds and tests a seeded one.
pub trait Entropy {
    /// Sixty-four bits that a peer cannot guess, as far as the source allows.
    fn next_u64(&mut self) -> u64;

    /// A number in `0..bound`; 0 when `bound` is 0.
    ///
    /// The bias of at most `bound / 2^64` does not matter for back-off and choice among peers, which is what it is
    /// for.
    fn below(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.next_u64()) * u128::from(bound);
        u64::try_from(wide >> 64).unwrap_or(0)
    }

    /// A number that is not 0, as cookies have to be.
    fn non_zero(&mut self) -> u64 {
        self.next_u64().max(1)
    }
}

impl<E: Entropy + ?Sized> Entropy for &mut E {
    fn next_u64(&mut self) -> u64 {
        (**self).next_u64()
    }
}

/// A seeded source for simulated worlds and tests; never for a secret.
///
/// The sequence is that of `SplitMix64` (Steele, Lea and Flood, 2014), so a seed means the same on every machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitMix(u64);

impl SplitMix {
    /// A source whose whole sequence follows from `seed`.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A second source that does not repeat this one's sequence.
    #[must_use]
    pub fn fork(&mut self) -> Self {
        Self(self.next_u64())
    }
}

impl Entropy for SplitMix {
    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splitmix_gives_the_published_sequence_for_seed_1234567() {
        let mut source = SplitMix::new(1_234_567);
        assert_eq!(source.next_u64(), 6_457_827_717_110_365_317);
        assert_eq!(source.next_u64(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn below_stays_below() {
        let mut source = SplitMix::new(7);
        assert!((0..10_000).all(|_| source.below(3) < 3));
        assert_eq!(source.below(0), 0);
    }
}
