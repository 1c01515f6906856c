//! `cuttlebone store`: looking into a copy of a monitor's store.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use clap::{Args, Subcommand};
use cuttlebone_store::{
    Difference, Entry, Point, Reader, Report, Selector, View, diff, escape, export_trace, list, list_crc,
    verify,
};
use serde_json::{Value, json};

use crate::args::Format;
use crate::exit::{Exit, Failed};
use crate::output::{Output, table};
use crate::text::{bytes, stamp};

/// Verbs of `cuttlebone store`.
#[derive(Debug, Subcommand)]
#[non_exhaustive]
pub enum StoreCommand {
    /// Lists keys, as `ceph-kvstore-tool ... list` does.
    Ls(ListArgs),
    /// Writes one value to standard output.
    Get(GetArgs),
    /// Lists keys with their checksums, as `ceph-kvstore-tool ... list-crc` does.
    ListCrc(ListArgs),
    /// Reads everything and checks it against everything; exit status 7 if something is wrong.
    Verify(Place),
    /// Compares two points, of one copy or of two; exit status 7 if they differ.
    Diff(DiffArgs),
    /// Writes a point as a file that other tools read.
    ///
    /// With `--format trace`, which is also the default, it is one that `ceph-monstore-tool <mon_data> replay-trace
    /// FILE` applies to a fresh monitor's store.
    Export(ExportArgs),
    /// Lists the points, any of which can be read.
    History(Place),
}

/// Which copy.
#[derive(Args, Debug)]
#[non_exhaustive]
pub struct Place {
    /// Directory of the copy.
    #[arg(long, value_name = "DIR")]
    pub store: PathBuf,
}

/// Which point of which copy.
#[derive(Args, Debug)]
#[non_exhaustive]
pub struct At {
    /// Directory of the copy.
    #[arg(long, value_name = "DIR")]
    pub store: PathBuf,
    /// Which point: latest, a number, version:VERSION (of paxos) or time:SECONDS (since 1970).
    #[arg(long, value_name = "POINT", default_value = "latest")]
    pub point: Selector,
}

/// What to list.
#[derive(Args, Debug)]
#[non_exhaustive]
pub struct ListArgs {
    /// Where.
    #[command(flatten)]
    pub at: At,
    /// Only keys of this prefix.
    pub prefix: Option<String>,
}

/// What to get.
#[derive(Args, Debug)]
#[non_exhaustive]
pub struct GetArgs {
    /// Where.
    #[command(flatten)]
    pub at: At,
    /// First half of the key.
    pub prefix: String,
    /// Second half of the key.
    pub key: String,
    /// Prefix and key are escaped as `ls` prints them.
    #[arg(long)]
    pub escaped: bool,
}

/// What to compare.
#[derive(Args, Debug)]
#[non_exhaustive]
pub struct DiffArgs {
    /// The newer side.
    #[command(flatten)]
    pub at: At,
    /// The point of the older side; the one before `--point` if nothing is said of it.
    #[arg(long, value_name = "POINT")]
    pub from: Option<Selector>,
    /// The copy of the older side, if it is another one.
    #[arg(long, value_name = "DIR")]
    pub with: Option<PathBuf>,
}

