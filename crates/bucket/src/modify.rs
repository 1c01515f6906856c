//! Operations that make a key's new value out of its old one, at once: nobody else's comes in between.

use cuttlebone_checkpoint::Item;

use crate::Error;
use crate::bucket::{Bucket, Now, VbucketId};
use crate::engine::Engine;
use crate::operations::{Found, Lookup, Stored, stored};
use crate::table::Meta;

/// Longest text of a number: that of 2^64 - 1.
const DIGITS_MAX: usize = 20;

/// How a number changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there are two directions")]
pub enum Count {
    /// Up, and on from 0 after 2^64 - 1.
    Up(u64),
    /// Down, and not below 0.
    Down(u64),
}

impl Count {
    const fn of(self, number: u64) -> u64 {
        match self {
            Self::Up(by) => number.wrapping_add(by),
            Self::Down(by) => number.saturating_sub(by),
        }
    }
}

impl<E: Engine> Bucket<E> {
    /// Puts `tail` after a key's value; flags and expiry stay.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if the key has no value; [`Error::Item`] if it would be too long; as [`set`](Self::set), and as
    /// [`get`](Self::get) for the disk.
    pub fn append(
        &self,
        vbucket: VbucketId,
        now: Now,
        key: &[u8],
        tail: &[u8],
        cas: Option<u64>,
    ) -> Result<Stored, Error> {
        let join = |old: &Item| Ok((like(old, &[old.value(), tail].concat())?, ()));
        self.modify(vbucket, now, key, cas, |old| join(old.ok_or(Error::NotFound)?))
            .map(|(stored, ())| stored)
    }

    /// Puts `head` before a key's value; flags and expiry stay.
    ///
    /// # Errors
    ///
    /// As [`append`](Self::append).
    pub fn prepend(
        &self,
        vbucket: VbucketId,
        now: Now,
        key: &[u8],
        head: &[u8],
        cas: Option<u64>,
    ) -> Result<Stored, Error> {
        let join = |old: &Item| Ok((like(old, &[head, old.value()].concat())?, ()));
        self.modify(vbucket, now, key, cas, |old| join(old.ok_or(Error::NotFound)?))
            .map(|(stored, ())| stored)
    }

    /// Counts a key's value, a decimal number, up or down, and returns the new one. A key without a value gets `initial`
    /// as it is, if there is one: its value is the text of the number.
    ///
    /// # Errors
    ///
    /// [`Error::NotANumber`]; [`Error::NotFound`] if the key has no value and there is no `initial`; as
    /// [`append`](Self::append).
    pub fn count(
        &self,
        vbucket: VbucketId,
        now: Now,
        key: &[u8],
        count: Count,
        initial: Option<&Item>,
        cas: Option<u64>,
    ) -> Result<(Stored, u64), Error> {
        self.modify(vbucket, now, key, cas, |old| {
            let Some(old) = old else {
                let item = initial.filter(|item| item.key() == key).ok_or(Error::NotFound)?.clone();
                let number = number(item.value())?;
                return Ok((item, number));
            };
            let number = count.of(number(old.value())?);
            Ok((like(old, number.to_string().as_bytes())?, number))
        })
    }

    /// Gives a key another expiry, in seconds since 1970 or 0 for never, and returns what it has otherwise.
    ///
    /// # Errors
    ///
    /// As [`append`](Self::append).
    pub fn touch(&self, vbucket: VbucketId, now: Now, key: &[u8], expiry: u32) -> Result<Found, Error> {
        let touched = self.modify(vbucket, now, key, None, |old| {
            let item = old.ok_or(Error::NotFound)?.clone().with_expiry(expiry);
            Ok((item.clone(), item))
        });
        touched.map(|(Stored { cas, seqno }, item)| Found { item: item.with_cas(cas).with_seqno(seqno), cas })
    }

    /// Stores what `make` makes of the key's value. It may be called several times, if the value is on the disk.
    fn modify<T>(
        &self,
        id: VbucketId,
        now: Now,
        key: &[u8],
        cas: Option<u64>,
        mut make: impl FnMut(Option<&Item>) -> Result<(Item, T), Error>,
    ) -> Result<(Stored, T), Error> {
        self.find(id, key, |vbucket| {
            vbucket.admit()?;
            let live = vbucket.live(now, key);
            if cas.is_some() && live.is_none() {
                return Err(Error::NotFound);
            }
            vbucket.check_cas(now, key, live, cas)?;
            let old = match live.map(|_: Meta| vbucket.here(key)).transpose()? {
                None => None,
                Some(Lookup::Here(found)) => Some(found.item),
                Some(Lookup::OnDisk { row, meta }) => return Ok(Lookup::OnDisk { row, meta }),
            };
            let (item, answer) = make(old.as_ref())?;
            Ok(Lookup::Here((stored(vbucket.write(now, item)?), answer)))
        })
        .inspect(|_| self.signal().poke())
    }
}

/// The same key with another value.
fn like(old: &Item, value: &[u8]) -> Result<Item, Error> {
    Ok(Item::set(old.key(), value)?.with_flags(old.flags()).with_expiry(old.expiry()))
}

/// Source: `memcached/memcached:memcached.c`, `do_add_delta`: what `strtoull` reads to the end, of at most 20 bytes.
fn number(text: &[u8]) -> Result<u64, Error> {
    let text = Some(text).filter(|text| text.len() <= DIGITS_MAX && text.iter().all(u8::is_ascii_digit));
    let text = text.and_then(|text| str::from_utf8(text).ok()).ok_or(Error::NotANumber)?;
    text.parse().map_err(|_| Error::NotANumber)
}
