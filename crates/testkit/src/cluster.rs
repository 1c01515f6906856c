use core::fmt::Write as _;
use core::net::{Ipv4Addr, SocketAddr};
use core::time::Duration;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::{env, fs, thread};

use anyhow::{Context, Result, bail};
use cuttlebone_wire::{AddrKind, EntityAddr, EntityAddrs, Uuid};
use serde_json::Value;
use tempfile::TempDir;

use crate::filesystem::{self, FsSpec};
use crate::fill::Fill;
use crate::mon::{Mon, list};
use crate::ports::free_port;
use crate::process::Process;
use crate::proxy::{Proxy, ProxyConfig};
use crate::tools::run;

/// A real cluster with AUTH_NONE on loopback, for one test.
///
/// Everything it started ends when it is dropped. After a failed test, or with `CUTTLEBONE_KEEP` set, its directory
/// stays and its path is printed; otherwise nothing is left behind.
#[derive(Debug)]
pub struct Cluster {
    // Before `dir`: daemons end before their files go.
    processes: Mutex<Vec<Arc<Process>>>,
    mons: Mutex<BTreeMap<String, Arc<Mon>>>,
    proxies: BTreeMap<String, Proxy>,
    fsid: Uuid,
    dir: Option<TempDir>,
}

/// What a cluster shall consist of.
#[derive(Clone, Debug)]
pub struct Builder {
    mons: usize,
    delay: Option<Duration>,
    fill: Option<Fill>,
    fs: Option<FsSpec>,
    options: Vec<(String, String)>,
}

/// The names of the monitors.
const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
/// How often to start over with other ports if somebody was faster.
const PORT_TRIES: u32 = 3;
/// Lines of each log that are printed after a failure.
const LOG_TAIL_LINES: usize = 25;
/// How long the `ceph` command may take to reach a monitor.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

impl Builder {
    /// How many monitors: one to five.
    #[must_use]
    pub fn mons(mut self, mons: usize) -> Self {
        self.mons = mons.clamp(1, NAMES.len());
        self
    }

    /// Keys that every monitor's store holds before it starts for the first time.
    #[must_use]
    pub fn fill(mut self, fill: Fill) -> Self {
        self.fill = Some(fill);
        self
    }

    /// A file system, with an OSD in memory and the metadata servers that it says.
    #[must_use]
    pub fn fs(mut self, fs: FsSpec) -> Self {
        self.fs = Some(fs);
        self
    }

