use core::net::SocketAddr;
use core::time::Duration;
use std::fs;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::deadline::Deadline;
use crate::process::Process;
use crate::second::SecondClient;
use crate::tools::run;

/// A CephFS for a test cluster: one OSD that keeps everything in memory, and metadata servers.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "two numbers, written out by tests")]
pub struct FsSpec {
    /// Ranks that are active: `max_mds`.
    pub active: usize,
    /// Metadata servers beyond those.
    pub standby: usize,
}

/// The name of the file system.
const FS: &str = "cephfs";
/// The names of the metadata servers.
const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
/// How long a rank may take to become active on a busy machine.
const ACTIVE_TIMEOUT: Duration = Duration::from_secs(90);
/// How long requests that were sent may take to end.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long warnings may take to go once their cause is gone: a beacon, a tick and a commit.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(40);

/// What the configuration needs so that one OSD in memory and a few metadata servers are healthy, and soon.
pub(crate) const OPTIONS: &[(&str, &str)] = &[
    ("osd_objectstore", "memstore"),
    ("osd_crush_chooseleaf_type", "0"),
    ("osd_pool_default_size", "1"),
    ("osd_pool_default_min_size", "1"),
    ("osd_pool_default_pg_num", "8"),
    ("osd_pool_default_pg_autoscale_mode", "off"),
    ("mon_allow_pool_size_one", "true"),
    ("mon_warn_on_pool_no_redundancy", "false"),
    ("mon_warn_on_insecure_global_id_reclaim_allowed", "false"),
    // There is no manager, and nothing here needs one.
    ("mon_mgr_mkfs_grace", "86400"),
    // A dead metadata server is noticed within seconds instead of a quarter of a minute.
    ("mds_beacon_interval", "1"),
    ("mds_beacon_grace", "10"),
];

impl Cluster {
    /// Adds an OSD in memory, pools, a file system and its metadata servers, and waits until all ranks are active.
    pub(crate) fn add_fs(&self, spec: FsSpec) -> Result<()> {
        self.start_osd()?;
        for pool in ["meta", "data"] {
            self.ceph(&["osd", "pool", "create", pool, "8"])?;
        }
        self.ceph(&["fs", "new", FS, "meta", "data"])?;
        // Without this the cluster warns for ever once a standby has been seen and is gone.
        self.ceph(&["fs", "set", FS, "standby_count_wanted", "0"])?;
        for id in NAMES.into_iter().take(spec.active + spec.standby) {
            let mds = Arc::new(Process::new("mds", id, self.path()));
            mds.start()?;
            self.adopt(mds);
        }
        if spec.active > 1 {
            self.set_max_mds(spec.active)?;
        }
        self.wait_for_active(spec.active)
    }

    fn start_osd(&self) -> Result<()> {
        let uuid = fs::read_to_string("/proc/sys/kernel/random/uuid")?;
        let uuid = uuid.trim();
        let id = self.ceph(&["osd", "new", uuid])?;
        let osd = Arc::new(Process::new("osd", id.trim(), self.path()));
        fs::create_dir_all(self.path().join(osd.name()))?;
        let conf = self.conf().display().to_string();
        run("ceph-osd", ["-c", &conf, "-i", osd.id(), "--mkfs", "--osd-uuid", uuid])?;
        osd.start()?;
        self.adopt(osd);
        Ok(())
    }

    /// The metadata server called `id`.
    ///
    /// # Panics
    ///
    /// If there is none: the test is wrong.
    pub fn mds(&self, id: &str) -> Arc<Process> {
        let found = self.process(&format!("mds.{id}"));
        found.unwrap_or_else(|| panic!("this cluster has no mds.{id}"))
    }

    /// The object server.
    ///
    /// # Panics
    ///
    /// If this cluster has no file system: the test is wrong.
    pub fn osd(&self) -> Arc<Process> {
        self.process("osd.0").unwrap_or_else(|| panic!("this cluster has no osd.0"))
    }

