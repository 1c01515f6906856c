use core::time::Duration;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use serde_json::Value;

use crate::daemon::Daemon;
use crate::deadline::Deadline;
use crate::tools::ask;

/// One real `ceph-osd` or `ceph-mds` of a cluster, whether it runs or not.
#[derive(Debug)]
pub struct Process {
    kind: &'static str,
    id: String,
    dir: PathBuf,
    daemon: Mutex<Option<Daemon>>,
}

/// How long a daemon may take until its admin socket answers.
const START_TIMEOUT: Duration = Duration::from_secs(60);

impl Process {
    pub(crate) fn new(kind: &'static str, id: &str, dir: &Path) -> Self {
        Self { kind, id: id.into(), dir: dir.into(), daemon: Mutex::new(None) }
    }

    /// Its name without the type: `a`, `0`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its name with the type: `mds.a`, `osd.0`.
    pub fn name(&self) -> String {
        format!("{}.{}", self.kind, self.id)
    }

    fn daemon(&self) -> MutexGuard<'_, Option<Daemon>> {
        // A test that panicked while it held the lock has left nothing half done.
        self.daemon.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn running<T>(&self, with: impl FnOnce(&mut Daemon) -> Result<T>) -> Result<T> {
        with(self.daemon().as_mut().with_context(|| format!("{} is not running", self.name()))?)
    }

    /// Whether it has been started and has not ended.
    pub fn is_running(&self) -> bool {
        self.daemon().as_mut().is_some_and(|daemon| daemon.ended().is_none())
    }

    /// Starts it and waits until it answers on its admin socket.
    ///
    /// # Errors
    ///
    /// If it runs already, ends at once or takes too long; with what it printed.
    pub fn start(&self) -> Result<()> {
        ensure!(!self.is_running(), "{} is running already", self.name());
        let (name, conf) = (self.name(), self.dir.join("ceph.conf").display().to_string());
        let output = self.dir.join(format!("{name}.out"));
        let socket = self.socket();
        // A socket that a killed predecessor left behind answers nobody, and would only be in the way of the wait.
        if socket.exists() {
            fs::remove_file(&socket)?;
        }
        let program = format!("ceph-{}", self.kind);
        let daemon = Daemon::spawn(&name, &program, &["-c", &conf, "-f", "-i", &self.id], &output)?;
        *self.daemon() = Some(daemon);
        let version = serde_json::json!({"prefix": "version"});
        let answered =
            Deadline::after(START_TIMEOUT).wait_for(format!("{name} answers on its admin socket"), || {
                if !self.is_running() {
                    return Some(false);
                }
                self.admin(&version).is_ok().then_some(true)
            })?;
        if !answered {
            bail!("{name} ended: {}", self.running(|daemon| Ok(daemon.printed()))?);
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
    /// If it has never been started.
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

    fn socket(&self) -> PathBuf {
        self.dir.join(format!("{}.asok", self.name()))
    }

    /// What `ceph daemon <name> <prefix>` answers, without starting a Python interpreter for it.
    ///
    /// # Errors
    ///
    /// If it does not run or does not know the command.
    pub fn admin(&self, command: &Value) -> Result<Value> {
        ask(&self.socket(), command)
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        let log = fs::read(self.dir.join(format!("{}.log", self.name()))).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// Waits for a line of its log that holds `needle`, among those after the first `skip` lines.
    ///
    /// # Errors
    ///
    /// If there is none in time.
    pub fn wait_for_log(&self, skip: usize, needle: &str, timeout: Duration) -> Result<String> {
        Deadline::after(timeout).wait_for(format!("{} logs {needle:?}", self.name()), || {
            self.log().lines().skip(skip).find(|line| line.contains(needle)).map(String::from)
        })
    }
}
