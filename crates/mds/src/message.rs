mod cap_release;
mod caps;
mod forward;
mod lease;
mod map;
mod quota;
mod reclaim;
mod reconnect;
mod reply;
mod request;
mod session;
mod snap;

pub use cap_release::{CapRelease, ClientCapRelease};
pub use caps::{CapOp, CapPeer, ClientCaps};
pub use forward::ClientRequestForward;
pub use lease::{ClientLease, LeaseAction};
pub use map::{FsMapMessage, FsMapUserMessage, MdsMapMessage};
pub use quota::ClientQuota;
pub use reclaim::{ClientReclaim, ClientReclaimReply};
pub use reconnect::{CapReconnect, ClientReconnect, SnapRealmReconnect};
pub use reply::{
    ClientReply, Created, DelegatedInos, DirEntry, DirPage, DirStat, FileLock, LeaseStat, PageFlags, Trace,
    TraceDentry,
};
pub use request::{
    ClientRequest, FileLockArgs, FilePath, LayoutArgs, Op, ReadDirArgs, RequestArgs, RequestFlags,
    RequestRelease, SetAttrArgs,
};
pub use session::{ClientSession, SessionOp, SessionRequest};
pub use snap::{ClientSnap, SnapOp};
