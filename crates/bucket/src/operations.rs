use core::time::Duration;

use cuttlebone_checkpoint::{Item, Op, Seqno};

use crate::Error;
use crate::bucket::{Bucket, Now, VbucketId};
use crate::engine::{Engine, RowAt};
use crate::record;
use crate::table::{Entry, Meta};
use crate::vbucket::{Vbucket, VbucketState};

/// Longest time for which a key can be held. Source: `membase/ep-engine:ep_engine.h`, `getl` limits.
const LOCK_MAX: Duration = Duration::from_secs(30);
/// How long a key is held unless told otherwise.
const LOCK_DEFAULT: Duration = Duration::from_secs(15);
/// The CAS that readers of a held key see.
pub(crate) const LOCKED_CAS: u64 = u64::MAX;
/// How often a value is looked for whose row moves on the disk meanwhile.
const FETCHES_MAX: u32 = 8;

/// When a store may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "these are all the modes")]
pub enum Mode {
    /// Always.
    Set,
    /// If the key has no value.
    Add,
    /// If the key has a value.
    Replace,
    /// If the key's stamp is this one.
    Cas(u64),
}

/// A value that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a plain record")]
pub struct Found {
    /// The mutation that made it: value, flags, expiry, seqno.
    pub item: Item,
    /// The stamp to compare with; all ones while somebody else holds the key.
    pub cas: u64,
}

/// A mutation that was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a plain record")]
pub struct Stored {
    /// Its stamp.
    pub cas: u64,
    /// Its place in the order of the vbucket.
    pub seqno: Seqno,
}

/// What one look at a vbucket brought.
pub(crate) enum Lookup<T> {
    /// The answer.
    Here(T),
    /// The key's value is on the disk, and has to be read first.
    OnDisk { row: RowAt, meta: Meta },
}

impl<E: Engine> Bucket<E> {
    /// The value of a key. Reads the disk, without any lock, if the value was given up; in [`wait`](Self::wait), somebody else
    /// does.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`]; as [`set`](Self::set) for the vbucket; [`Error::Engine`] and [`Error::Corrupt`] for the disk.
    pub fn get(&self, vbucket: VbucketId, now: Now, key: &[u8]) -> Result<Found, Error> {
        // Most gets need nothing of the vbucket but the entry.
        if let Some((item, cas)) = self.one(vbucket)?.value(key, now.unix) {
            return Ok(Found { item, cas });
        }
        self.find(vbucket, key, |vbucket| vbucket.look_up(now, key))
    }

    /// The value of a key as it is here, also on a replica; what is out of time is there until somebody removes it.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`]; [`Error::NotMyVbucket`] if there is no such vbucket or it is dead; the disk's.
    pub fn peek(&self, vbucket: VbucketId, key: &[u8]) -> Result<Found, Error> {
        self.find(vbucket, key, |vbucket| match vbucket.state {
            VbucketState::Dead => Err(Error::NotMyVbucket),
            _ => vbucket.here(key),
        })
    }

    /// The value of a key, which nobody else can change until `hold` (15 s if zero, 30 s at most) is over or it is stored
    /// or unlocked with the returned stamp.
    ///
    /// # Errors
    ///
    /// [`Error::Locked`] if somebody holds it; as [`get`](Self::get).
    pub fn get_and_lock(
        &self,
        vbucket: VbucketId,
        now: Now,
        key: &[u8],
        hold: Duration,
    ) -> Result<Found, Error> {
        let hold = if hold.is_zero() || hold > LOCK_MAX { LOCK_DEFAULT } else { hold };
        self.find(vbucket, key, |vbucket| {
            if vbucket.is_locked(key, now.at) {
                return Err(Error::Locked);
            }
            let found = vbucket.look_up(now, key)?;
            let Lookup::Here(found) = found else { return Ok(found) };
            let cas = vbucket.hold(key, now.at + hold);
            Ok(Lookup::Here(Found { cas, ..found }))
        })
    }

    /// Lets a held key go.
    ///
    /// # Errors
    ///
    /// [`Error::Locked`] if the stamp is not the holder's, [`Error::NotFound`] if nobody holds it.
    pub fn unlock(&self, vbucket: VbucketId, now: Now, key: &[u8], cas: u64) -> Result<(), Error> {
        self.with(vbucket, |vbucket| {
            vbucket.admit()?;
            if !vbucket.is_locked(key, now.at) {
                return Err(Error::NotFound);
            }
            let freed = vbucket.table.update(key, |entry| {
                let hold = entry.hold.as_mut().filter(|hold| hold.cas == cas);
                hold.map(|hold| hold.until = cuttlebone_machine::Instant::ZERO).is_some()
            });
            if freed == Some(true) { Ok(()) } else { Err(Error::Locked) }
        })
    }

    /// Stores `item`, which was made by [`Item::set`] with its flags and expiry.
    ///
    /// # Errors
    ///
    /// [`Error::Exists`] and [`Error::NotFound`] by `mode`; [`Error::Locked`] if somebody else holds the key;
    /// [`Error::NotMyVbucket`] if it is not active, [`Error::Parked`] if it may become so; [`Error::Temporary`] if memory
    /// is full.
    pub fn set(&self, vbucket: VbucketId, now: Now, item: Item, mode: Mode) -> Result<Stored, Error> {
        self.with(vbucket, |vbucket| {
            vbucket.admit()?;
            let live = vbucket.live(now, item.key());
            match (mode, live) {
                (Mode::Add, Some(_)) => return Err(Error::Exists),
                (Mode::Replace | Mode::Cas(_), None) => return Err(Error::NotFound),
                _ => {}
            }
            let cas = if let Mode::Cas(cas) = mode { Some(cas) } else { None };
            vbucket.check_cas(now, item.key(), live, cas)?;
            vbucket.write(now, item).map(stored)
        })
        .inspect(|_| self.signal().poke())
    }

