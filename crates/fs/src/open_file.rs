use cuttlebone_mds::{Answer, AttrChanges, Call, Errno, Extra, Ino};

use crate::handle::refused;
use crate::holds::Hold;
use crate::metadata::PERMISSION_BITS;
use crate::{Error, FileSystem, Metadata, Place};

/// Whether a file is made when it is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there is no fourth way")]
pub enum OpenHow {
    /// It has to be there.
    #[default]
    Existing,
    /// It is made with these permissions if it is not there.
    OrMake(u32),
    /// It has to be new, and is made with these permissions.
    New(u32),
}

/// A file or directory that is open, which is to say: it stays there with its number and attributes until this is
/// dropped, also without a name.
///
/// For those who made a file and give it its name later, take a lock, or want to be sure that a number goes on standing for
/// the same file. Contents are neither read nor written through it, and it keeps nobody from doing so: the capability
/// behind it covers the existence of the inode and nothing else.
///
/// It outlives a restart of the metadata server, which is told of it. With the session it is lost
/// ([`is_lost`](Self::is_lost)).
#[derive(Debug)]
pub struct OpenFile {
    fs: FileSystem,
    place: Place,
    metadata: Metadata,
    is_new: bool,
    hold: Hold,
}

impl FileSystem {
    /// Opens a file or directory, or makes a file and opens it in the same moment.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] with what the server says: `ENOENT`; `EEXIST` for [`OpenHow::New`]. From us: `ELOOP` for a
    /// symbolic link, which is not followed at the end; `EISDIR` for a directory with [`OpenHow::OrMake`]; `EINVAL` for
    /// what is neither file nor directory; `EROFS` in a snapshot, where nothing goes away; `EMFILE` if more would be open
    /// or watched than [`Limits::pins_max`](crate::Limits).
    ///
    /// # Cancel safety
    ///
    /// Cancelled, it may have made the file, and leaves nothing open.
    pub async fn open(&self, place: impl Into<Place>, how: OpenHow) -> Result<OpenFile, Error> {
        let (op, place) = ("open", place.into());
        match how {
            OpenHow::Existing => self.open_existing(op, place).await,
            OpenHow::New(mode) => self.make_and_open(op, place, mode, true).await,
            OpenHow::OrMake(mode) => match self.make_and_open(op, place.clone(), mode, false).await {
                // Which is known of what would be made, and not of what is there.
                Err(full) if full.errno() == Some(Errno::EDQUOT) => {
                    self.open_existing(op, place).await.map_err(|_| full)
                }
                outcome => outcome,
            },
        }
    }

    async fn open_existing(&self, op: &'static str, place: Place) -> Result<OpenFile, Error> {
        let ino = self.ino(op, &place).await?;
        let (answer, hold) = self.call_open(op, &place, Call::Open { ino }).await?;
        let metadata = self.target(op, &place, answer).await?;
        self.held(op, place, metadata, hold, false)
    }

    async fn make_and_open(
        &self,
        op: &'static str,
        place: Place,
        mode: u32,
        exclusive: bool,
    ) -> Result<OpenFile, Error> {
        let entry = self.entry(op, &place).await?;
        let mode = mode & PERMISSION_BITS;
        let call = Call::Create { entry, mode, exclusive };
        let (answer, hold) = self.call_open(op, &place, call).await?;
        let is_new = exclusive || matches!(answer.extra, Extra::Created(_));
        let Some(stat) = answer.target else {
            // It was done by a server that was replaced, and opened for nobody.
            let opened = self.open_existing(op, place).await?;
            return Ok(OpenFile { is_new, ..opened });
        };
        let metadata = Metadata::from(stat);
        if metadata.is_dir() {
            return Err(refused(op, &place, Errno::EISDIR));
        }
        self.held(op, place, metadata, hold, is_new)
    }

    fn held(
        &self,
        op: &'static str,
        place: Place,
        metadata: Metadata,
        hold: Option<Hold>,
        is_new: bool,
    ) -> Result<OpenFile, Error> {
        match hold {
            _ if metadata.is_symlink() => Err(refused(op, &place, Errno::ELOOP)),
            _ if !metadata.is_file() && !metadata.is_dir() => Err(refused(op, &place, Errno::EINVAL)),
            Some(hold) => Ok(OpenFile { fs: self.same(), place, metadata, is_new, hold }),
            // The session was lost in the same moment.
            None => Err(refused(op, &place, Errno::ESTALE)),
        }
    }
}

impl OpenFile {
    /// Its number. As a [`Place`] it serves every other operation, whatever the file is called by now.
    pub fn ino(&self) -> Ino {
        self.metadata.ino
    }

    /// Its attributes as they were when it was opened.
    pub const fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Whether it was made by opening it. Of one that was made just when its server was replaced that may be unknown, and
    /// `false`.
    pub const fn is_new(&self) -> bool {
        self.is_new
    }

    /// Whether it is not open any more, because the session with its server was lost: we were evicted, or could not be
    /// reached for too long. Only opening it anew can help; the number may stand for nothing by then.
    pub fn is_lost(&self) -> bool {
        self.hold.is_lost()
    }

    /// Its attributes now.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] with what the server says; `ESTALE` if it is lost.
    pub async fn stat(&self) -> Result<Metadata, Error> {
        self.check("stat")?;
        self.fs.stat(self.ino()).await
    }

    /// Changes attributes, and answers all of them.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] with what the server says; `ESTALE` if it is lost.
    pub async fn set_attributes(&self, changes: AttrChanges) -> Result<Metadata, Error> {
        self.check("setattr")?;
        self.fs.set_attributes(self.ino(), changes).await
    }

    /// Asks its server for something.
    pub(crate) async fn call(&self, op: &'static str, call: Call) -> Result<Box<Answer>, Error> {
        self.check(op)?;
        self.fs.call(op, &self.place, call).await
    }

    fn check(&self, op: &'static str) -> Result<(), Error> {
        if self.is_lost() { Err(refused(op, &self.place, Errno::ESTALE)) } else { Ok(()) }
    }
}
