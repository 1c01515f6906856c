use core::time::Duration;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use cuttlebone_wire::{EntityAddr, EntityAddrs, Uuid};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::daemon::Daemon;
use crate::deadline::Deadline;
use crate::fill::Fill;
use crate::tools::{ask, copy_dir, run};

/// One real `ceph-mon`.
#[derive(Debug)]
pub struct Mon {
    name: String,
    addrs: EntityAddrs,
    fsid: Uuid,
    dir: PathBuf,
    daemon: Mutex<Option<Daemon>>,
}

/// How long a monitor may take until its admin socket answers.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How long an election may take on a busy machine.
const QUORUM_TIMEOUT: Duration = Duration::from_secs(120);

impl Mon {
    pub(crate) fn new(name: &str, addrs: EntityAddrs, fsid: Uuid, dir: &Path) -> Self {
        Self { name: name.into(), addrs, fsid, dir: dir.into(), daemon: Mutex::new(None) }
    }

    /// Its name: `a`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it listens with messenger v2.
    pub fn addr(&self) -> EntityAddr {
        self.addrs.msgr2().cloned().unwrap_or_default()
    }

    /// Where it listens with messenger v2 and v1.
    pub fn addrs(&self) -> &EntityAddrs {
        &self.addrs
    }

    /// Its data directory; the store is in `store.db` there.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.join(format!("mon.{}", self.name))
    }

    fn conf(&self) -> String {
        self.dir.join("ceph.conf").display().to_string()
    }

    fn daemon(&self) -> MutexGuard<'_, Option<Daemon>> {
        // A test that panicked while it held the lock has left nothing half done.
        self.daemon.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn running<T>(&self, with: impl FnOnce(&mut Daemon) -> Result<T>) -> Result<T> {
        with(self.daemon().as_mut().with_context(|| format!("mon.{} is not running", self.name))?)
    }

    fn stopped(&self) -> Result<()> {
        let running = self.daemon().as_mut().is_some_and(|daemon| daemon.ended().is_none());
        ensure!(!running, "mon.{} is running, and its store can only be touched when it is not", self.name);
        Ok(())
    }

    /// Throws its store away and makes an empty one that knows these monitors besides itself, in epoch 0.
    ///
    /// # Errors
    ///
    /// If it is running, or the tools fail.
    pub fn mkfs(&self, peers: &[(&str, &EntityAddrs)]) -> Result<()> {
        self.stopped()?;
        if self.data_dir().exists() {
            fs::remove_dir_all(self.data_dir())?;
        }
        let map = self.dir.join(format!("seed.{}.monmap", self.name)).display().to_string();
        let fsid = self.fsid.to_string();
        let mut arguments: Vec<String> = ["--create", "--clobber", "--fsid", &fsid].map(String::from).into();
        for (name, addrs) in peers.iter().copied().chain([(self.name.as_str(), &self.addrs)]) {
            arguments.extend(["--addv".into(), name.into(), format!("[{}]", list(addrs))]);
        }
        arguments.push(map.clone());
        run("monmaptool", arguments)?;
        let conf = self.conf();
        run("ceph-mon", ["-c", &conf, "--mkfs", "-i", &self.name, "--monmap", &map, "--fsid", &fsid])?;
        Ok(())
    }

    /// Starts it and waits until it answers on its admin socket; see [`wait_for_quorum`](Self::wait_for_quorum).
    ///
    /// # Errors
    ///
    /// If it ends at once or takes too long; with what it printed.
    pub fn start(&self) -> Result<()> {
        self.stopped()?;
        let output = self.dir.join(format!("mon.{}.out", self.name));
        let conf = self.conf();
        let daemon = Daemon::spawn(&self.name, "ceph-mon", &["-c", &conf, "-f", "-i", &self.name], &output)?;
        let pid = daemon.pid();
        *self.daemon() = Some(daemon);
        let what = format!("mon.{} answers on its admin socket", self.name);
        let answered = Deadline::after(START_TIMEOUT).wait_for(what, || {
            if self.running(|daemon| Ok(daemon.ended())).ok()?.is_some() {
                return Some(false);
            }
            self.status().is_ok().then_some(true)
        })?;
        if !answered {
            bail!("mon.{} (pid {pid}) ended: {}", self.name, self.running(|daemon| Ok(daemon.printed()))?);
        }
        Ok(())
    }

    /// Process id, while it runs.
    ///
    /// # Errors
    ///
    /// If it does not run.
    pub fn pid(&self) -> Result<u32> {
        self.running(|daemon| Ok(daemon.pid()))
    }

    /// Ends it as a power cut would (`kill -9`) and waits until it is gone.
    ///
    /// # Errors
    ///
    /// If it does not run.
    pub fn kill(&self) -> Result<()> {
        self.running(Daemon::kill)
    }

    /// Ends it in good order (SIGTERM) and waits until it is gone.
    ///
    /// # Errors
    ///
    /// If it does not run, had crashed, or does not end.
    pub fn stop(&self) -> Result<()> {
        self.running(|daemon| daemon.stop().map(|_| ()))
    }

    /// Ends it in good order and starts it again on the same store.
    ///
    /// # Errors
    ///
    /// As [`stop`](Self::stop) and [`start`](Self::start).
    pub fn restart(&self) -> Result<()> {
        self.stop()?;
        self.start()
    }

    /// Freezes it (SIGSTOP) and waits until it is: connections stay open, nothing is answered.
    ///
    /// # Errors
    ///
    /// If it does not run.
    pub fn pause(&self) -> Result<()> {
        self.running(Daemon::pause)
    }

    /// Lets it go on (SIGCONT).
    ///
    /// # Errors
    ///
    /// If it does not run.
    pub fn resume(&self) -> Result<()> {
        self.running(|daemon| daemon.signal(Signal::CONT))
    }

    /// What `ceph daemon mon.a <prefix>` answers, without starting a Python interpreter for it.
    ///
    /// # Errors
    ///
    /// If it does not run or does not know the command.
    pub fn admin(&self, command: &Value) -> Result<Value> {
        ask(&self.dir.join(format!("mon.{}.asok", self.name)), command)
    }

    /// Its `mon_status`.
    ///
    /// # Errors
    ///
    /// If it does not run.
    pub fn status(&self) -> Result<Value> {
        self.admin(&json!({"prefix": "mon_status"}))
    }

    /// Waits until it is in a quorum of exactly `members` with a monitor map that they agreed on.
    ///
    /// The first quorum of a new cluster has only the map it was made with. It commits that as epoch 1 at once, which
    /// causes one more election, so a test that counts elections must not begin before.
    ///
    /// # Errors
    ///
    /// If that takes too long; with its state.
    pub fn wait_for_quorum(&self, members: usize) -> Result<()> {
        let what = format!("mon.{} is in a quorum of {members}", self.name);
        let reached = Deadline::after(QUORUM_TIMEOUT).wait_for(what, || {
            let status = self.status().ok()?;
            let inside = matches!(status["state"].as_str(), Some("leader" | "peon"));
            let agreed = status["monmap"]["epoch"].as_u64()? > 0;
            (inside && agreed && status["quorum"].as_array()?.len() == members).then_some(())
        });
        reached.with_context(|| format!("{:?}", self.status().map(|status| status["state"].clone())))
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        let log = fs::read(self.dir.join(format!("mon.{}.log", self.name))).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// Waits for a line of its log that holds `needle`, among those after the first `skip` lines.
    ///
    /// # Errors
    ///
    /// If there is none in time.
    pub fn wait_for_log(&self, skip: usize, needle: &str, timeout: Duration) -> Result<String> {
        let what = format!("mon.{} logs {needle:?}", self.name);
        Deadline::after(timeout).wait_for(what, || {
            self.log().lines().skip(skip).find(|line| line.contains(needle)).map(String::from)
        })
    }

    /// Every key with its checksum, as `ceph-kvstore-tool … list-crc` prints it, of the store of a stopped monitor.
    ///
    /// # Errors
    ///
    /// If it is running, or the tool fails.
    pub fn store_list_crc(&self) -> Result<Vec<String>> {
        let lines = self.on_a_copy(|path| run("ceph-kvstore-tool", ["rocksdb", path, "list-crc"]))?;
        Ok(lines.lines().map(String::from).collect())
    }

    /// One value from the store of a stopped monitor.
    ///
    /// # Errors
    ///
    /// If it is running, or has no such key, or the tool fails.
    pub fn store_get(&self, prefix: &str, key: &str) -> Result<Vec<u8>> {
        let value = tempfile::NamedTempFile::new_in(&self.dir)?;
        let out = value.path().display().to_string();
        self.on_a_copy(|path| run("ceph-kvstore-tool", ["rocksdb", path, "get", prefix, key, "out", &out]))?;
        Ok(fs::read(value.path())?)
    }

    /// Opening a store changes its files even if nothing is written, so the tools are given a copy.
    fn on_a_copy<T>(&self, tool: impl FnOnce(&str) -> Result<T>) -> Result<T> {
        self.stopped()?;
        let copy = tempfile::tempdir_in(&self.dir)?;
        copy_dir(&self.data_dir().join("store.db"), copy.path())?;
        tool(&copy.path().display().to_string())
    }

    /// Puts keys into the store of a stopped monitor.
    ///
    /// # Errors
    ///
    /// If it is running, or the tool fails.
    pub fn fill(&self, fill: &Fill) -> Result<()> {
        let trace = self.dir.join(format!("fill.{}.trace", self.name));
        fill.write_trace(&trace)?;
        self.replay_trace(&trace)?;
        Ok(fs::remove_file(trace)?)
    }

    /// Applies a file of encoded transactions to the store of a stopped monitor.
    ///
    /// # Errors
    ///
    /// If it is running, or the tool fails.
    pub fn replay_trace(&self, trace: &Path) -> Result<()> {
        self.stopped()?;
        run("ceph-monstore-tool", [self.data_dir().as_path(), Path::new("replay-trace"), trace])?;
        Ok(())
    }
}

/// Addresses without the brackets that [`EntityAddrs`] puts around more than one.
pub(crate) fn list(addrs: &EntityAddrs) -> String {
    addrs.0.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}
