//! Where elements lie: chunks of places, filled in order, with holes where an element was replaced.
//!
//! Full chunks are immutable while a batch shares them, so that a consumer reads them without a lock. A change to a
//! shared chunk copies it first: the log's own memory is then exact, and the batch keeps what it was given.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::{Item, Marker, Seqno};

/// Places in a chunk. Large enough that its reference count costs nothing per item, small enough that copying one
/// because a batch still holds it costs about a microsecond.
const CHUNK_LEN: usize = 32;
const CHUNK_BITS: u32 = CHUNK_LEN.trailing_zeros();
/// One hole for this many live elements is kept.
const SPARE: usize = 2;
/// A sealed chunk with fewer places than this grows on; a longer one is left as it is, and the next is begun.
const GROW_BELOW: usize = 8;
/// Memory of a sealed chunk beside its places: its reference counts, and the pointer to it.
const CHUNK_BYTES: usize = 32;

/// One place. Small, so that a search by key misses the cache once, at the item itself.
#[derive(Clone, Debug)]
pub(crate) enum Slot {
    Vacant,
    Item(Item),
    /// Boxed, since they are few.
    Marker(Box<(Seqno, Marker)>),
}

const _: () = assert!(size_of::<Slot>() <= 24, "a place is a pointer and a little");

impl Slot {
    pub(crate) fn marker(seqno: Seqno, marker: Marker) -> Self {
        Self::Marker(Box::new((seqno, marker)))
    }

    pub(crate) const fn is_live(&self) -> bool {
        !matches!(self, Self::Vacant)
    }

    pub(crate) fn seqno(&self) -> Option<Seqno> {
        match self {
            Self::Vacant => None,
            Self::Item(item) => Some(item.seqno()),
            Self::Marker(marker) => Some(marker.0),
        }
    }

    /// Whether a consumer misses something if it does not get it.
    pub(crate) fn is_content(&self) -> bool {
        match self {
            Self::Vacant => false,
            Self::Item(_) => true,
            Self::Marker(marker) => marker.1.is_content(),
        }
    }
}

pub(crate) type Chunk = [Slot];

/// The number of a place in one checkpoint: chunk and offset. Later elements have greater numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place(u32);

impl Place {
    pub(crate) const FIRST: Self = Self(0);

    /// The limits of a checkpoint keep both far below what fits.
    fn new(chunk: usize, offset: usize) -> Self {
        Self(u32::try_from((chunk << CHUNK_BITS) + offset).unwrap_or(u32::MAX))
    }

    pub(crate) const fn chunk(self) -> usize {
        (self.0 >> CHUNK_BITS) as usize
    }

    pub(crate) const fn offset(self) -> usize {
        self.0 as usize & (CHUNK_LEN - 1)
    }

    /// The place after this one, in the same chunk or at the start of the next.
    pub(crate) const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// The places of one checkpoint.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    /// Chunks that a batch may share.
    sealed: Vec<Arc<Chunk>>,
    /// The last chunk while it is ours alone; empty when the last one is sealed.
    tail: Vec<Slot>,
    /// How many places the sealed chunks have.
    places: usize,
}

impl Slots {
    /// Where the next element will lie. Makes room for it, so that [`push`](Self::push) keeps the promise.
    pub(crate) fn reserve(&mut self) -> Place {
        if self.tail.len() == CHUNK_LEN {
            self.seal();
        }
        if self.tail.is_empty() {
            self.open_tail();
        }
        Place::new(self.sealed.len(), self.tail.len())
    }

    pub(crate) fn push(&mut self, slot: Slot) -> Place {
        let place = self.reserve();
        self.tail.push(slot);
        place
    }

    /// Goes on with a short last chunk, else begins a new one. So a reader that fetches every element as it comes does
    /// not leave a chunk for each.
    fn open_tail(&mut self) {
        self.tail.reserve_exact(CHUNK_LEN);
        if let Some(mut last) = self.sealed.pop_if(|last| (1..GROW_BELOW).contains(&last.len())) {
            self.places -= last.len();
            if let Some(own) = Arc::get_mut(&mut last) {
                self.tail.extend(own.iter_mut().map(|slot| core::mem::replace(slot, Slot::Vacant)));
            } else {
                self.tail.extend_from_slice(&last);
            }
        }
    }

