use alloc::vec;
use alloc::vec::Vec;
use core::option;

/// Those to wake after a call, in order; one costs no allocation.
#[derive(Debug)]
#[expect(clippy::exhaustive_enums, reason = "none, one and many are all there is")]
pub enum Wakes<W> {
    /// Nobody.
    None,
    /// The usual case: a released slot goes to one waiter.
    One(W),
    /// After a takeover or a larger limit.
    Many(Vec<W>),
}

impl<W> Wakes<W> {
    pub(super) fn add(&mut self, who: Option<W>) {
        let Some(who) = who else { return };
        *self = match core::mem::replace(self, Self::None) {
            Self::None => Self::One(who),
            Self::One(first) => Self::Many(vec![first, who]),
            Self::Many(mut many) => {
                many.push(who);
                Self::Many(many)
            }
        };
    }
}

impl<W> IntoIterator for Wakes<W> {
    type Item = W;
    type IntoIter = core::iter::Chain<option::IntoIter<W>, vec::IntoIter<W>>;

    fn into_iter(self) -> Self::IntoIter {
        let (one, many) = match self {
            Self::None => (None, Vec::new()),
            Self::One(one) => (Some(one), Vec::new()),
            Self::Many(many) => (None, many),
        };
        one.into_iter().chain(many)
    }
}
