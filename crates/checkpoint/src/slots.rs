//! Where elements lie: chunks of places, filled in order, with holes where an element was replaced.
//!
//! Chunks are immutable while a batch shares them, so that a consumer reads them without a lock. A change to a
//! shared chunk copies it first: the log's own memory is then exact, and the batch keeps what it was given. A chunk that no
//! batch has asked for is the log's alone: changing it needs no look at a count of references.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::mem::{replace, take};
use core::num::NonZeroU32;

use triomphe::{Arc, UniqueArc};

use crate::{Item, Marker, Seqno};

/// Places in a chunk. Large enough that its reference count costs nothing per item, small enough that copying one
/// because a batch still holds it costs about a microsecond.
const CHUNK_LEN: usize = 32;
const CHUNK_BITS: u32 = CHUNK_LEN.trailing_zeros();
/// One hole for this many live elements is kept.
const SPARE: usize = 2;
/// A shared chunk with fewer places than this grows on; a longer one is left as it is, and the next is begun.
const GROW_BELOW: usize = 8;
/// Memory of a chunk beside its places: its entry in the list, and its count of references.
const CHUNK_BYTES: usize = size_of::<Sealed>() + size_of::<usize>();

/// One place. Small, so that a search by key misses the cache once, at the item itself.
#[derive(Clone, Debug)]
pub(crate) enum Slot {
    Vacant,
    Item(Item),
    /// Boxed, since they are few.
    Marker(Box<(Seqno, Marker)>),
}

const _: () = assert!(size_of::<Slot>() <= 16, "a place is a pointer and a little");

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
///
/// Counted from one, so that "no place" costs the index nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place(NonZeroU32);

impl Place {
    pub(crate) const FIRST: Self = Self(NonZeroU32::MIN);

    /// The limits of a checkpoint keep both far below what fits.
    fn new(chunk: usize, offset: usize) -> Self {
        Self::nth(u32::try_from((chunk << CHUNK_BITS) + offset).unwrap_or(u32::MAX))
    }

    const fn nth(number: u32) -> Self {
        Self(NonZeroU32::MIN.saturating_add(number))
    }

    const fn number(self) -> u32 {
        self.0.get() - 1
    }

    pub(crate) const fn chunk(self) -> usize {
        (self.number() >> CHUNK_BITS) as usize
    }

    pub(crate) const fn offset(self) -> usize {
        self.number() as usize & (CHUNK_LEN - 1)
    }

    /// The place after this one, in the same chunk or at the start of the next.
    pub(crate) const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// A chunk to which nothing is appended.
#[derive(Default)]
enum Sealed {
    /// Everything in it was expelled.
    #[default]
    Expelled,
    /// Nobody else has it.
    Own(UniqueArc<Chunk>),
    /// A batch has it, or had it.
    Shared(Arc<Chunk>),
}

impl Sealed {
    fn slots(&self) -> &Chunk {
        match self {
            Self::Expelled => &[],
            Self::Own(slots) => slots,
            Self::Shared(slots) => slots,
        }
    }

    /// Takes it back from a batch, or copies it.
    fn slots_mut(&mut self) -> &mut Chunk {
        if let Self::Shared(_) = self
            && let Self::Shared(slots) = take(self)
        {
            let copy = |slots: Arc<Chunk>| slots.iter().cloned().collect();
            *self = Self::Own(Arc::try_unique(slots).unwrap_or_else(copy));
        }
        match self {
            Self::Own(slots) => slots,
            Self::Expelled | Self::Shared(_) => &mut [],
        }
    }

