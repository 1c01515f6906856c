use core::fmt;
use core::pin::Pin;
use core::task::{Context, Poll};

use bytes::Bytes;
use cuttlebone_mds::{Answer, Call, Extra, Ino, NameHash, Target};
use futures_core::Stream;

use crate::paging::Paging;
use crate::snapshots::Past;
use crate::{Error, FileSystem, Metadata, Place};

/// What is done, as errors tell it.
const OP: &str = "readdir";
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
    dir: Option<Listed>,
    page_entries: u32,
    paging: Paging,
    asking: Option<Asking>,
}

/// What is listed.
#[derive(Clone)]
enum Listed {
    Directory(Target),
    SnapshotsOf(Ino),
}

/// An answer, and where the question went.
struct Page {
    dir: Listed,
    answer: Box<Answer>,
}

impl fmt::Debug for ReadDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadDir")
            .field("place", &self.place)
            .field("done", &self.paging.is_done)
            .finish_non_exhaustive()
    }
}

impl ReadDir {
    pub(crate) fn new(fs: FileSystem, place: Place, page_entries: u32) -> Self {
        Self { fs, place, dir: None, page_entries, paging: Paging::new(), asking: None }
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
        let (frag, after, entries_max) = (self.paging.frag, self.paging.after.clone(), self.page_entries);
        Box::pin(async move {
            let dir = match known {
                Some(dir) => dir,
                None => match fs.past(OP, &place).await? {
                    None => Listed::Directory(fs.dir(OP, &place, &place).await?.into()),
                    Some(Past::Kept(target)) => Listed::Directory(target),
                    Some(Past::Snapshots(dir)) => Listed::SnapshotsOf(dir),
                },
            };
            let call = match dir.clone() {
                Listed::Directory(dir) => Call::ReadDir { dir, frag, after, entries_max, bytes_max: 0 },
                Listed::SnapshotsOf(dir) => Call::ListSnaps { dir, after },
            };
            let answer = fs.call(OP, &place, call).await?;
            Ok(Page { dir, answer })
        })
    }

    fn on_page(&mut self, page: Page) -> Result<(), &'static str> {
        let Answer { target, extra, .. } = *page.answer;
        let Extra::Page(listed) = extra else { return Err("a listing without entries") };
        self.dir = Some(page.dir);
        // Every directory of today has the same hash; one whose server says nothing about itself has it, too.
        let hash = target.map_or(NameHash::RJENKINS, |dir| dir.dir_layout.hash);
        self.paging.take(listed, hash)
    }
}

impl Stream for ReadDir {
    type Item = Result<Entry, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(entry) = self.paging.entries.pop_front() {
                return Poll::Ready(Some(Ok(entry)));
            }
            if self.paging.is_done {
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
            self.paging.is_done = true;
            self.paging.entries.clear();
            return Poll::Ready(Some(Err(failed)));
        }
    }
}