    /// Where whoever is active as `rank` listens with messenger v2.
    ///
    /// # Errors
    ///
    /// If the `ceph` command fails, or nobody is.
    pub fn mds_addr(&self, rank: usize) -> Result<SocketAddr> {
        let map = self.mds_map()?;
        let info =
            map["info"].as_object().and_then(|info| info.values().find(|info| info["rank"] == json!(rank)));
        let addrs = info.and_then(|info| info["addrs"]["addrvec"].as_array());
        let v2 = addrs.and_then(|addrs| addrs.iter().find(|addr| addr["type"] == json!("v2")));
        let addr = v2.and_then(|addr| addr["addr"].as_str()).with_context(|| format!("no rank {rank}"))?;
        Ok(addr.parse()?)
    }

    /// Sets how many ranks shall be active.
    ///
    /// # Errors
    ///
    /// If the `ceph` command fails.
    pub fn set_max_mds(&self, ranks: usize) -> Result<()> {
        self.ceph(&["fs", "set", FS, "max_mds", &ranks.to_string()]).map(|_| ())
    }

    /// The file system's MDS map, as the monitors have it.
    ///
    /// # Errors
    ///
    /// If the `ceph` command fails.
    pub fn mds_map(&self) -> Result<Value> {
        Ok(self.ceph_json(&["fs", "get", FS])?["mdsmap"].take())
    }

    /// Which metadata server is active as `rank`, if one is.
    ///
    /// # Errors
    ///
    /// If the `ceph` command fails.
    pub fn active_mds(&self, rank: usize) -> Result<Option<Arc<Process>>> {
        let map = self.mds_map()?;
        let holds = |info: &&Value| info["rank"] == json!(rank) && info["state"] == json!("up:active");
        let info = map["info"].as_object().and_then(|info| info.values().find(holds));
        Ok(info.and_then(|info| info["name"].as_str()).and_then(|id| self.process(&format!("mds.{id}"))))
    }

    /// Waits until exactly `ranks` ranks are active and none is anything else.
    ///
    /// # Errors
    ///
    /// If that takes too long; with the states there are.
    pub fn wait_for_active(&self, ranks: usize) -> Result<()> {
        let states = || -> Result<Vec<String>> {
            let map = self.mds_map()?;
            let info = map["info"].as_object().context("a map without servers")?;
            let of_rank = info.values().filter(|info| info["rank"].as_i64().is_some_and(|rank| rank >= 0));
            Ok(of_rank.filter_map(|info| info["state"].as_str()).map(String::from).collect())
        };
        let all_active = |states: Vec<String>| {
            (states.len() == ranks && states.iter().all(|state| state == "up:active")).then_some(())
        };
        let reached = Deadline::after(ACTIVE_TIMEOUT)
            .wait_for(format!("{ranks} ranks are active"), || all_active(states().ok()?));
        reached.with_context(|| format!("{:?}", states()))
    }

    /// Tells the monitors that whoever holds `rank` has failed, so that a standby takes over at once.
    ///
    /// # Errors
    ///
    /// If the `ceph` command fails.
    pub fn fail_mds(&self, rank: usize) -> Result<()> {
        self.ceph(&["mds", "fail", &rank.to_string()]).map(|_| ())
    }

    /// Kills whoever is active as `rank` (`kill -9`), starts it again, and waits until all `ranks` are active.
    ///
    /// # Errors
    ///
    /// If nobody was active, or nobody is in time.
    pub fn crash_mds(&self, rank: usize, ranks: usize) -> Result<()> {
        let Some(mds) = self.active_mds(rank)? else { bail!("nobody is active as rank {rank}") };
        mds.kill()?;
        // With a standby at hand the monitors need not wait for beacons that will not come.
        self.fail_mds(rank)?;
        mds.start()?;
        self.wait_for_active(ranks)
    }

    /// The sessions of whoever is active as `rank`.
    ///
    /// # Errors
    ///
    /// If nobody is active or answers.
    pub fn mds_sessions(&self, rank: usize) -> Result<Vec<Value>> {
        let mds = self.active_mds(rank)?.with_context(|| format!("nobody is active as rank {rank}"))?;
        let sessions = mds.admin(&json!({"prefix": "session ls"}))?;
        sessions.as_array().cloned().context("session ls answers a list")
    }