    /// Removes a key; `cas` is its stamp if only that one may be removed.
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set).
    pub fn delete(
        &self,
        vbucket: VbucketId,
        now: Now,
        key: &[u8],
        cas: Option<u64>,
    ) -> Result<Stored, Error> {
        let item = Item::new(Op::Delete, key, &[])?;
        self.with(vbucket, |vbucket| {
            vbucket.admit()?;
            let live = vbucket.live(now, key);
            if live.is_none() {
                return Err(Error::NotFound);
            }
            vbucket.check_cas(now, key, live, cas)?;
            vbucket.write(now, item).map(stored)
        })
        .inspect(|_| self.signal().poke())
    }

    /// Gives up the value of a key in memory.
    ///
    /// # Errors
    ///
    /// [`Error::Dirty`] if the disk does not have it yet, [`Error::Exists`] if it was given up already,
    /// [`Error::NotFound`].
    pub fn evict(&self, vbucket: VbucketId, now: Now, key: &[u8]) -> Result<(), Error> {
        self.with(vbucket, |vbucket| {
            vbucket.live(now, key).ok_or(Error::NotFound)?;
            let change = |entry: &mut Entry| match (entry.is_clean(), entry.value().is_some()) {
                (_, false) => Err(Error::Exists),
                (false, true) => Err(Error::Dirty),
                (true, true) => {
                    entry.give_up_value();
                    Ok(())
                }
            };
            vbucket.table.update(key, change).unwrap_or(Err(Error::NotFound))
        })
    }

    /// Looks until the answer is there, and reads the key's value from the disk in between, without any lock.
    pub(crate) fn find<T>(
        &self,
        id: VbucketId,
        key: &[u8],
        mut look: impl FnMut(&mut Vbucket) -> Result<Lookup<T>, Error>,
    ) -> Result<T, Error> {
        let mut missing = 0;
        for _ in 0..FETCHES_MAX {
            let (row, meta) = match self.with(id, &mut look)? {
                Lookup::Here(found) => return Ok(found),
                Lookup::OnDisk { row, meta } => (row, meta),
            };
            if let Some(seat) = self.seat()
                && self.fetches().ask(id, key, seat)?
            {
                return Err(Error::Fetching);
            }
            missing = row.address;
            // The row may be rewritten elsewhere meanwhile; then the next look says where.
            let Some(bytes) = self.engine().row(row)? else { continue };
            let item = record::decode(&bytes).ok_or(Error::Corrupt { address: row.address })?.item;
            if item.key() != key || item.seqno() != meta.seqno {
                return Err(Error::Corrupt { address: row.address });
            }
            self.with(id, |vbucket| {
                vbucket.table.update(key, |entry| entry.give(item));
                Ok(())
            })?;
        }
        Err(Error::Corrupt { address: missing })
    }
}

pub(crate) fn stored(meta: Meta) -> Stored {
    Stored { cas: meta.cas, seqno: meta.seqno }
}

impl Vbucket {
    /// The key if it has a value and its time is not over. The first to find that it is over makes it a deletion.
    pub(crate) fn live(&mut self, now: Now, key: &[u8]) -> Option<Meta> {
        let meta = self.table.look(key, Entry::meta).filter(|meta| meta.live)?;
        if meta.expiry == 0 || meta.expiry >= now.unix {
            return Some(meta);
        }
        // If memory is full, the next one tries again; the key counts as gone either way.
        let _ = self.expire(now, key);
        None
    }

    pub(crate) fn look_up(&mut self, now: Now, key: &[u8]) -> Result<Lookup<Found>, Error> {
        self.admit()?;
        self.live(now, key).ok_or(Error::NotFound)?;
        let locked = self.is_locked(key, now.at);
        Ok(match self.here(key)? {
            Lookup::Here(found) if locked => Lookup::Here(Found { cas: LOCKED_CAS, ..found }),
            found => found,
        })
    }

    pub(crate) fn here(&self, key: &[u8]) -> Result<Lookup<Found>, Error> {
        let look = |entry: &Entry| match (entry.value(), entry.disk) {
            _ if !entry.is_live() => Err(Error::NotFound),
            (Some(item), _) => Ok(Lookup::Here(Found { item: item.clone(), cas: entry.cas() })),
            (None, Some(disk)) => Ok(Lookup::OnDisk { row: disk.row(), meta: entry.meta() }),
            (None, None) => Err(Error::Misuse("a value is neither in memory nor on disk")),
        };
        self.table.look(key, look).unwrap_or(Err(Error::NotFound))
    }

    /// A held key takes its holder's stamp only.
    pub(crate) fn check_cas(
        &self,
        now: Now,
        key: &[u8],
        live: Option<Meta>,
        cas: Option<u64>,
    ) -> Result<(), Error> {
        let Some(stamp) = live.and_then(|_| self.table.look(key, Entry::cas)) else { return Ok(()) };
        let right = cas == Some(stamp);
        if self.is_locked(key, now.at) && !right {
            return Err(Error::Locked);
        }
        if cas.is_some() && !right { Err(Error::Exists) } else { Ok(()) }
    }
}
