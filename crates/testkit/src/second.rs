use core::time::Duration;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// Ceph's own client library, mounted in a process of its own, doing what it is told: `python3-cephfs` behind lines of
/// JSON.
///
/// It is killed when dropped; [`unmount`](Self::unmount) ends it in good order, which a test that looks at the
/// cluster's health afterwards needs.
#[derive(Debug)]
pub struct SecondClient {
    child: Child,
    orders: ChildStdin,
    answers: Receiver<String>,
    global_id: u64,
}

/// How long it may take to mount, and to answer anything that does not wait for another client on purpose.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Answers that may wait to be taken.
const ANSWERS_MAX: usize = 16;

impl SecondClient {
    pub(crate) fn mount(conf: &Path) -> Result<Self> {
        let mut command = Command::new("setpriv");
        // The distribution's own interpreter: only that one finds the bindings.
        command.args(["--pdeathsig", "KILL", "/usr/bin/python3", "-c", include_str!("second.py")]);
        command.arg(conf).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("cannot start the second client")?;
        let orders = child.stdin.take().context("it was given a pipe")?;
        let lines = BufReader::new(child.stdout.take().context("it was given a pipe")?).lines();
        let (sender, answers) = sync_channel(ANSWERS_MAX);
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut client = Self { child, orders, answers, global_id: 0 };
        let id = client.wait(ANSWER_TIMEOUT)?.map_err(|errno| anyhow::anyhow!("mount: errno {errno}"))?;
        client.global_id = id.as_u64().context("its global id")?;
        Ok(client)
    }

    /// The number that the monitors gave it.
    pub fn global_id(&self) -> u64 {
        self.global_id
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Does one operation and answers its result, or the error number.
    ///
    /// Operations and their arguments are those of `second.py`.
    ///
    /// # Errors
    ///
    /// If it has died or does not answer.
    pub fn call(&mut self, op: &str, arguments: &[Value]) -> Result<Result<Value, i32>> {
        self.send(op, arguments)?;
        self.wait(ANSWER_TIMEOUT).with_context(|| format!("the second client: {op} {arguments:?}"))
    }

    /// Does one operation that has to succeed.
    ///
    /// # Errors
    ///
    /// If it fails, or nobody answers.
    pub fn ok(&mut self, op: &str, arguments: &[Value]) -> Result<Value> {
        let answer = self.call(op, arguments)?;
        answer.map_err(|errno| anyhow::anyhow!("the second client: {op} {arguments:?}: errno {errno}"))
    }

    /// Begins one operation; [`wait`](Self::wait) has its answer.
    ///
    /// # Errors
    ///
    /// If it has died.
    pub fn send(&mut self, op: &str, arguments: &[Value]) -> Result<()> {
        writeln!(self.orders, "{}", json!({"op": op, "args": arguments}))
            .context("the second client has died")
    }

    /// The answer to the oldest operation that has none yet.
    ///
    /// # Errors
    ///
    /// If it has died, or does not answer in time.
    pub fn wait(&mut self, timeout: Duration) -> Result<Result<Value, i32>> {
        let line = match self.answers.recv_timeout(timeout) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => bail!("it did not answer within {timeout:?}"),
            Err(RecvTimeoutError::Disconnected) => bail!("it has died: {:?}", self.child.try_wait()),
        };
        let mut answer: Value = serde_json::from_str(&line).with_context(|| line.clone())?;
        match answer.get("errno").and_then(Value::as_i64) {
            Some(errno) => Ok(Err(i32::try_from(errno)?)),
            None => Ok(Ok(answer["ok"].take())),
        }
    }

    /// Whether an answer has come that was not taken yet; it is lost by asking. For operations that have to be waiting.
    pub fn has_answered(&mut self) -> bool {
        self.answers.try_recv().is_ok()
    }

    /// Freezes it (SIGSTOP), or lets it go on.
    ///
    /// # Errors
    ///
    /// If it has died.
    pub fn freeze(&self, frozen: bool) -> Result<()> {
        let signal = if frozen { Signal::STOP } else { Signal::CONT };
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }

    /// Unmounts in good order and ends.
    ///
    /// # Errors
    ///
    /// If it has died or does not answer.
    pub fn unmount(mut self) -> Result<()> {
        self.ok("unmount", &[]).map(|_| ())
    }
}

impl Drop for SecondClient {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