    /// Evicts the client with this global id from `rank`, and has it blocklisted.
    ///
    /// # Errors
    ///
    /// If nobody is active or answers.
    pub fn evict_client(&self, rank: usize, global_id: u64) -> Result<()> {
        let mds = self.active_mds(rank)?.with_context(|| format!("nobody is active as rank {rank}"))?;
        let filters = json!([format!("id={global_id}")]);
        mds.admin(&json!({"prefix": "session evict", "filters": filters})).map(|_| ())
    }

    /// The checks that are not clean, each with its details.
    ///
    /// # Errors
    ///
    /// If the `ceph` command fails.
    pub fn health_checks(&self) -> Result<Vec<String>> {
        let health = self.ceph_json(&["health", "detail"])?;
        let checks = health["checks"].as_object().context("health has checks")?;
        Ok(checks.iter().map(|(name, check)| format!("{name}: {}", check["detail"])).collect())
    }

    /// Waits until `ceph health detail` has nothing to say.
    ///
    /// # Errors
    ///
    /// What it still says after a while.
    pub fn wait_until_healthy(&self) -> Result<()> {
        let clean = || self.health_checks().ok()?.is_empty().then_some(());
        let healthy = Deadline::after(HEALTH_TIMEOUT).wait_for("the cluster is healthy", clean);
        healthy.with_context(|| format!("{:?}", self.health_checks()))
    }

    /// What the active metadata servers are doing for somebody at the moment: a request that waits for a client, or for
    /// itself, shows here long before anybody warns of it.
    ///
    /// # Errors
    ///
    /// If one does not answer.
    pub fn ops_in_flight(&self) -> Result<Vec<String>> {
        let map = self.mds_map()?;
        let ranks = map["in"].as_array().context("a map without ranks")?;
        let mut ops = Vec::new();
        for rank in ranks.iter().filter_map(Value::as_u64) {
            let Some(mds) = self.active_mds(usize::try_from(rank)?)? else { continue };
            let dump = mds.admin(&json!({"prefix": "dump_ops_in_flight"}))?;
            let all = dump["ops"].as_array().cloned().unwrap_or_default();
            ops.extend(
                all.iter().map(|op| format!("mds.{rank}: {}: {}", op["description"], op["type_data"])),
            );
        }
        Ok(ops)
    }

    /// Waits until no metadata server has anything to do for anybody.
    ///
    /// # Errors
    ///
    /// What is still under way after a while.
    pub fn wait_until_idle(&self) -> Result<()> {
        let idle = || self.ops_in_flight().ok()?.is_empty().then_some(());
        let ended = Deadline::after(IDLE_TIMEOUT).wait_for("the metadata servers are idle", idle);
        ended.with_context(|| format!("{:?}", self.ops_in_flight()))
    }

    /// Every warning about a client, or about a request that was slow, that ever was in the cluster's log. One that was
    /// gone again before anybody looked at the health is still here.
    ///
    /// # Errors
    ///
    /// If the log cannot be read.
    pub fn client_warnings(&self) -> Result<Vec<String>> {
        let log = fs::read(self.path().join("cluster.log")).context("the cluster's log")?;
        let log = String::from_utf8_lossy(&log);
        let is_warning = |line: &&str| {
            (line.contains(" cluster [WRN] ") || line.contains(" cluster [ERR] "))
                && (line.contains("client")
                    || line.contains("slow request")
                    || line.contains("MDS_SLOW_REQUEST"))
        };
        Ok(log.lines().filter(is_warning).map(String::from).collect())
    }

    /// A second client, on Ceph's own library, in a process of its own.
    ///
    /// # Errors
    ///
    /// If it cannot mount.
    pub fn second_client(&self) -> Result<SecondClient> {
        SecondClient::mount(&self.conf())
    }
}