    /// Puts a network in front of every monitor that takes `delay` in each direction.
    ///
    /// The monitors bind elsewhere and announce the address of their proxy, so that real peers go through it too.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = Some(delay);
        self
    }

    /// One more line for the `[global]` section.
    #[must_use]
    pub fn option(mut self, name: &str, value: &str) -> Self {
        self.options.push((name.into(), value.into()));
        self
    }

    /// Starts everything and waits until all monitors are in quorum and all ranks of the file system are active.
    ///
    /// # Errors
    ///
    /// What is missing or did not start, with what it printed.
    pub fn start(self) -> Result<Cluster> {
        let mut tries = 1;
        loop {
            match self.try_start() {
                Err(error) if tries < PORT_TRIES && format!("{error:#}").contains("unable to bind") => {
                    tries += 1;
                }
                result => return result,
            }
        }
    }

    fn try_start(&self) -> Result<Cluster> {
        let dir = tempfile::Builder::new().prefix("cuttlebone-").tempdir()?;
        let mut fsid = [0; 16];
        getrandom::fill(&mut fsid).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
        let fsid = Uuid(fsid);
        let mut mons = BTreeMap::new();
        let mut proxies = BTreeMap::new();
        for name in NAMES.into_iter().take(self.mons) {
            let addrs = match self.delay {
                None => free_addrs()?,
                Some(delay) => {
                    let bound = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
                    let proxy = Proxy::start(bound, ProxyConfig { delay, ..ProxyConfig::default() })?;
                    let addrs = EntityAddr::v2(proxy.addr()).into();
                    proxies.insert(name.into(), proxy);
                    addrs
                }
            };
            mons.insert(name.into(), Arc::new(Mon::new(name, addrs, fsid, dir.path())));
        }
        let processes = Mutex::default();
        let cluster = Cluster { processes, mons: Mutex::new(mons), proxies, fsid, dir: Some(dir) };
        self.write_conf(&cluster)?;
        self.create_stores(&cluster)?;
        for mon in cluster.mons() {
            mon.start()?;
        }
        cluster.wait_for_quorum()?;
        if let Some(fs) = self.fs {
            cluster.add_fs(fs)?;
        }
        Ok(cluster)
    }

    fn create_stores(&self, cluster: &Cluster) -> Result<()> {
        let mons = cluster.mons();
        let trace = cluster.path().join("fill.trace");
        if let Some(fill) = &self.fill {
            fill.write_trace(&trace)?;
        }
        for mon in &mons {
            let peers: Vec<_> = mons.iter().filter(|peer| peer.name() != mon.name()).collect();
            mon.mkfs(&peers.iter().map(|peer| (peer.name(), peer.addrs())).collect::<Vec<_>>())?;
            if self.fill.is_some() {
                mon.replay_trace(&trace)?;
            }
        }
        if self.fill.is_some() {
            fs::remove_file(trace)?;
        }
        Ok(())
    }

    fn write_conf(&self, cluster: &Cluster) -> Result<()> {
        let dir = cluster.path().display();
        let mon_host: Vec<_> = cluster.mons().iter().map(|mon| format!("[{}]", list(mon.addrs()))).collect();
        let mut conf = format!(
            "[global]\n\
             fsid = {}\n\
             mon_host = {}\n\
             auth_cluster_required = none\n\
             auth_service_required = none\n\
             auth_client_required = none\n\
             run_dir = {dir}\n\
             admin_socket = {dir}/$name.asok\n\
             mon_data = {dir}/$name\n\
             osd_data = {dir}/$name\n\
             mds_data = {dir}/$name\n\
             log_file = {dir}/$name.log\n\
             mon_cluster_log_file = {dir}/cluster.log\n\
             pid_file =\n",
            cluster.fsid,
            mon_host.join(" "),
        );
        // Elections that do not wait long for a monitor that is just being started; a commit as soon as it is asked
        // for, so that hundreds take a second; no opinion about the disk; and the log level at which
        // synchronisation is told.
        for (name, value) in [
            ("mon_election_timeout", "1"),
            ("paxos_propose_interval", "0.01"),
            ("paxos_min_wait", "0.001"),
            ("mon_data_avail_warn", "0"),
            ("mon_data_avail_crit", "0"),
            ("debug_mon", "10"),
        ] {
            writeln!(conf, "{name} = {value}")?;
        }
        if self.fs.is_some() {
            for (name, value) in filesystem::OPTIONS {
                writeln!(conf, "{name} = {value}")?;
            }
        }
        for (name, value) in &self.options {
            writeln!(conf, "{name} = {value}")?;
        }
        conf.push_str("[client]\nlog_file =\nadmin_socket =\n");
        for (name, proxy) in &cluster.proxies {
            writeln!(conf, "[mon.{name}]\npublic_bind_addr = v2:{}/0", proxy.target())?;
        }
        Ok(fs::write(cluster.conf(), conf)?)
    }
}

impl Cluster {
    /// One monitor, nothing else.
    pub fn builder() -> Builder {
        Builder { mons: 1, delay: None, fill: None, fs: None, options: Vec::new() }
    }

    /// Its directory, which holds the configuration file, stores, logs and admin sockets.
    pub fn path(&self) -> &Path {
        self.dir.as_ref().map_or(Path::new(""), TempDir::path)
    }

    /// Its configuration file.
    pub fn conf(&self) -> PathBuf {
        self.path().join("ceph.conf")
    }

    /// Its identity.
    pub fn fsid(&self) -> Uuid {
        self.fsid
    }

    /// All monitors, in the order of their names.
    pub fn mons(&self) -> Vec<Arc<Mon>> {
        self.mons.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// The monitor called `name`.
    ///
    /// # Panics
    ///
    /// If there is none: the test is wrong.
    pub fn mon(&self, name: &str) -> Arc<Mon> {
        let mons = self.mons.lock().unwrap_or_else(PoisonError::into_inner);
        mons.get(name).cloned().unwrap_or_else(|| panic!("this cluster has no mon.{name}"))
    }

    pub(crate) fn process(&self, name: &str) -> Option<Arc<Process>> {
        self.processes().into_iter().find(|process| process.name() == name)
    }

    pub(crate) fn adopt(&self, process: Arc<Process>) {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner).push(process);
    }

