use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use bytes::Bytes;
use cuttlebone_driver::{OsEntropy, nonce};
use cuttlebone_mds::{
    Answer, Call, CapBits, Client, Config as ClientConfig, Entry as NewEntry, Errno, Ino, Name, NameError,
};
use cuttlebone_mon::StatFsReply;
use tokio::sync::{Semaphore, broadcast, mpsc, oneshot};
use tokio::time::timeout;

use crate::engine::{Engine, Known, Order};
use crate::fair::LaneId;
use crate::holds::Hold;
use crate::monitors::{Heard, HowFull, Monitors};
use crate::{Changes, Error, FsConfig, Metadata, Notice, Notices, Place};

/// Orders on their way to the engine.
const ORDERS_MAX: usize = 256;
/// What the monitors said on its way to the engine.
const HEARD_MAX: usize = 64;
/// Questions on their way to the monitors.
const QUESTIONS_MAX: usize = 16;
/// Notices kept for a listener that is slow; older ones are lost to it.
const NOTICES_MAX: usize = 1024;
/// Changes kept for a watcher that is slow.
const CHANGES_MAX: usize = 256;
/// Symbolic links on one path, as Linux has it.
///
/// Source: `torvalds/linux:include/linux/namei.h`, `MAXSYMLINKS`.
const SYMLINKS_MAX: usize = 40;

/// A mounted CephFS, for as long as one of its handles is there.
///
/// Each clone is a handle with its own place in the queue: handles take turns, so one that asks for thousands of things
/// does not delay the others. Futures are cancel safe: one that is dropped before it was sent has not happened, one
/// that is dropped later may have.
///
/// A change is done when its future is, and outlives a crash of the metadata server as long as this process lives; it is
/// on disk some seconds later, or when [`sync_dir`](Self::sync_dir) or [`sync`](Self::sync) has returned.
///
/// Dropping the last handle closes the sessions in the background, which works only while the runtime does:
/// [`unmount`](Self::unmount) tells when it is done. Sessions that are not closed keep other clients waiting.
pub struct FileSystem {
    shared: Arc<Shared>,
    lane: LaneId,
    room: Arc<Semaphore>,
}

struct Shared {
    config: Arc<FsConfig>,
    global_id: u64,
    orders: mpsc::Sender<Order>,
    questions: mpsc::Sender<HowFull>,
    notices: broadcast::Sender<Notice>,
    lanes: AtomicU64,
}

impl Clone for FileSystem {
    fn clone(&self) -> Self {
        // Only that it differs matters.
        let lane = LaneId(self.shared.lanes.fetch_add(1, Ordering::Relaxed));
        let room = Arc::new(Semaphore::new(self.shared.config.pending_max));
        Self { shared: Arc::clone(&self.shared), lane, room }
    }
}

impl fmt::Debug for FileSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileSystem").field("global_id", &self.shared.global_id).finish_non_exhaustive()
    }
}

impl FileSystem {
    /// Mounts: joins the monitors, learns who serves the file system, and opens a session with its root.
    ///
    /// Has to be called within a tokio runtime, on which it spawns its tasks.
    ///
    /// # Errors
    ///
    /// What kept it from that for [`FsConfig::mount_within`], or an answer that waiting will not change.
    ///
    /// # Cancel safety
    ///
    /// Cancelled, it leaves nothing behind.
    pub async fn mount(config: FsConfig) -> Result<Self, Error> {
        if config.monitors.is_empty() {
            return Err(Error::Config("a file system needs a monitor to ask"));
        }
        let config = Arc::new(config);
        let after = config.mount_within;
        let mut last_error = None;
        let mounted = timeout(after, Self::mount_now(Arc::clone(&config), &mut last_error)).await;
        mounted.unwrap_or_else(|_| {
            Err(last_error.unwrap_or(Error::NotInTime { what: "active metadata server", after }))
        })
    }

