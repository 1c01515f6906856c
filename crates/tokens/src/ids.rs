use core::fmt;

/// Which incarnation: a number that strictly grows with every registration of a name.
///
/// Two epochs of one name can be compared; how far they lie apart means nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

/// Which token: a number that strictly grows with every token a registry grants, and starts over with the registry.
/// With its [`Epoch`] it is unique for good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

/// Who registers: one incarnation of a program, a task or a connection.
///
/// The embedder chooses it, and must never give the number of a dead owner to a living one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OwnerId(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How heavy the work under a token is.
///
/// All classes share one limit. Heavy and very heavy tokens together leave one slot to light ones, and one very
/// heavy token runs at a time; with a limit of one slot any class may take it.
///
/// Source: `membase/ns_server:src/ns_memcached.erl`, the fast, heavy and very heavy queues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_enums, reason = "the rule between classes is part of what a class is")]
pub enum Class {
    /// May use every slot.
    #[default]
    Light,
    /// Leaves one slot free for light work.
    Heavy,
    /// As heavy, and alone in its class.
    VeryHeavy,
}

impl Class {
    /// All of them, lightest first.
    pub const ALL: [Self; 3] = [Self::Light, Self::Heavy, Self::VeryHeavy];

    pub(crate) const fn index(self) -> usize {
        match self {
            Self::Light => 0,
            Self::Heavy => 1,
            Self::VeryHeavy => 2,
        }
    }
}