    fn processes(&self) -> Vec<Arc<Process>> {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Where all monitors listen, as `mon_host` has it.
    pub fn mon_host(&self) -> String {
        self.mons().iter().map(|mon| format!("[{}]", list(mon.addrs()))).collect::<Vec<_>>().join(",")
    }

    /// Waits until every monitor is in a quorum of all of them.
    ///
    /// # Errors
    ///
    /// If that takes too long.
    pub fn wait_for_quorum(&self) -> Result<()> {
        let mons = self.mons();
        mons.iter().try_for_each(|mon| mon.wait_for_quorum(mons.len()))
    }

    /// An empty monitor, not started, whose seed map holds itself and `peers`.
    ///
    /// With a name that the cluster has, its store is thrown away and it keeps its addresses (it has to be stopped):
    /// this is what a restore starts from. Otherwise it is one more monitor, on ports of its own.
    ///
    /// # Errors
    ///
    /// If it is running, or the tools fail.
    pub fn fresh_mon(&self, name: &str, peers: &[(&str, &EntityAddrs)]) -> Result<Arc<Mon>> {
        let known = self.mons.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        let mon = match known {
            Some(mon) => mon,
            None => Arc::new(Mon::new(name, free_addrs()?, self.fsid, self.path())),
        };
        mon.mkfs(peers)?;
        self.mons.lock().unwrap_or_else(PoisonError::into_inner).insert(name.into(), Arc::clone(&mon));
        Ok(mon)
    }

    /// What the `ceph` command prints.
    ///
    /// # Errors
    ///
    /// If it fails; with what it wrote to standard error.
    pub fn ceph(&self, arguments: &[&str]) -> Result<String> {
        let conf = self.conf().display().to_string();
        let timeout = CONNECT_TIMEOUT.as_secs().to_string();
        run("ceph", ["-c", &conf, "--connect-timeout", &timeout].iter().chain(arguments))
    }

    /// What the `ceph` command answers as JSON.
    ///
    /// # Errors
    ///
    /// If it fails.
    pub fn ceph_json(&self, arguments: &[&str]) -> Result<Value> {
        let answer = self.ceph(&[arguments, &["--format", "json"]].concat())?;
        serde_json::from_str(&answer).with_context(|| format!("{arguments:?} answered {answer}"))
    }

    /// Sets one config-key; see [`commits`](Self::commits) for many.
    ///
    /// # Errors
    ///
    /// If the `ceph` command fails.
    pub fn config_key_set(&self, key: &str, value: &str) -> Result<()> {
        self.ceph(&["config-key", "set", key, value]).map(|_| ())
    }

    /// Makes `count` commits, one after another, by setting the config-keys `prefix/0`, `prefix/1`, and so on.
    ///
    /// A client in one process, since the `ceph` command takes a third of a second for each; here it is a
    /// millisecond.
    ///
    /// # Errors
    ///
    /// If a commit is refused or nobody answers.
    pub fn commits(&self, prefix: &str, count: u64, value_bytes: usize) -> Result<()> {
        let conf = self.conf().display().to_string();
        let (count, value_bytes) = (count.to_string(), value_bytes.to_string());
        let script = include_str!("commit.py");
        // The distribution's own interpreter: only that one finds the bindings.
        run("/usr/bin/python3", ["-c", script, &conf, prefix, &count, &value_bytes]).map(|_| ())
    }

    /// Stops every monitor that runs.
    ///
    /// # Errors
    ///
    /// If one has crashed, or does not end.
    pub fn stop(&self) -> Result<()> {
        self.mons().iter().try_for_each(|mon| mon.stop())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Either fails for one that the test has stopped.
        for process in self.processes() {
            let _ = process.kill();
        }
        for mon in self.mons() {
            let _ = mon.kill();
        }
        let keep = thread::panicking() || env::var_os("CUTTLEBONE_KEEP").is_some();
        if let Some(dir) = self.dir.take_if(|_| keep) {
            eprintln!("the cluster's files are kept in {}", dir.keep().display());
            for mon in self.mons() {
                print_tail(&format!("mon.{}", mon.name()), &mon.log());
            }
            for process in self.processes() {
                print_tail(&process.name(), &process.log());
            }
        }
    }
}

fn print_tail(name: &str, log: &str) {
    eprintln!("--- end of the log of {name}");
    let lines: Vec<_> = log.lines().collect();
    for line in lines.iter().skip(lines.len().saturating_sub(LOG_TAIL_LINES)) {
        eprintln!("{line}");
    }
}

/// Free addresses for both messengers.
fn free_addrs() -> Result<EntityAddrs> {
    let (v2, v1) = (free_port()?, free_port()?);
    if v2 == v1 {
        bail!("the same port twice");
    }
    let at = |kind, port| EntityAddr::new(kind, SocketAddr::from((Ipv4Addr::LOCALHOST, port)), 0);
    Ok(EntityAddrs(vec![at(AddrKind::MSGR2, v2), at(AddrKind::LEGACY, v1)]))
}