    async fn mount_now(config: Arc<FsConfig>, last_error: &mut Option<Error>) -> Result<Self, Error> {
        // One nonce for all connections: an evicted instance is fenced by its address, which the nonce is part of.
        let nonce = nonce();
        let (heard_tx, mut heard) = mpsc::channel(HEARD_MAX);
        let (questions, questions_rx) = mpsc::channel(QUESTIONS_MAX);
        tokio::spawn(Monitors::new(Arc::clone(&config), nonce, heard_tx, questions_rx).run());
        let mut global_id = 0;
        let map = loop {
            match heard.recv().await {
                Some(Heard::Joined(id)) => {
                    *last_error = None;
                    global_id = id;
                }
                Some(Heard::Map(map)) => break map,
                Some(Heard::Lost(error)) => *last_error = Some(error),
                Some(Heard::NoFileSystem(name)) => return Err(Error::NoFileSystem(name)),
                None => return Err(Error::MonitorGone),
            }
        };
        let (orders, orders_rx) = mpsc::channel(ORDERS_MAX);
        let (notices, _) = broadcast::channel(NOTICES_MAX);
        let client = Client::new(client_config(&config), Box::new(OsEntropy::default()));
        let engine =
            Engine::new(Arc::clone(&config), nonce, global_id, client, heard, orders_rx, notices.clone());
        tokio::spawn(engine.run(map));
        let lanes = AtomicU64::new(2);
        let room = Arc::new(Semaphore::new(config.pending_max));
        let shared = Arc::new(Shared { config, global_id, orders, questions, notices, lanes });
        let fs = Self { shared, lane: LaneId(1), room };
        fs.stat(Place::root()).await?;
        Ok(fs)
    }

    /// Closes all sessions, of all handles, after everything that was done is committed.
    ///
    /// # Errors
    ///
    /// If a server did not agree in time: it keeps the session until its own time-out.
    ///
    /// # Cancel safety
    ///
    /// Cancelled, it goes on in the background.
    pub async fn unmount(self) -> Result<(), Error> {
        let (answer, clean) = oneshot::channel();
        self.shared.orders.send(Order::Unmount { answer }).await.map_err(|_| Error::Unmounted)?;
        let after = self.shared.config.unmount_within;
        match timeout(after, clean).await {
            Ok(Ok(true)) => Ok(()),
            Ok(Err(_)) => Err(Error::Unmounted),
            Ok(Ok(false)) | Err(_) => Err(Error::NotInTime { what: "end of every session", after }),
        }
    }

    /// The same handle once more, with the same place in the queue.
    pub(crate) fn same(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), lane: self.lane, room: Arc::clone(&self.room) }
    }

    /// The number that the monitors gave to this mount: `client.4711` in what administrators see.
    pub fn global_id(&self) -> u64 {
        self.shared.global_id
    }

    /// How this mount was configured.
    pub fn config(&self) -> &FsConfig {
        &self.shared.config
    }

    /// What becomes of the sessions, from now on.
    pub fn notices(&self) -> Notices {
        Notices::new(self.shared.notices.subscribe())
    }
}

impl FileSystem {
    /// Waits until everything that was done to the names in a directory, or to a file, is committed.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] if something of it may not last: its session was lost. Told once.
    pub async fn sync_dir(&self, place: impl Into<Place>) -> Result<(), Error> {
        let (op, place) = ("fsync", place.into());
        let ino = self.ino(op, &place).await?;
        self.commit(op, place, Some(ino)).await
    }

    /// Waits until everything that was done through this mount is committed.
    ///
    /// # Errors
    ///
    /// As [`sync_dir`](Self::sync_dir).
    pub async fn sync(&self) -> Result<(), Error> {
        self.commit("sync", Place::root(), None).await
    }

    async fn commit(&self, op: &'static str, place: Place, what: Option<Ino>) -> Result<(), Error> {
        let (answer, synced) = oneshot::channel();
        self.order(Order::Sync { what, answer }).await?;
        synced.await.map_err(|_| Error::Unmounted)?.map_err(|source| Error::Failed { op, place, source })
    }

    /// How full the cluster is, as its monitors know.
    ///
    /// # Errors
    ///
    /// If no monitor answers in time.
    pub async fn statfs(&self) -> Result<StatFsReply, Error> {
        let (answer, reply) = oneshot::channel();
        let after = self.shared.config.answer_within;
        let question = HowFull { pool: None, answer };
        let asked = async {
            self.shared.questions.send(question).await.map_err(|_| Error::Unmounted)?;
            reply.await.map_err(|_| Error::NotInTime { what: "answer of a monitor", after })
        };
        timeout(after, asked).await.unwrap_or(Err(Error::NotInTime { what: "answer of a monitor", after }))
    }