    fn share(&mut self) -> Option<Arc<Chunk>> {
        *self = match take(self) {
            Self::Own(slots) => Self::Shared(slots.shareable()),
            other => other,
        };
        match self {
            Self::Shared(slots) => Some(Arc::clone(slots)),
            Self::Expelled | Self::Own(_) => None,
        }
    }
}

/// The places of one checkpoint.
#[derive(Default)]
pub(crate) struct Slots {
    /// All chunks but the last.
    sealed: Vec<Sealed>,
    /// The last chunk while it takes more; empty when the last one is sealed.
    tail: Vec<Slot>,
    /// How many places the sealed chunks have.
    places: usize,
    /// Chunks whose elements have moved, for the next ones: an allocator would cut them up for items.
    spare: Vec<UniqueArc<Chunk>>,
}

impl fmt::Debug for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter_from(Place::FIRST)).finish()
    }
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
        let is_short = |last: &mut Sealed| (1..GROW_BELOW).contains(&last.slots().len());
        if let Some(mut last) = self.sealed.pop_if(is_short) {
            self.places -= last.slots().len();
            self.tail.extend(last.slots_mut().iter_mut().map(|slot| replace(slot, Slot::Vacant)));
        }
    }

    /// Ends the last chunk.
    fn seal(&mut self) {
        if self.tail.is_empty() {
            return;
        }
        self.places += self.tail.len();
        let spare = if self.tail.len() == CHUNK_LEN { self.spare.pop() } else { None };
        self.sealed.push(Sealed::Own(match spare {
            Some(mut spare) => {
                spare.iter_mut().zip(self.tail.drain(..)).for_each(|(place, slot)| *place = slot);
                spare
            }
            None => self.tail.drain(..).collect(),
        }));
    }

    /// Nothing more will come: keeps no room for it.
    pub(crate) fn finish(&mut self) {
        self.seal();
        self.tail = Vec::new();
        self.spare = Vec::new();
    }

    /// A place after all elements and not after the next one.
    pub(crate) fn end(&self) -> Place {
        match self.sealed.last() {
            Some(last) if self.tail.is_empty() => Place::new(self.sealed.len() - 1, last.slots().len()),
            _ => Place::new(self.sealed.len(), self.tail.len()),
        }
    }

    pub(crate) fn get(&self, place: Place) -> Option<&Slot> {
        self.chunk(place.chunk()).and_then(|chunk| chunk.get(place.offset()))
    }

    /// What was pushed last.
    pub(crate) fn last(&self) -> Option<&Slot> {
        self.tail.last().or_else(|| self.sealed.last().and_then(|chunk| chunk.slots().last()))
    }

    fn chunk(&self, number: usize) -> Option<&[Slot]> {
        if number == self.sealed.len() {
            Some(&self.tail)
        } else {
            self.sealed.get(number).map(Sealed::slots)
        }
    }

    fn chunk_mut(&mut self, number: usize) -> Option<&mut [Slot]> {
        if number == self.sealed.len() {
            Some(&mut self.tail)
        } else {
            self.sealed.get_mut(number).map(Sealed::slots_mut)
        }
    }

    /// Takes the element at `place` away and leaves a hole.
    pub(crate) fn vacate(&mut self, place: Place) -> Slot {
        self.chunk_mut(place.chunk())
            .and_then(|chunk| chunk.get_mut(place.offset()))
            .map_or(Slot::Vacant, |slot| replace(slot, Slot::Vacant))
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
        let chunks = self.sealed.iter_mut().enumerate().skip(from.chunk());
        for (number, chunk) in chunks.take_while(|(number, _)| *number <= to.chunk()) {
            let len = chunk.slots().len();
            let start = if number == from.chunk() { from.offset().min(len) } else { 0 };
            let end = if number == to.chunk() { to.offset().min(len) } else { len };
            if start < end {
                chunk.share().into_iter().for_each(|chunk| part(chunk, start, end));
            }
        }
    }

    /// Whether holes outnumber live elements so far that [`squeeze`](Self::squeeze) pays.
    pub(crate) const fn is_sparse(&self, live: usize) -> bool {
        self.places > live + live / SPARE + 2 * CHUNK_LEN
    }

    /// Closes the holes. The answer maps every old place to where it, or the next live element after it, is now.
    pub(crate) fn squeeze(&mut self) -> Moved {
        let mut old = take(self);
        old.seal();
        self.spare = old.spare;
        let (mut chunks, mut live) = (Vec::with_capacity(old.sealed.len()), 0);
        for mut chunk in old.sealed {
            let mut mask = 0_u32;
            for (offset, slot) in chunk.slots_mut().iter_mut().enumerate().filter(|(_, slot)| slot.is_live())
            {
                mask |= 1 << offset;
                self.push(replace(slot, Slot::Vacant));
            }
            chunks.push((live, mask));
            live += mask.count_ones();
            if let Sealed::Own(chunk) = chunk
                && chunk.len() == CHUNK_LEN
            {
                self.spare.push(chunk);
            }
        }
        Moved { chunks, live }
    }

    /// Frees the elements before `to`, except the checkpoint's start, and calls `freed` with each mutation's bytes.
    pub(crate) fn expel_before(&mut self, to: Place, mut freed: impl FnMut(Slot)) {
        for number in 0..to.chunk().min(self.sealed.len()) {
            self.vacate_range(number, usize::from(number == 0), CHUNK_LEN, &mut freed);
            if number > 0
                && let Some(chunk) = self.sealed.get_mut(number)
            {
                self.places -= chunk.slots().len();
                *chunk = Sealed::Expelled;
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
            freed(replace(slot, Slot::Vacant));
        }
    }

    /// Memory of the chunks. What their elements point to is counted by the checkpoint.
    pub(crate) fn bytes(&self) -> usize {
        let room = self.places + self.tail.capacity() + self.spare.len() * CHUNK_LEN;
        (self.sealed.len() + self.spare.len()) * CHUNK_BYTES + room * size_of::<Slot>()
    }
}

