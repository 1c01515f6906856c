use core::time::Duration;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::deadline::Deadline;

/// The program under test, as a user would run it.
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
}

/// How a program ended, and what it printed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Ended {
    /// Its exit status; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

/// A program that runs until it is told to stop, or is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    output: TempDir,
}

/// How long a program may take to end after SIGTERM.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

impl Program {
    /// The program at `path`, which a test gets from `env!("CARGO_BIN_EXE_…")`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        // Ends with the test, also when that is killed.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(&self.path).args(arguments);
        command.env_remove("CEPH_ARGS").env_remove("CEPH_CONF").stdin(Stdio::null()).process_group(0);
        command
    }

    /// Runs it to its end, whatever that is.
    ///
    /// # Errors
    ///
    /// If it cannot be started.
    pub fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Result<Ended> {
        let mut command = self.command(arguments);
        let output = command.output().with_context(|| format!("{command:?}"))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Ended { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) })
    }

    /// Runs it to its end, which has to be a good one.
    ///
    /// # Errors
    ///
    /// If it fails; with what it wrote to standard error.
    pub fn ok<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Result<Ended> {
        let arguments: Vec<_> = arguments.into_iter().map(|argument| argument.as_ref().to_owned()).collect();
        let ended = self.run(&arguments)?;
        ensure!(ended.code == Some(0), "{arguments:?} ended with {:?}: {}", ended.code, ended.stderr);
        Ok(ended)
    }

    /// Runs it to its end, which has to be a good one, and gives the JSON object that it printed.
    ///
    /// # Errors
    ///
    /// If it fails, or prints something else.
    pub fn json<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Result<Value> {
        let ended = self.ok(arguments)?;
        serde_json::from_str(&ended.stdout).with_context(|| ended.stdout.clone())
    }

    /// Starts it and leaves it running.
    ///
    /// # Errors
    ///
    /// If it cannot be started.
    pub fn spawn<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Result<Running> {
        let output = tempfile::tempdir()?;
        let file = |name: &str| File::create(output.path().join(name));
        let mut command = self.command(arguments);
        command.stdout(file("stdout")?).stderr(file("stderr")?);
        let child = command.spawn().with_context(|| format!("{command:?}"))?;
        Ok(Running { child, output })
    }
}

impl Running {
    /// What it has written to standard output so far.
    pub fn stdout(&self) -> String {
        read(&self.output.path().join("stdout"))
    }

    /// What it has written to standard error so far.
    pub fn stderr(&self) -> String {
        read(&self.output.path().join("stderr"))
    }

    /// Waits for a line of standard output that holds `needle`.
    ///
    /// # Errors
    ///
    /// If it ends before, or takes too long.
    pub fn wait_for(&mut self, needle: &str, timeout: Duration) -> Result<String> {
        let what = format!("a line with {needle:?}");
        let line = Deadline::after(timeout).wait_for(what, || {
            let ended = self.child.try_wait().is_ok_and(|status| status.is_some());
            let text = self.stdout();
            let line = text.lines().find(|line| line.contains(needle)).map(String::from);
            if line.is_none() && ended { Some(None) } else { line.map(Some) }
        })?;
        line.with_context(|| format!("it ended without {needle:?}: {}{}", self.stdout(), self.stderr()))
    }

    /// Its process id, also while it has ended and not been waited for.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Freezes it (SIGSTOP), or lets it go on.
    ///
    /// # Errors
    ///
    /// If the system says no.
    pub fn freeze(&self, frozen: bool) -> Result<()> {
        use rustix::process::Signal;
        let signal = if frozen { Signal::STOP } else { Signal::CONT };
        Ok(rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal)?)
    }

    /// Ends it as a power cut would after it had `time` to work, and tells whether it was still working.
    ///
    /// # Errors
    ///
    /// If the system says no.
    pub fn kill_after(mut self, time: Duration) -> Result<bool> {
        crate::deadline::pause(time);
        let working = self.ended()?.is_none();
        self.kill()?;
        Ok(working)
    }

    /// Ends it as a power cut would.
    ///
    /// # Errors
    ///
    /// If the system says no.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to end (SIGTERM) and waits until it has.
    ///
    /// # Errors
    ///
    /// If it takes too long.
    pub fn stop(mut self) -> Result<ExitStatus> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        Deadline::after(STOP_TIMEOUT).wait_for("the program ends", || self.child.try_wait().ok().flatten())
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    ///
    /// If the system says no.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits for its end.
    ///
    /// # Errors
    ///
    /// If it takes too long.
    pub fn wait(&mut self, timeout: Duration) -> Result<ExitStatus> {
        Deadline::after(timeout).wait_for("the program ends", || self.child.try_wait().ok().flatten())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}
