//! `cuttlebone mon`: what a monitor session can tell, and a live store copied and served.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use cuttlebone_node::{Client, ClientConfig};
use cuttlebone_wire::EntityType;
use serde_json::{Map, Value, json};

use crate::args::Global;
use crate::environment::Environment;
use crate::exit::{Exit, Failed};
use crate::output::{Output, table};

mod backup;
mod serve;

pub use backup::BackupArgs;
pub use serve::ServeArgs;

/// Verbs of `cuttlebone mon`.
#[derive(Debug, Subcommand)]
#[non_exhaustive]
pub enum MonCommand {
    /// Copies a live monitor's store over the wire, consistently; later runs move only what is new.
    Backup(BackupArgs),
    /// Serves a copy as the provider from which fresh monitors synchronise.
    Serve(ServeArgs),
    /// Prints the monitor map.
    Map,
    /// Prints who is in the quorum and who leads it.
    Status,
    /// Runs a command on the cluster, as `ceph` does.
    Command(CommandArgs),
}

/// What to run.
#[derive(Args, Debug)]
#[non_exhaustive]
pub struct CommandArgs {
    /// The command: one JSON object, or words as in `config-key ls`, followed by its arguments as name=value.
    #[arg(required = true, value_name = "COMMAND")]
    pub words: Vec<String>,
    /// File with the command's input; `-` is standard input.
    #[arg(short, long, value_name = "FILE")]
    pub input: Option<PathBuf>,
}

pub(crate) fn run<W: Write>(command: &MonCommand, global: &Global, output: &mut Output<W>) -> Result<Exit> {
    let environment = Environment::load(global)?;
    match command {
        MonCommand::Backup(arguments) => backup::run(arguments, global, &environment, output),
        MonCommand::Serve(arguments) => serve::run(arguments, global, output),
        MonCommand::Map => ask(global, &environment, async |client| map(client, output).await),
        MonCommand::Status => ask(global, &environment, async |client| status(client, output).await),
        MonCommand::Command(arguments) => {
            let json = command_json(&arguments.words)?;
            let input = match &arguments.input {
                None => Vec::new(),
                Some(path) if path.as_os_str() == "-" => {
                    std::io::read_to_string(std::io::stdin())?.into_bytes()
                }
                Some(path) => std::fs::read(path).with_context(|| path.display().to_string())?,
            };
            ask(global, &environment, async |client| {
                let ack = client.command(json.to_string(), input).await?;
                if !ack.status.is_empty() && !global.quiet {
                    crate::complain(ack.status_text());
                }
                output.raw(&ack.output)?;
                Ok(())
            })
        }
    }
}

/// A runtime for one command. One thread drives everything; what waits for a disk has threads of its own.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// Opens a client's session with the first monitor that answers, and asks.
fn ask(
    global: &Global,
    environment: &Environment,
    question: impl AsyncFnOnce(&mut Client) -> Result<()>,
) -> Result<Exit> {
    if environment.name.kind != EntityType::CLIENT {
        let refused = format_args!("{} is no client; these commands are asked by clients", environment.name);
        return Err(Failed::new(Exit::Usage, refused).into());
    }
    let config = ClientConfig {
        monitors: environment.monitors()?,
        id: environment.name.id.clone(),
        timeout: global.connect_timeout(),
    };
    runtime()?.block_on(async {
        let mut client = Client::connect(&config).await?;
        let answer = question(&mut client).await;
        client.close().await;
        answer.map(|()| Exit::Done)
    })
}

async fn map<W: Write>(client: &mut Client, output: &mut Output<W>) -> Result<()> {
    let map = client.map().await?;
    output.answer(&map, |out| {
        writeln!(out, "epoch {}, fsid {}", map.epoch, map.fsid)?;
        let rows = map.ranks.iter().enumerate().filter_map(|(rank, name)| {
            Some(vec![rank.to_string(), format!("mon.{name}"), map.mons.get(name)?.addrs.to_string()])
        });
        writeln!(out, "{}", table(&["RANK", "NAME", "ADDRESSES"], rows))
    })?;
    Ok(())
}

async fn status<W: Write>(client: &mut Client, output: &mut Output<W>) -> Result<()> {
    let addr = client.addr().to_string();
    let ack = client.command(r#"{"prefix":"quorum_status","format":"json"}"#, "").await?;
    let status: Value = serde_json::from_slice(&ack.output).context("the monitor's answer is not JSON")?;
    let text = |key: &str| status.get(key).and_then(Value::as_str).unwrap_or("-").to_owned();
    let names = status.get("quorum_names").and_then(Value::as_array).into_iter().flatten();
    let names: Vec<_> = names.filter_map(Value::as_str).collect();
    output.answer(&json!({"answered_by": addr, "status": status}), |out| {
        writeln!(out, "quorum {}, led by {}, answered by {addr}", names.join(" "), text("quorum_leader_name"))
    })?;
    Ok(())
}

/// A command as monitors take it: one JSON object whose `prefix` says what to do.
fn command_json(words: &[String]) -> Result<Value> {
    if let [only] = words
        && only.trim_start().starts_with('{')
    {
        let object = serde_json::from_str(only);
        return object.with_context(|| Failed::new(Exit::Usage, "the command is not a JSON object"));
    }
    let mut object = Map::new();
    let (arguments, prefix): (Vec<_>, Vec<_>) = words.iter().partition(|word| word.contains('='));
    let prefix: Vec<_> = prefix.into_iter().map(String::as_str).collect();
    object.insert("prefix".into(), prefix.join(" ").into());
    for (name, value) in arguments.iter().filter_map(|argument| argument.split_once('=')) {
        object.insert(name.into(), value.into());
    }
    Ok(Value::Object(object))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(words: &[&str], expected: &str) {
        let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
        assert_eq!(command_json(&words).unwrap().to_string(), expected);
    }

    #[test]
    fn a_command_is_words_and_arguments_or_json_as_it_is() {
        check(&["config-key", "ls"], r#"{"prefix":"config-key ls"}"#);
        check(&["config-key", "get", "key=a/b=c"], r#"{"prefix":"config-key get","key":"a/b=c"}"#);
        check(&[r#"{"prefix": "status"}"#], r#"{"prefix":"status"}"#);
        assert!(command_json(&["{".into()]).is_err());
    }
}