/// Where places went when holes were closed.
#[derive(Debug)]
pub(crate) struct Moved {
    /// Of each chunk, how many live elements came before it, and which of its places were live.
    chunks: Vec<(u32, u32)>,
    /// How many live elements there were.
    live: u32,
}

const _: () = assert!(CHUNK_LEN == u32::BITS as usize, "a mask has a bit for each place of a chunk");

impl Moved {
    /// Live elements lie one after another now, so a place is the number of those before it.
    pub(crate) fn to(&self, old: Place) -> Place {
        Place::nth(self.chunks.get(old.chunk()).map_or(self.live, |(before, mask)| {
            let earlier = (1_u32 << old.offset()) - 1;
            before + (mask & earlier).count_ones()
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Item, Op};

    fn filled(len: u64) -> (Slots, Vec<Place>) {
        let mut slots = Slots::default();
        let item = |seqno| Item::new(Op::Set, b"key", b"").unwrap().with_seqno(Seqno(seqno));
        let places = (0..len).map(|seqno| slots.push(Slot::Item(item(seqno)))).collect();
        (slots, places)
    }

    fn seqnos(slots: &Slots, from: Place) -> Vec<u64> {
        slots.iter_from(from).filter_map(|(_, slot)| slot.seqno()).map(|seqno| seqno.0).collect()
    }

    #[test]
    fn closing_holes_moves_every_place_to_what_comes_next() {
        for len in [1, 31, 32, 33, 64, 200] {
            for (keep, short) in [(1, false), (2, true), (3, false), (7, true), (1000, false)] {
                let (mut slots, mut places) = filled(len);
                if short {
                    // A chunk that was shared before it was full stays short.
                    slots.share(Place::FIRST, None, |_, _, _| {});
                    places.push(slots.push(Slot::Vacant));
                }
                for place in places.iter().enumerate().filter(|(at, _)| at % keep != 0).map(|(_, at)| *at) {
                    slots.vacate(place);
                }
                let expected: Vec<_> = places.iter().map(|place| seqnos(&slots, *place)).collect();
                let end = slots.end();
                let moved = slots.squeeze();
                let found: Vec<_> = places.iter().map(|place| seqnos(&slots, moved.to(*place))).collect();
                assert_eq!(found, expected, "{len} places, one in {keep}");
                assert_eq!(seqnos(&slots, moved.to(end)), [0; 0]);
            }
        }
    }

    #[test]
    fn a_batch_keeps_what_it_was_given_whatever_becomes_of_the_chunk() {
        let (mut slots, places) = filled(40);
        let mut parts = Vec::new();
        slots.share(Place::FIRST, None, |chunk, from, to| parts.push((chunk, from, to)));
        for place in &places {
            slots.vacate(*place);
        }
        slots.squeeze();
        slots.push(Slot::Vacant);
        let shared: usize = parts.iter().map(|(_, from, to)| to - from).sum();
        assert_eq!(shared, 40);
        assert!(parts.iter().all(|(chunk, from, to)| chunk[*from..*to].iter().all(Slot::is_live)));
    }

    #[test]
    fn chunks_that_holes_have_left_are_used_again() {
        let (mut slots, places) = filled(32 * 10);
        for place in places.iter().skip(32) {
            slots.vacate(*place);
        }
        slots.squeeze();
        assert_eq!(slots.spare.len(), 10, "what is left lies in the last one");
        let before = slots.bytes();
        for _ in 0..32 * 8 {
            slots.push(Slot::Vacant);
        }
        assert!(slots.spare.len() < 3 && slots.bytes() <= before, "{} B, not {before}", slots.bytes());
        slots.finish();
        assert!(slots.spare.is_empty());
    }
}