/// What to export.
#[derive(Args, Debug)]
#[non_exhaustive]
pub struct ExportArgs {
    /// Where from.
    #[command(flatten)]
    pub at: At,
    /// The file to write.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

pub(crate) fn run<W: Write>(command: &StoreCommand, output: &mut Output<W>) -> Result<Exit> {
    match command {
        StoreCommand::Ls(arguments) => ls(arguments, output),
        StoreCommand::Get(arguments) => get(arguments, output),
        StoreCommand::ListCrc(arguments) => crcs(arguments, output),
        StoreCommand::Verify(place) => scrub(place, output),
        StoreCommand::Diff(arguments) => compare(arguments, output),
        StoreCommand::Export(arguments) => export(arguments, output),
        StoreCommand::History(place) => history(place, output),
    }
}

fn open(store: &Path) -> Result<Reader> {
    Reader::open(store).with_context(|| store.display().to_string())
}

impl At {
    fn view(&self) -> Result<View> {
        Ok(open(&self.store)?.at(self.point)?)
    }
}

fn ls<W: Write>(arguments: &ListArgs, output: &mut Output<W>) -> Result<Exit> {
    let view = arguments.at.view()?;
    let prefix = arguments.prefix.as_deref().map(str::as_bytes);
    if output.format() == Format::Plain {
        list(&view, prefix, &mut BufWriter::new(output.plain()))?;
    } else {
        entries(&view, prefix, output)?;
    }
    Ok(Exit::Done)
}

fn crcs<W: Write>(arguments: &ListArgs, output: &mut Output<W>) -> Result<Exit> {
    let view = arguments.at.view()?;
    let prefix = arguments.prefix.as_deref().map(str::as_bytes);
    if output.format() == Format::Plain {
        list_crc(&view, prefix, &mut BufWriter::new(output.plain()))?;
    } else {
        entries(&view, prefix, output)?;
    }
    Ok(Exit::Done)
}

/// One object for each key; both listings are the same there.
fn entries<W: Write>(view: &View, prefix: Option<&[u8]>, output: &mut Output<W>) -> Result<()> {
    for entry in view.entries(prefix)? {
        output.item(&entry_json(&entry?), |_| Ok(()))?;
    }
    Ok(())
}

fn escaped(bytes: &[u8]) -> String {
    let mut text = Vec::new();
    escape(bytes, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// Prefix and key are escaped as the lists for people have them, since JSON knows text only.
fn entry_json(entry: &Entry) -> Value {
    json!({
        "prefix": escaped(entry.prefix()),
        "key": escaped(entry.key()),
        "bytes": entry.len(),
        "crc": entry.crc(),
    })
}

fn get<W: Write>(arguments: &GetArgs, output: &mut Output<W>) -> Result<Exit> {
    let view = arguments.at.view()?;
    let name = |text: &str| if arguments.escaped { unescape(text) } else { Ok(text.as_bytes().to_vec()) };
    let (prefix, key) = (name(&arguments.prefix)?, name(&arguments.key)?);
    let found = view.find(&prefix, &key)?.with_context(|| {
        let (prefix, key) = (&arguments.prefix, &arguments.key);
        Failed::new(Exit::NotFound, format_args!("point {} has no key {key} under {prefix}", view.point().id))
    })?;
    let value: Bytes = view.value(&found)?;
    if output.format() == Format::Plain {
        output.raw(&value)?;
    } else {
        let mut json = entry_json(&found);
        json["value_base64"] = STANDARD.encode(&value).into();
        output.json(&json)?;
    }
    Ok(Exit::Done)
}

/// The bytes behind what [`escape`] wrote.
fn unescape(text: &str) -> Result<Vec<u8>> {
    let bad = || Failed::new(Exit::Usage, format_args!("{text} is not escaped as `store ls` does it"));
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, behind) = rest.split_first_chunk::<2>().ok_or_else(bad)?;
        let digits = core::str::from_utf8(digits).ok().and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(digits.ok_or_else(bad)?);
        rest = behind;
    }
    Ok(bytes)
}

fn scrub<W: Write>(place: &Place, output: &mut Output<W>) -> Result<Exit> {
    let report = verify(&place.store)?;
    let problems: Vec<_> = report.problems.iter().map(|problem| crate::exit::chain(problem)).collect();
    let latest = open(&place.store).ok().and_then(|reader| reader.at(Selector::Latest).ok());
    let answer = json!({
        "sound": report.is_sound(),
        "generations": report.generations,
        "points": report.points,
        "records": report.records,
        "log_bytes": report.log_bytes,
        "entries": report.entries,
        "unfinished_files": report.unfinished,
        "problems": problems,
        "further_problems": report.further_problems,
        "digest": latest.map(|view| view.point().digest.to_string()),
    });
    output.answer(&answer, |out| verdict(&report, &problems, out))?;
    Ok(if report.is_sound() { Exit::Done } else { Exit::Corrupt })
}

fn verdict(report: &Report, problems: &[String], out: &mut impl Write) -> std::io::Result<()> {
    for problem in problems {
        writeln!(out, "wrong: {problem}")?;
    }
    if report.further_problems > 0 {
        writeln!(out, "wrong: {} more", report.further_problems)?;
    }
    let Report { points, generations, records, entries, log_bytes, .. } = report;
    let read = bytes(*log_bytes);
    let verdict = if report.is_sound() { "sound" } else { "not sound" };
    writeln!(
        out,
        "{verdict}: {points} points in {generations} generations, {records} records ({read}), {entries} index entries"
    )
}

fn compare<W: Write>(arguments: &DiffArgs, output: &mut Output<W>) -> Result<Exit> {
    let after = arguments.at.view()?;
    let before = match (&arguments.with, arguments.from) {
        (Some(store), from) => open(store)?.at(from.unwrap_or_default())?,
        (None, Some(from)) => open(&arguments.at.store)?.at(from)?,
        (None, None) => {
            let reader = open(&arguments.at.store)?;
            let earlier =
                reader.points().rev().find(|point| point.id < after.point().id).map(|point| point.id);
            let none =
                || Failed::new(Exit::NotFound, format_args!("there is no point before {}", after.point().id));
            reader.at(Selector::Id(earlier.ok_or_else(none)?))?
        }
    };
    let mut differs = false;
    for difference in diff(&before, &after)? {
        differs = true;
        let (sign, name, entry) = match &difference? {
            Difference::Added(entry) => ('+', "added", entry.clone()),
            Difference::Removed(entry) => ('-', "removed", entry.clone()),
            Difference::Changed { after, .. } => ('~', "changed", after.clone()),
        };
        let mut json = entry_json(&entry);
        json["change"] = name.into();
        output.item(&json, |out| {
            writeln!(out, "{sign} {}\t{}", escaped(entry.prefix()), escaped(entry.key()))
        })?;
    }
    Ok(if differs { Exit::Corrupt } else { Exit::Done })
}

fn export<W: Write>(arguments: &ExportArgs, output: &mut Output<W>) -> Result<Exit> {
    let view = arguments.at.view()?;
    let exported = export_trace(&view, &arguments.out)?;
    let point = view.point();
    let answer = json!({
        "point": point.id.0,
        "version": point.last_committed,
        "file": arguments.out.display().to_string(),
        "transactions": exported.transactions,
        "keys": exported.keys,
        "bytes": exported.bytes,
    });
    output.answer(&answer, |out| {
        let (file, size) = (arguments.out.display(), bytes(exported.bytes));
        writeln!(
            out,
            "{file}: {} keys of point {} at version {}, {size}",
            exported.keys, point.id, point.last_committed
        )
    })?;
    Ok(Exit::Done)
}

fn history<W: Write>(place: &Place, output: &mut Output<W>) -> Result<Exit> {
    let reader = open(&place.store)?;
    if output.format() == Format::Plain {
        let header = ["POINT", "TIME", "KIND", "VERSION", "KEYS", "BYTES", "FROM"];
        let rows = reader.points().map(|point| {
            let Point { id, kind, last_committed, keys, origin, .. } = point;
            let row = [id.to_string(), stamp(point.time), kind.to_string(), last_committed.to_string()];
            [&row[..], &[keys.to_string(), bytes(point.bytes), origin.provider.clone()]].concat()
        });
        writeln!(output.plain(), "{}", table(&header, rows))?;
    } else {
        for point in reader.points() {
            output.item(&point_json(point), |_| Ok(()))?;
        }
    }
    Ok(Exit::Done)
}

fn point_json(point: &Point) -> Value {
    json!({
        "point": point.id.0,
        "time": stamp(point.time),
        "kind": point.kind.name(),
        "version": point.last_committed,
        "keys": point.keys,
        "bytes": point.bytes,
        "digest": point.digest.to_string(),
        "fsid": point.origin.fsid.to_string(),
        "monitor": point.origin.provider,
        "generation": point.generation,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_escaped_comes_back() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(unescape(&escaped(&all)).unwrap(), all);
        assert!(unescape("%2").is_err());
        assert!(unescape("%zz").is_err());
    }
}