    /// Makes everything so far shareable.
    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.places += self.tail.len();
            self.sealed.push(self.tail.drain(..).collect());
        }
    }

    /// Nothing more will come: keeps no room for it.
    pub(crate) fn finish(&mut self) {
        self.seal();
        self.tail = Vec::new();
    }

    /// A place after all elements and not after the next one.
    pub(crate) fn end(&self) -> Place {
        match self.sealed.last() {
            Some(last) if self.tail.is_empty() => Place::new(self.sealed.len() - 1, last.len()),
            _ => Place::new(self.sealed.len(), self.tail.len()),
        }
    }

    pub(crate) fn get(&self, place: Place) -> Option<&Slot> {
        self.chunk(place.chunk()).and_then(|chunk| chunk.get(place.offset()))
    }

    /// What was pushed last.
    pub(crate) fn last(&self) -> Option<&Slot> {
        self.tail.last().or_else(|| self.sealed.last().and_then(|chunk| chunk.last()))
    }

    fn chunk(&self, number: usize) -> Option<&Chunk> {
        if number == self.sealed.len() { Some(&self.tail) } else { self.sealed.get(number).map(Arc::as_ref) }
    }

    fn chunk_mut(&mut self, number: usize) -> Option<&mut Chunk> {
        if number == self.sealed.len() {
            Some(&mut self.tail)
        } else {
            self.sealed.get_mut(number).map(Arc::make_mut)
        }
    }

    /// Takes the element at `place` away and leaves a hole.
    pub(crate) fn vacate(&mut self, place: Place) -> Slot {
        self.chunk_mut(place.chunk())
            .and_then(|chunk| chunk.get_mut(place.offset()))
            .map_or(Slot::Vacant, |slot| core::mem::replace(slot, Slot::Vacant))
    }

    /// Live elements from `from` on, with their places.
    pub(crate) fn iter_from(&self, from: Place) -> impl Iterator<Item = (Place, &Slot)> {
        (from.chunk()..=self.sealed.len()).flat_map(move |number| {
            let skip = if number == from.chunk() { from.offset() } else { 0 };
            let chunk = self.chunk(number).unwrap_or_default();
            let slots = chunk.iter().enumerate().skip(skip).filter(|(_, slot)| slot.is_live());
            slots.map(move |(offset, slot)| (Place::new(number, offset), slot))
        })
    }

    /// Shares the places from `from` up to and without `to`, or up to the end.
    pub(crate) fn share(
        &mut self,
        from: Place,
        to: Option<Place>,
        mut part: impl FnMut(Arc<Chunk>, usize, usize),
    ) {
        self.seal();
        let to = to.unwrap_or(Place::new(self.sealed.len(), 0));
        for (number, chunk) in
            self.sealed.iter().enumerate().skip(from.chunk()).take_while(|(n, _)| *n <= to.chunk())
        {
            let start = if number == from.chunk() { from.offset().min(chunk.len()) } else { 0 };
            let end = if number == to.chunk() { to.offset().min(chunk.len()) } else { chunk.len() };
            if start < end {
                part(Arc::clone(chunk), start, end);
            }
        }
    }

    /// Whether holes outnumber live elements so far that [`squeeze`](Self::squeeze) pays.
    pub(crate) const fn is_sparse(&self, live: usize) -> bool {
        self.places > live + live / SPARE + 2 * CHUNK_LEN
    }

    /// Closes the holes. The answer maps every old place to where it, or the next live element after it, is now.
    pub(crate) fn squeeze(&mut self) -> Moved {
        let mut old = core::mem::take(self);
        old.seal();
        let mut places = Vec::with_capacity(old.sealed.len() * CHUNK_LEN);
        for mut chunk in old.sealed {
            for slot in Arc::make_mut(&mut chunk) {
                places.push(self.reserve());
                if slot.is_live() {
                    self.push(core::mem::replace(slot, Slot::Vacant));
                }
            }
            places.resize(places.len().next_multiple_of(CHUNK_LEN), self.reserve());
        }
        Moved { places, end: self.reserve() }
    }

    /// Frees the elements before `to`, except the checkpoint's start, and calls `freed` with each mutation's bytes.
    pub(crate) fn expel_before(&mut self, to: Place, mut freed: impl FnMut(Slot)) {
        for number in 0..to.chunk().min(self.sealed.len()) {
            self.vacate_range(number, usize::from(number == 0), CHUNK_LEN, &mut freed);
            if number > 0
                && let Some(chunk) = self.sealed.get_mut(number)
            {
                self.places -= chunk.len();
                *chunk = Arc::default();
            }
        }
        self.vacate_range(to.chunk(), usize::from(to.chunk() == 0), to.offset(), &mut freed);
    }

    fn vacate_range(&mut self, chunk: usize, from: usize, to: usize, freed: &mut impl FnMut(Slot)) {
        let any = self.chunk(chunk).is_some_and(|chunk| chunk.iter().take(to).skip(from).any(Slot::is_live));
        if !any {
            return;
        }
        for slot in
            self.chunk_mut(chunk).into_iter().flatten().take(to).skip(from).filter(|slot| slot.is_live())
        {
            freed(core::mem::replace(slot, Slot::Vacant));
        }
    }

    /// Memory of the chunks. What their elements point to is counted by the checkpoint.
    pub(crate) fn bytes(&self) -> usize {
        self.sealed.len() * CHUNK_BYTES + (self.places + self.tail.capacity()) * size_of::<Slot>()
    }
}

/// Where places went when holes were closed.
#[derive(Debug)]
pub(crate) struct Moved {
    places: Vec<Place>,
    end: Place,
}

impl Moved {
    pub(crate) fn to(&self, old: Place) -> Place {
        self.places.get(old.0 as usize).copied().unwrap_or(self.end)
    }
}
