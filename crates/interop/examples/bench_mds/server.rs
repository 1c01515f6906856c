//! The metadata server, and the machine, as their own figures show them.

use std::sync::Arc;

use anyhow::{Context, Result};
use cuttlebone_testkit::Process;
use serde_json::{Value, json};

/// What was used and handled up to some moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// Of all threads of the server.
    pub(crate) cpu_seconds: f64,
    /// Messages that the server has received and sent.
    pub(crate) messages: f64,
    /// Events that it has written to its journal.
    pub(crate) journal_events: f64,
    /// Of the whole machine, in use and altogether.
    machine: [f64; 2],
}

impl Usage {
    /// What came on top since then.
    pub(crate) fn since(self, before: Self) -> Self {
        let ([used, all], [used_before, all_before]) = (self.machine, before.machine);
        Self {
            cpu_seconds: self.cpu_seconds - before.cpu_seconds,
            messages: self.messages - before.messages,
            journal_events: self.journal_events - before.journal_events,
            machine: [used - used_before, all - all_before],
        }
    }

    /// What part of the machine's processors was in use, by whomever: 1 is all of it.
    pub(crate) fn machine_busy(self) -> f64 {
        let [used, all] = self.machine;
        used / all
    }
}

/// The server of rank 0.
#[derive(Debug)]
pub(crate) struct Server {
    process: Arc<Process>,
}

impl Server {
    pub(crate) const fn new(process: Arc<Process>) -> Self {
        Self { process }
    }

    /// What it has used so far.
    pub(crate) fn usage(&self) -> Result<Usage> {
        let dump = self.process.admin(&json!({"prefix": "perf dump"}))?;
        let number = |value: &Value| value.as_f64().unwrap_or_default();
        let workers = dump.as_object().context("perf dump")?.iter();
        let workers = workers.filter(|(name, _)| name.starts_with("AsyncMessenger"));
        let of_each = ["msgr_recv_messages", "msgr_send_messages"];
        Ok(Usage {
            cpu_seconds: cpu_seconds(self.process.pid()?)?,
            messages: workers.flat_map(|(_, worker)| of_each.map(|name| number(&worker[name]))).sum(),
            journal_events: number(&dump["mds_log"]["evadd"]),
            machine: machine()?,
        })
    }
}

/// The processor time of all threads of a process, user and system.
///
/// From the scheduler, in nanoseconds: what `stat` has is counted in hundredths of a second.
fn cpu_seconds(pid: u32) -> Result<f64> {
    let mut nanoseconds = 0.0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread that ends in between takes its time with it, but those that work live as long as the server.
        let Ok(text) = std::fs::read_to_string(task?.path().join("schedstat")) else { continue };
        let first = text.split(' ').next().context("schedstat")?;
        nanoseconds += first.parse::<f64>()?;
    }
    Ok(nanoseconds / 1e9)
}

/// The time of all processors together, in use and altogether, in ticks.
fn machine() -> Result<[f64; 2]> {
    const IDLE: usize = 3;
    const IO_WAIT: usize = 4;
    let text = std::fs::read_to_string("/proc/stat")?;
    let first = text.lines().next().context("/proc/stat")?;
    let ticks = first.split_whitespace().skip(1).map(str::parse).collect::<Result<Vec<f64>, _>>()?;
    // What stands behind the first eight is counted in those before.
    let all: f64 = ticks.iter().take(8).sum();
    let unused: f64 = [IDLE, IO_WAIT].into_iter().filter_map(|at| ticks.get(at)).sum();
    Ok([all - unused, all])
}
