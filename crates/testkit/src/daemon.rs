use core::time::Duration;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::LazyLock;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::deadline::Deadline;

/// A child process that does not outlive the test.
///
/// It is killed when dropped, and by the kernel when the test process dies without unwinding.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    child: Child,
    output: PathBuf,
    ended: Option<ExitStatus>,
}

/// How long a daemon may take from SIGTERM to its end before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// One command, and where its child process goes.
type Order = (Command, SyncSender<io::Result<Child>>);

/// The thread that starts every daemon.
///
/// The kernel's "kill me when my parent dies" means the parent *thread*. Test threads and the workers of a runtime
/// come and go; this one lives as long as the process.
static SPAWNER: LazyLock<SyncSender<Order>> = LazyLock::new(|| {
    let (orders, inbox) = sync_channel::<Order>(0);
    thread::spawn(move || {
        for (mut command, answer) in inbox {
            // The asker waits for exactly one answer; if it is gone, the child's handle drops and nothing is lost.
            let _ = answer.send(command.spawn());
        }
    });
    orders
});

impl Daemon {
    /// Starts `program` with `arguments`; what it prints goes to `output`.
    ///
    /// # Errors
    ///
    /// If it cannot be started; for a missing program the message says which package has it.
    pub fn spawn(name: &str, program: &str, arguments: &[&str], output: &Path) -> Result<Self> {
        crate::tools::require(program)?;
        let log = File::options().create(true).append(true).open(output)?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", program]).args(arguments);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let (answer, child) = sync_channel(1);
        SPAWNER.send((command, answer)).context("the spawning thread is gone")?;
        let child = child.recv().context("the spawning thread is gone")?;
        let child = child.with_context(|| format!("cannot start {program}"))?;
        Ok(Self { name: name.into(), child, output: output.into(), ended: None })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed so far.
    pub fn printed(&self) -> String {
        fs::read(&self.output).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended
    }

    /// Sends a signal.
    ///
    /// # Errors
    ///
    /// If it has ended already.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if let Some(status) = self.ended() {
            bail!("{} has ended: {status}", self.name);
        }
        // The child has not been waited for, so its number cannot belong to anybody else yet.
        let pid =
            i32::try_from(self.pid()).ok().and_then(Pid::from_raw).context("process id out of range")?;
        Ok(kill_process(pid, signal)?)
    }

    /// Freezes it, and returns when every thread has stopped.
    ///
    /// # Errors
    ///
    /// If it has ended already.
    pub fn pause(&mut self) -> Result<()> {
        self.signal(Signal::STOP)?;
        let stat = format!("/proc/{}/stat", self.pid());
        Deadline::after(STOP_TIMEOUT).wait_for(format!("{} freezes", self.name), || {
            // The state follows the program's name in parentheses, which may itself hold some.
            let stat = fs::read_to_string(&stat).ok()?;
            stat.rsplit(") ").next()?.starts_with('T').then_some(())
        })
    }

    /// Ends it at once, as a power cut would, and waits until it is gone.
    ///
    /// # Errors
    ///
    /// If it cannot be waited for.
    pub fn kill(&mut self) -> Result<()> {
        if self.ended().is_none() {
            self.child.kill()?;
            self.ended = Some(self.child.wait()?);
        }
        Ok(())
    }

    /// Asks it to end and waits until it has.
    ///
    /// # Errors
    ///
    /// If it took too long (it is killed then), or had crashed before.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        if self.ended().is_none() {
            self.signal(Signal::TERM)?;
            // A frozen process does not even hear that.
            self.signal(Signal::CONT)?;
            let what = format!("{} ends after SIGTERM", self.name);
            let ended = Deadline::after(STOP_TIMEOUT).wait_for(what, || self.ended());
            if ended.is_err() {
                self.kill()?;
            }
            return ended;
        }
        let status = self.ended().context("it has ended")?;
        bail!("{} was not running any more: {status}", self.name)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Nothing can be done about a failure here, and the kernel kills it with us anyway.
        let _ = self.kill();
    }
}
