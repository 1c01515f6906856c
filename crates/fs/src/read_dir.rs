use core::fmt;
use core::pin::Pin;
use core::task::{Context, Poll};
use std::collections::VecDeque;

use bytes::Bytes;
use cuttlebone_mds::{Answer, Call, DirEntry, Extra, Frag, Name, PageFlags, Target};
use futures_core::Stream;

use crate::{Error, FileSystem, Metadata, Place};

/// What is done, as errors tell it.
const OP: &str = "readdir";
/// The part of a name's hash that orders a directory.
///
/// Source: `torvalds/linux:include/linux/ceph/ceph_frag.h`, `ceph_frag_value`.
const HASH_MASK: u32 = 0xff_ffff;

/// An entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// Its name.
    pub name: Bytes,
    /// What it stands for.
    pub metadata: Metadata,
}

type Asking = Pin<Box<dyn Future<Output = Result<Page, Error>> + Send>>;

/// A directory being listed: a stream of its entries.
///
/// They come in the order of the hashes of their names, a page at a time; the next page is asked for when the one
/// before is used up. An entry that is there all the time comes once, also when the directory is divided among servers
/// or put together again meanwhile; one that comes or goes may be in the listing or not. After an error nothing follows.
///
/// Attributes are as the server knows them. A client that was given exclusive capabilities, as one that writes a file
/// is, may hold changes back; [`FileSystem::stat`] has the server ask for them, a listing does not.
#[must_use = "nothing is asked for before the stream is polled"]
pub struct ReadDir {
    fs: FileSystem,
    place: Place,
    /// The directory, once it is known.
    dir: Option<Target>,
    page_entries: u32,
    frag: Frag,
    after: Option<Name>,
    /// Where the last entry stands in the order of the whole directory.
    position: Option<(u32, Bytes)>,
    entries: VecDeque<Entry>,
    asking: Option<Asking>,
    done: bool,
}

/// An answer, and where the question went.
struct Page {
    dir: Target,
    answer: Box<Answer>,
}

impl fmt::Debug for ReadDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadDir")
            .field("place", &self.place)
            .field("done", &self.done)
            .finish_non_exhaustive()
    }
}

impl ReadDir {
    pub(crate) fn new(fs: FileSystem, place: Place, page_entries: u32) -> Self {
        Self {
            fs,
            place,
            dir: None,
            page_entries,
            frag: Frag::WHOLE,
            after: None,
            position: None,
            entries: VecDeque::new(),
            asking: None,
            done: false,
        }
    }

    /// The next entry; `None` at the end.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no entry is lost.
    pub async fn next(&mut self) -> Option<Result<Entry, Error>> {
        core::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    fn ask(&self) -> Asking {
        let (fs, place, known) = (self.fs.same(), self.place.clone(), self.dir.clone());
        let (frag, after, entries_max) = (self.frag, self.after.clone(), self.page_entries);
        Box::pin(async move {
            let dir = match known {
                Some(dir) => dir,
                None => fs.dir(OP, &place, &place).await?.into(),
            };
            let call = Call::ReadDir { dir: dir.clone(), frag, after, entries_max, bytes_max: 0 };
            let answer = fs.call(OP, &place, call).await?;
            Ok(Page { dir, answer })
        })
    }

    /// Takes a page in, and notes where the next one begins.
    fn on_page(&mut self, page: Page) -> Result<(), &'static str> {
        let Answer { target, extra, .. } = *page.answer;
        let Extra::Page(listed) = extra else { return Err("a listing without entries") };
        let hash = target.map(|dir| dir.dir_layout.hash);
        self.dir = Some(page.dir);
        let before = self.entries.len();
        for DirEntry { name, inode, .. } in listed.entries {
            // The server sorts a fragment by hash and name, and fragments by hash. So whatever happens to the fragments
            // between two pages, what is not behind the last entry has been listed.
            let position = (hash.map_or(0, |hash| hash.of(&name) & HASH_MASK), name.clone());
            if listed.flags.contains(PageFlags::HASH_ORDER) && self.position.as_ref() >= Some(&position) {
                continue;
            }
            self.position = Some(position);
            self.entries.push_back(Entry { name, metadata: inode.into() });
        }
        if listed.flags.contains(PageFlags::END) {
            let Some(next) = listed.frag.frag.next() else {
                self.done = true;
                return Ok(());
            };
            // Fragments that go back would go on for ever.
            if next.value() <= self.frag.value() {
                return Err("fragments out of order");
            }
            (self.frag, self.after) = (next, None);
            return Ok(());
        }
        if self.entries.len() == before {
            return Err("a page that leads nowhere");
        }
        self.frag = listed.frag.frag;
        let last = self.entries.back().map(|entry| Name::new(entry.name.clone()));
        self.after = Some(last.and_then(Result::ok).ok_or("a name that is none")?);
        Ok(())
    }
}

impl Stream for ReadDir {
    type Item = Result<Entry, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(entry) = self.entries.pop_front() {
                return Poll::Ready(Some(Ok(entry)));
            }
            if self.done {
                return Poll::Ready(None);
            }
            if self.asking.is_none() {
                self.asking = Some(self.ask());
            }
            let Some(asking) = &mut self.asking else { continue };
            let Poll::Ready(page) = asking.as_mut().poll(cx) else { return Poll::Pending };
            self.asking = None;
            let failed = match page.map(|page| self.on_page(page)) {
                Ok(Ok(())) => continue,
                Ok(Err(what)) => {
                    let source = cuttlebone_mds::Error::Unexpected(what);
                    Error::Failed { op: OP, place: self.place.clone(), source }
                }
                Err(error) => error,
            };
            self.done = true;
            self.entries.clear();
            return Poll::Ready(Some(Err(failed)));
        }
    }
}
