//! The one file that says what exists.

use bytes::Bytes;
use cuttlebone_wire::{Decode, DecodeError, DecodeErrorKind, Encode, Features, Reader, Writer, crc32c};

use crate::disk::Disk;
use crate::limits::{BLOCK_BYTES, GENERATIONS_MAX, MANIFEST_BYTES_MAX, RUNS_MAX};
use crate::log::log_name;
use crate::run::{RunMeta, run_name};
use crate::{Corruption, Error};

pub(crate) const MANIFEST_FILE: &str = "manifest";
const MANIFEST_TEMPORARY: &str = "manifest.tmp";
const MAGIC: &[u8; 8] = b"CUTTLEMF";
const VERSION: u32 = 1;
/// Magic, version, length of the body.
const HEADER_BYTES: usize = 8 + 4 + 4;
const CRC_BYTES: usize = 4;

/// What the manifest says about one generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GenerationMeta {
    pub(crate) number: u64,
    /// Bytes of the log that exist.
    pub(crate) log_end: u64,
    /// Where the records begin that no run covers yet.
    pub(crate) tail_from: u64,
    /// Number of the next run.
    pub(crate) next_run: u64,
    pub(crate) last_point: u64,
    pub(crate) runs: Vec<RunMeta>,
}

/// What exists in a directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) next_point: u64,
    pub(crate) next_generation: u64,
    /// Oldest first.
    pub(crate) generations: Vec<GenerationMeta>,
}

impl Decode for Manifest {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            next_point: number(r, "next point")?,
            next_generation: number(r, "next generation")?,
            generations: r.list("generations", GENERATIONS_MAX, 44, |r| {
                Ok(GenerationMeta {
                    number: number(r, "generation")?,
                    log_end: log_end(r)?,
                    tail_from: r.u64("tail")?,
                    next_run: number(r, "next run")?,
                    last_point: number(r, "last point")?,
                    runs: r.list("runs", RUNS_MAX, 20, |r| {
                        Ok(RunMeta { id: r.u64("run")?, len: r.u64("run length")?, crc: r.u32("run crc")? })
                    })?,
                })
            })?,
        })
    }
}

/// Highest number of a point, generation or run: far beyond what anybody reaches, and adding one cannot overflow.
const NUMBER_MAX: u64 = 1 << 62;

fn number(r: &mut Reader<'_>, field: &'static str) -> Result<u64, DecodeError> {
    let number = r.u64(field)?;
    if number <= NUMBER_MAX { Ok(number) } else { Err(r.error(field, DecodeErrorKind::Invalid("number"))) }
}

fn log_end(r: &mut Reader<'_>) -> Result<u64, DecodeError> {
    let end = number(r, "log end")?;
    let is_whole = end.is_multiple_of(BLOCK_BYTES as u64);
    if is_whole { Ok(end) } else { Err(r.error("log end", DecodeErrorKind::Invalid("block"))) }
}

impl Encode for Manifest {
    fn encode(&self, w: &mut Writer) {
        w.u64(self.next_point);
        w.u64(self.next_generation);
        w.list(&self.generations, |w, generation| {
            w.u64(generation.number);
            w.u64(generation.log_end);
            w.u64(generation.tail_from);
            w.u64(generation.next_run);
            w.u64(generation.last_point);
            w.list(&generation.runs, |w, run| {
                w.u64(run.id);
                w.u64(run.len);
                w.u32(run.crc);
            });
        });
    }
}

impl Manifest {
    /// Whether a log or a run of this name exists.
    pub(crate) fn names(&self, name: &str) -> bool {
        self.generations.iter().any(|generation| {
            name == log_name(generation.number)
                || generation.runs.iter().any(|run| name == run_name(generation.number, run.id))
        })
    }

    /// Reads the manifest. `None` if there is none.
    pub(crate) fn read(disk: &dyn Disk) -> Result<Option<Self>, Error> {
        let Some(bytes) = read_file(disk)? else { return Ok(None) };
        let [first, second] = copies(&bytes);
        first.or(second).map(Some)
    }

    /// Reads both copies and answers what is wrong with either.
    pub(crate) fn check(disk: &dyn Disk) -> Result<Vec<Corruption>, Error> {
        let Some(bytes) = read_file(disk)? else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for copy in copies(&bytes) {
            match copy {
                Ok(_) => {}
                Err(Error::Corrupt(corruption)) => found.push(corruption),
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// Makes this what exists, durably. On failure either the old or the new one does.
    pub(crate) fn publish(&self, disk: &dyn Disk) -> Result<(), Error> {
        let body = self.to_bytes(Features::empty());
        let mut w = Writer::new(Features::empty());
        w.raw(MAGIC);
        w.u32(VERSION);
        w.blob(&body);
        w.u32(crc32c(!0, w.as_slice()));
        let once = w.into_bytes();
        let failed = |action| move |source| Error::io(action, MANIFEST_FILE, source);
        let mut output = disk.create(MANIFEST_TEMPORARY).map_err(failed("create"))?;
        output.write_at(&[&once[..], &once[..]].concat(), 0).map_err(failed("write"))?;
        output.sync().map_err(failed("sync"))?;
        // The names of the files that it speaks of have to be durable before it is.
        disk.sync().map_err(failed("sync the directory of"))?;
        disk.rename(MANIFEST_TEMPORARY, MANIFEST_FILE).map_err(failed("rename"))?;
        disk.sync().map_err(failed("sync the directory of"))
    }
}

fn read_file(disk: &dyn Disk) -> Result<Option<Bytes>, Error> {
    let failed = |source| Error::io("read", MANIFEST_FILE, source);
    let input = match disk.open(MANIFEST_FILE) {
        Ok(input) => input,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let len = input.len().map_err(failed)?;
    if len > MANIFEST_BYTES_MAX {
        return Err(Corruption::new(MANIFEST_FILE, None, "the manifest is too large").into());
    }
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
    input.read_at(&mut bytes, 0).map_err(failed)?;
    Ok(Some(bytes.into()))
}

/// The two copies, each half of the file.
fn copies(bytes: &Bytes) -> [Result<Manifest, Error>; 2] {
    let half = bytes.len() / 2;
    [parse(&bytes.slice(..half), 0), parse(&bytes.slice(half..), half as u64)]
}

fn parse(copy: &Bytes, at: u64) -> Result<Manifest, Error> {
    let bad = |what| Err(Corruption::new(MANIFEST_FILE, at, what).into());
    if copy.len() < HEADER_BYTES + CRC_BYTES {
        return bad("the manifest is cut off");
    }
    let (body, crc) = copy.split_at(copy.len() - CRC_BYTES);
    if crc32c(!0, body).to_le_bytes() != *crc {
        return bad("the manifest does not match its checksum");
    }
    let mut r = Reader::new(copy);
    let decoded = (|| {
        let (magic, version) = (r.array::<8>("magic")?, r.u32("version")?);
        Ok::<_, DecodeError>((magic, version, r.blob("body", usize::MAX)?))
    })();
    let Ok((magic, version, body)) = decoded else { return bad("the manifest is malformed") };
    if magic != *MAGIC {
        return bad("no manifest known here");
    }
    if version > VERSION {
        return Err(Error::TooNew { file: MANIFEST_FILE.into(), version, known: VERSION });
    }
    Manifest::decode(&mut Reader::new(&body)).or_else(|_| bad("the manifest is malformed"))
}
