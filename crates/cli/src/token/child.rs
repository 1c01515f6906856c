//! A command that is run for the user, in a process group of its own.

use core::time::Duration;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use anyhow::{Context, Result};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child as Process, Command};
use tokio::time::timeout;

use crate::exit::Exit;

/// The command while it runs. Dropping it kills the command and all it started.
pub(crate) struct Child {
    process: Process,
    group: Option<Pid>,
}

impl Child {
    /// Starts `command` with `environment`. It inherits `socket`, so that the life behind it lasts as long as the
    /// command even if this process is killed.
    pub(crate) fn start<'a>(
        command: &[String],
        environment: impl IntoIterator<Item = (&'a str, String)>,
        socket: Option<OwnedFd>,
    ) -> Result<Self> {
        let (program, arguments) = command.split_first().context("no command")?;
        if let Some(socket) = &socket {
            fcntl_setfd(socket, FdFlags::empty())?;
        }
        let mut child = Command::new(program);
        child.args(arguments).envs(environment.into_iter().map(|(key, value)| (OsStr::new(key), value)));
        let process = child.process_group(0).spawn().with_context(|| program.clone())?;
        drop(socket); // the command has its own
        let group = process.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        Ok(Self { process, group })
    }

    /// Waits for its end.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(crate) async fn ended(&mut self) -> Result<Exit> {
        let status = self.process.wait().await?;
        self.group = None;
        Ok(exit(status))
    }

    /// Asks it to end; `grace` later nobody asks any more.
    pub(crate) async fn end(&mut self, grace: Duration) -> Result<Exit> {
        self.signal(Signal::TERM);
        if let Ok(exit) = timeout(grace, self.ended()).await {
            return exit;
        }
        self.signal(Signal::KILL);
        self.ended().await
    }

    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(group) = self.group {
            // The only error is that nobody is left, which is what was wanted.
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// As shells do: its own status, or 128 and the signal that ended it.
fn exit(status: ExitStatus) -> Exit {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    Exit::Command(u8::try_from(code).unwrap_or(1))
}
