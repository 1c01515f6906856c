//! `cuttlebone wire`: what `ceph-dencoder` does, for the types that this workspace speaks.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bytes::Bytes;
use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use cuttlebone_wire::Features;
use serde_json::json;

use crate::exit::{Exit, Failed};
use crate::output::{Output, table};

mod bodies;
mod recorded;
mod stored_op;
mod structure;
mod types;

pub use recorded::Recorded;
pub use types::{Decoded, TYPES, Type};

/// Verbs of `cuttlebone wire`.
#[derive(Debug, Subcommand)]
#[non_exhaustive]
pub enum WireCommand {
    /// Lists the types that can be decoded.
    Types,
    /// Decodes one object and prints it as JSON.
    ///
    /// Values of a monitor's store and the data of commands are shown by their length, since they may be secret.
    Decode(Source),
    /// Decodes one object and writes its bytes again.
    ///
    /// Without --features the bytes come back in the form and version that they had.
    Reencode(Source),
}

/// Where an object comes from.
#[derive(Args, Debug)]
#[non_exhaustive]
pub struct Source {
    /// The type's name in C++; see `cuttlebone wire types`.
    #[arg(value_name = "TYPE", value_parser = PossibleValuesParser::new(TYPES.iter().map(|kind| kind.name)))]
    #[arg(hide_possible_values = true)]
    pub kind: String,
    /// File with the object's bytes; standard input without it.
    #[arg(long = "in", value_name = "FILE")]
    pub input: Option<PathBuf>,
    /// Feature bits of the peer that shall read it, in hexadecimal.
    #[arg(long, value_name = "HEX", value_parser = parse_features)]
    pub features: Option<Features>,
}

/// Largest object that is read, in bytes.
const OBJECT_BYTES_MAX: u64 = 1 << 30;

pub(crate) fn run<W: Write>(command: &WireCommand, output: &mut Output<W>) -> Result<Exit> {
    match command {
        WireCommand::Types => list(output)?,
        WireCommand::Decode(source) => {
            let decoded = decode(source)?;
            output.json(&json!({
                "type": source.kind,
                "bytes": decoded.read_bytes,
                "features": decoded.features,
                "value": decoded.value,
            }))?;
        }
        WireCommand::Reencode(source) => output.raw(&decode(source)?.encoded)?,
    }
    Ok(Exit::Done)
}

fn list<W: Write>(output: &mut Output<W>) -> Result<()> {
    let types: Vec<_> = TYPES.iter().map(|kind| json!({"name": kind.name, "what": kind.what})).collect();
    output.answer(&json!({"types": types}), |out| {
        let rows = TYPES.iter().map(|kind| vec![kind.name.into(), kind.what.into()]);
        writeln!(out, "{}", table(&["TYPE", "WHAT IT IS"], rows))
    })?;
    Ok(())
}

fn decode(source: &Source) -> Result<Decoded> {
    let kind = TYPES.iter().find(|kind| kind.name == source.kind);
    let kind =
        kind.with_context(|| Failed::new(Exit::Usage, format_args!("unknown type {}", source.kind)))?;
    let bytes = match source.input.as_deref() {
        None => read(io::stdin().lock(), Path::new("standard input"))?,
        Some(path) => read(File::open(path).with_context(|| path.display().to_string())?, path)?,
    };
    kind.decode(&bytes, source.features).with_context(|| kind.name)
}

fn read(from: impl Read, path: &Path) -> Result<Bytes> {
    let mut bytes = Vec::new();
    let len = from
        .take(OBJECT_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .with_context(|| path.display().to_string())?;
    if u64::try_from(len).unwrap_or(u64::MAX) > OBJECT_BYTES_MAX {
        return Err(Failed::new(Exit::Corrupt, format_args!("more than {OBJECT_BYTES_MAX} bytes")).into());
    }
    Ok(bytes.into())
}

fn parse_features(text: &str) -> Result<Features, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    u64::from_str_radix(digits, 16)
        .map(Features)
        .map_err(|_| "up to 16 hexadecimal digits are expected".into())
}