    /// Tells of changes to directories and files, as far as the servers tell us: by taking back what they had granted.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] with what the server says, or `ENOSPC` if too much is watched already.
    pub async fn watch<P: Clone + Into<Place>>(&self, places: &[P]) -> Result<Changes, Error> {
        let mut watched = Vec::new();
        for place in places {
            let place = place.clone().into();
            let metadata = self.stat(&place).await?;
            if !metadata.snap.is_head() {
                return Err(refused("watch", &place, Errno::EROFS));
            }
            watched.push((metadata.ino, place));
        }
        let (changes, receiver) = mpsc::channel(CHANGES_MAX);
        let (answer, taken) = oneshot::channel();
        let inos = watched.iter().map(|(ino, _)| *ino).collect();
        self.order(Order::Watch { inos, changes, answer }).await?;
        if taken.await.map_err(|_| Error::Unmounted)? {
            return Ok(Changes::new(self.same(), watched, receiver));
        }
        let first = watched.into_iter().next().map_or_else(Place::root, |(_, place)| place);
        Err(refused("watch", &first, Errno::ENOSPC))
    }

    async fn order(&self, order: Order) -> Result<(), Error> {
        self.shared.orders.send(order).await.map_err(|_| Error::Unmounted)
    }

    /// One call and its answer.
    ///
    /// A server that is asked for a number which it has not in memory looks for it on disk with some operations only, of
    /// 16.2.15 those of snapshots not among them. It always does if that is what it is asked for; then it is asked for the
    /// other thing once more.
    ///
    /// Source: `ceph/ceph:src/mds/Server.cc`, `try_get_auth_inode`, `_try_open_ino`; seen in 16.2.15.
    pub(crate) async fn call(
        &self,
        op: &'static str,
        place: &Place,
        call: Call,
    ) -> Result<Box<Answer>, Error> {
        Ok(self.call_open(op, place, call).await?.0)
    }

    /// The same, with what keeps the file open if the call has opened one.
    pub(crate) async fn call_open(
        &self,
        op: &'static str,
        place: &Place,
        call: Call,
    ) -> Result<(Box<Answer>, Option<Hold>), Error> {
        let again = match self.call_once(op, place, call.clone()).await {
            Err(error) if error.errno() == Some(Errno::ESTALE) => error,
            answer => return answer,
        };
        let want = CapBits::PIN;
        for ino in call.inodes().filter(|ino| *ino != Ino::ROOT) {
            if self.call_once(op, place, Call::LookupIno { ino, want }).await.is_err() {
                return Err(again);
            }
        }
        self.call_once(op, place, call).await
    }

    async fn call_once(
        &self,
        op: &'static str,
        place: &Place,
        call: Call,
    ) -> Result<(Box<Answer>, Option<Hold>), Error> {
        // Never closed, so this is only a matter of waiting.
        let _room = self.room.acquire().await;
        let (answer, outcome) = oneshot::channel();
        self.order(Order::Call { lane: self.lane, call, answer }).await?;
        let outcome = outcome.await.map_err(|_| Error::Unmounted)?;
        outcome.map_err(|source| match source {
            cuttlebone_mds::Error::Closed => Error::Unmounted,
            source => Error::Failed { op, place: place.clone(), source },
        })
    }

    /// The inode at a place, symbolic links on the way followed, one at the end not.
    pub(crate) async fn ino(&self, op: &'static str, place: &Place) -> Result<Ino, Error> {
        match place.split() {
            None => Ok(place.base()),
            Some((dir, name)) => {
                Self::only_now(op, &dir, name)?;
                let name = name_of(op, place, name)?;
                let dir = self.dir(op, place, &dir).await?;
                if let Some(known) = self.known(dir, &name).await? {
                    return Ok(known.ino);
                }
                let want = CapBits::PIN;
                let answer =
                    self.call(op, place, Call::Lookup { entry: NewEntry::new(dir, name), want }).await?;
                Ok(self.target(op, place, answer).await?.ino)
            }
        }
    }

    /// The entry that a place is, in a directory that is known by number.
    pub(crate) async fn entry(&self, op: &'static str, place: &Place) -> Result<NewEntry, Error> {
        let Some((dir, name)) = place.split() else {
            let source = NameError::Empty;
            return Err(Error::Name { op, place: place.clone(), source });
        };
        self.entry_in(op, place, &dir, name).await
    }

