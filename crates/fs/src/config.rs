use core::net::SocketAddr;
use core::time::Duration;
use std::collections::BTreeMap;

use cuttlebone_driver::DriverLimits;
use cuttlebone_link::{Limits as LinkLimits, Timing};
use cuttlebone_mds::Limits;
use cuttlebone_wire::EntityAddrs;

/// What to mount, from where, and as whom.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "knobs, set on what `FsConfig::new` gives")]
pub struct FsConfig {
    /// The monitors, in the order in which they are tried.
    pub monitors: Vec<EntityAddrs>,
    /// Whom to authenticate as: `admin` stands for `client.admin`.
    pub id: String,
    /// The file system's name; without one, the cluster's default.
    pub fs_name: Option<String>,
    /// Who owns what is created.
    pub uid: u32,
    /// The group of what is created.
    pub gid: u32,
    /// What administrators see of us in `session ls`, such as `hostname`, besides what we say by ourselves.
    pub metadata: BTreeMap<String, String>,
    /// How long mounting may take: a monitor, a map in which a rank is active, and a session with it.
    pub mount_within: Duration,
    /// How long unmounting may take; what is not closed by then is left to time out.
    pub unmount_within: Duration,
    /// How long a question to the monitors may take.
    pub answer_within: Duration,
    /// Entries in one answer to a listing, at most 65,536. More are faster for us and keep everybody behind us waiting
    /// for longer: beyond the default the gain is small.
    pub page_entries: u32,
    /// Most operations of one handle that are under way; one beyond them waits for its turn.
    pub pending_max: usize,
    /// What the client of the metadata servers holds, and how many requests it has in flight.
    pub limits: Limits,
    /// How long links wait for what.
    pub timing: Timing,
    /// What a peer may make a link hold.
    pub link_limits: LinkLimits,
    /// What the driver of a link holds.
    pub driver_limits: DriverLimits,
    /// Where to dial instead of the address in a map or of a monitor: for servers that are reached through a tunnel.
    pub detours: BTreeMap<SocketAddr, SocketAddr>,
}

/// The knee of the curve: half of the time per entry of one entry a page, and an MDS that answers others in between.
///
/// Source: `ceph/ceph:src/mds/Server.cc`, `handle_client_readdir`; measured with 16.2.15.
const PAGE_ENTRIES: u32 = 128;
/// An MDS forgets us after `session_autoclose`, 300 s by default. Until then a link has to keep trying.
const GIVE_UP_AFTER: Duration = Duration::from_secs(330);

impl FsConfig {
    /// The default file system of the cluster of these monitors, as `client.admin`.
    pub fn new(monitors: impl IntoIterator<Item = EntityAddrs>) -> Self {
        Self {
            monitors: monitors.into_iter().collect(),
            id: "admin".into(),
            fs_name: None,
            uid: 0,
            gid: 0,
            metadata: BTreeMap::new(),
            mount_within: Duration::from_secs(30),
            unmount_within: Duration::from_secs(15),
            answer_within: Duration::from_secs(30),
            page_entries: PAGE_ENTRIES,
            pending_max: 1024,
            limits: Limits::default(),
            timing: Timing { give_up_after: GIVE_UP_AFTER, ..Timing::default() },
            link_limits: LinkLimits::default(),
            driver_limits: DriverLimits { events_max: 64, commands_max: 256, ..DriverLimits::default() },
            detours: BTreeMap::new(),
        }
    }
}
