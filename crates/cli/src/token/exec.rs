//! `token register` and `token exec`: a life held while a command runs.

use core::time::Duration;
use std::io::Write;

use anyhow::Result;
use cuttlebone_http::message::{Event, LeaseTerms, RegisterRequest, TokenRequest};
use cuttlebone_http::{Ending, Life};

use super::child::Child;
use super::{ExecArgs, RegisterArgs, ServiceArgs};
use crate::args::Global;
use crate::exit::{Exit, Failed};
use crate::interrupt::{Interrupt, interrupted};
use crate::output::Output;

/// The most that ending a command may take when the lease has only its margin left.
const LOST_GRACE_MAX: Duration = Duration::from_secs(1);

pub(super) async fn exec(arguments: &ExecArgs, global: &Global) -> Result<Exit> {
    let request = TokenRequest {
        epoch: arguments.epoch,
        class: arguments.class.into(),
        slots: arguments.slots,
        limit: arguments.limit,
        wait: !arguments.no_wait,
        lease: terms(&arguments.service)?,
    };
    let client = arguments.service.client()?;
    let waiting = async {
        let mut life = client.token(&arguments.name, &request).await?;
        let granted = life.held(|event| remark(global, event)).await?;
        Ok::<_, anyhow::Error>((life, granted))
    };
    let (life, granted) = tokio::select! {
        held = waiting => held?,
        _ = interrupted() => return Ok(Exit::Interrupted),
    };
    let Event::Granted { epoch, seq, fence, .. } = granted else {
        return Err(Failed::new(Exit::Corrupt, "the service granted no token").into());
    };
    let environment = [
        ("CUTTLEBONE_FENCE", fence),
        ("CUTTLEBONE_NAME", arguments.name.clone()),
        ("CUTTLEBONE_EPOCH", epoch.to_string()),
        ("CUTTLEBONE_SEQ", seq.to_string()),
    ];
    let grace = Duration::from_secs(arguments.grace.grace);
    let exit = run(life, &arguments.command, environment, grace).await?;
    // What the command left running may still hold the socket, but the command is over, and so is its token.
    let _best_effort = client.release(&arguments.name, seq).await;
    Ok(exit)
}

pub(super) async fn register<W: Write>(
    arguments: &RegisterArgs,
    global: &Global,
    output: &mut Output<W>,
) -> Result<Exit> {
    let request = RegisterRequest {
        name: arguments.name.clone(),
        takeover: arguments.takeover.into(),
        limit: arguments.limit,
        lease: terms(&arguments.service)?,
    };
    let client = arguments.service.client()?;
    let waiting = async {
        let mut life = client.register(&request).await?;
        let registered = life.held(|event| remark(global, event)).await?;
        Ok::<_, anyhow::Error>((life, registered))
    };
    let (mut life, registered) = tokio::select! {
        held = waiting => held?,
        _ = interrupted() => return Ok(Exit::Interrupted),
    };
    let Event::Registered { epoch, .. } = &registered else {
        return Err(Failed::new(Exit::Corrupt, "the service registered nothing").into());
    };
    if arguments.command.is_empty() {
        output.item(&registered, |out| writeln!(out, "registered {} with epoch {epoch}", arguments.name))?;
        output.finish()?;
        return tokio::select! {
            ending = life.ending() => Err(over(ending?)),
            _ = interrupted() => Ok(Exit::Done),
        };
    }
    let environment = [
        ("CUTTLEBONE_NAME", arguments.name.clone()),
        ("CUTTLEBONE_EPOCH", epoch.to_string()),
        ("CUTTLEBONE_TOKEN_SERVER", arguments.service.server.clone()),
    ];
    run(life, &arguments.command, environment, Duration::from_secs(arguments.grace.grace)).await
}

/// Runs `command` for as long as `life` allows.
async fn run<const N: usize>(
    mut life: Life,
    command: &[String],
    environment: [(&str, String); N],
    grace: Duration,
) -> Result<Exit> {
    let mut child = Child::start(command, environment, Some(life.socket()?))?;
    let mut asked_before = false;
    loop {
        tokio::select! {
            exit = child.ended() => return exit,
            ending = life.ending() => {
                let ending = ending?;
                let status = stop(&mut child, &mut life, ending, grace).await?;
                return Err(over(ending).context(format!("the command was ended: {status:?}")));
            }
            interrupt = interrupted() => {
                let signal = match interrupt {
                    _ if asked_before => rustix::process::Signal::KILL,
                    Interrupt::Interrupt => rustix::process::Signal::INT,
                    Interrupt::Terminate => rustix::process::Signal::TERM,
                };
                asked_before = true;
                child.signal(signal);
            }
        }
    }
}

/// Ends the command. Until it has ended its life goes on, since whoever comes next must wait for the end of this one.
async fn stop(child: &mut Child, life: &mut Life, ending: Ending, grace: Duration) -> Result<Exit> {
    if ending == Ending::Fenced {
        tokio::select! {
            exit = child.end(grace) => return exit,
            _later = life.ending() => {} // lost, too, or forgotten: now there is no time left
        }
    }
    child.end(grace.min(LOST_GRACE_MAX)).await
}

/// On the same machine the open connection is enough, and a command that outlives us keeps it; from afar it has to be
/// renewed.
fn terms(service: &ServiceArgs) -> Result<LeaseTerms> {
    Ok(if service.address()?.is_local() { LeaseTerms::Response } else { LeaseTerms::Renewed })
}

fn remark(global: &Global, event: &Event) {
    match event {
        _ if global.quiet => {}
        Event::Waiting => crate::complain("waiting"),
        Event::Draining { epoch } => {
            crate::complain(format_args!("next, with epoch {epoch}; older tokens are still out"));
        }
        _ => {}
    }
}

fn over(ending: Ending) -> anyhow::Error {
    match ending {
        Ending::Fenced => Failed::new(Exit::Refused, "fenced"),
        Ending::Lost => Failed::new(Exit::Unreachable, "the service cannot be heard any more"),
        _ => Failed::new(Exit::Failure, "given back by another call"),
    }
    .into()
}