    /// The entry `name` of the directory at `dir`.
    pub(crate) async fn entry_in(
        &self,
        op: &'static str,
        place: &Place,
        dir: &Place,
        name: &[u8],
    ) -> Result<NewEntry, Error> {
        Self::only_now(op, dir, name)?;
        let name = name_of(op, place, name)?;
        Ok(NewEntry::new(self.dir(op, place, dir).await?, name))
    }

    /// The directory at `dir`, where symbolic links are followed wherever they are. `place` is what it is for.
    pub(crate) async fn dir(&self, op: &'static str, place: &Place, dir: &Place) -> Result<Ino, Error> {
        Ok(self.way(op, place, dir).await?.last().copied().unwrap_or(Ino::ROOT))
    }

    /// The same with the directories on the way to it, from the inode that the path starts from.
    pub(crate) async fn way(&self, op: &'static str, place: &Place, dir: &Place) -> Result<Vec<Ino>, Error> {
        // What is still to be looked up, last part first; and for `..` in links the way that we came.
        let mut left: Vec<Bytes> = dir.parts().map(Bytes::copy_from_slice).collect();
        left.reverse();
        let (mut way, mut links) = (vec![dir.base()], 0);
        let mut is_dir = true;
        while let Some(part) = left.pop() {
            let here = way.last().copied().unwrap_or(Ino::ROOT);
            match &*part {
                // No server is asked for these names, which would see it.
                b"." | b".." if !is_dir => return Err(refused(op, place, Errno::ENOTDIR)),
                b"" | b"." => continue,
                b".." => {
                    if way.len() > 1 {
                        way.pop();
                    }
                    continue;
                }
                _ => {}
            }
            let name = name_of(op, place, &part)?;
            if let Some(known) = self.known(here, &name).await? {
                is_dir = known.is_dir;
                way.push(known.ino);
                continue;
            }
            let entry = NewEntry::new(here, name);
            let answer = self.call(op, place, Call::Lookup { entry, want: CapBits::PIN }).await?;
            let metadata = self.target(op, place, answer).await?;
            if !metadata.is_symlink() {
                is_dir = metadata.is_dir();
                way.push(metadata.ino);
                continue;
            }
            links += 1;
            if links > SYMLINKS_MAX {
                return Err(Error::Loop { op, place: place.clone() });
            }
            if metadata.symlink.starts_with(b"/") {
                way = vec![Ino::ROOT];
            }
            left.extend(
                metadata
                    .symlink
                    .split(|byte| *byte == b'/')
                    .rev()
                    .map(|part| metadata.symlink.slice_ref(part)),
            );
        }
        Ok(way)
    }

    /// The inode that a name stands for and that is no symbolic link, if that is known without asking.
    async fn known(&self, dir: Ino, name: &Name) -> Result<Option<Known>, Error> {
        let (answer, known) = oneshot::channel();
        self.order(Order::Known { entry: NewEntry::new(dir, name.clone()), answer }).await?;
        known.await.map_err(|_| Error::Unmounted)
    }

    /// The attributes of what an answer is about. A server that had done a change before it was replaced only says that
    /// it was done; then they are asked for.
    pub(crate) async fn target(
        &self,
        op: &'static str,
        place: &Place,
        answer: Box<Answer>,
    ) -> Result<Metadata, Error> {
        match answer.target {
            Some(stat) => Ok(Metadata::from(stat)),
            None => Box::pin(self.stat(place)).await.map_err(|error| match error {
                Error::Failed { place, source, .. } => Error::Failed { op, place, source },
                other => other,
            }),
        }
    }
}

pub(crate) fn name_of(op: &'static str, place: &Place, name: &[u8]) -> Result<Name, Error> {
    let name = Name::new(Bytes::copy_from_slice(name));
    name.map_err(|source| Error::Name { op, place: place.clone(), source })
}

/// An answer that we give ourselves, as a server would.
pub(crate) fn refused(op: &'static str, place: &Place, errno: Errno) -> Error {
    Error::Failed { op, place: place.clone(), source: cuttlebone_mds::Error::Refused(errno) }
}

/// What is said about us to the servers.
fn client_config(config: &FsConfig) -> ClientConfig {
    let mut client = ClientConfig { limits: config.limits.clone(), ..ClientConfig::default() };
    client.timing.close_max = config.unmount_within;
    client.metadata.insert("entity_id".into(), config.id.clone());
    client.metadata.extend(config.metadata.clone());
    client
}
