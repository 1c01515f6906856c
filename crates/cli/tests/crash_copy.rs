//! What can happen to a copy on its disk: no room, damage, a second writer, another cluster, other users.

mod provider;

use core::time::Duration;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use cuttlebone_monsync::v2::Op;
use cuttlebone_testkit::{Ended, Program, Running};
use cuttlebone_wire::{Decode, Reader, Transaction, Uuid};
use provider::{Act, FSID, Provider, transaction};
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_cuttlebone");
/// How long anything here may take on a busy machine.
const STEP_MAX: Duration = Duration::from_secs(60);

fn program() -> Program {
    Program::new(PROGRAM)
}

/// A copy with two points, which an honest provider made.
struct Copy {
    provider: Provider,
    scratch: TempDir,
}

impl Copy {
    fn make() -> Result<Self> {
        let copy = Self { provider: Provider::start(3)?, scratch: tempfile::tempdir()? };
        copy.backup()?;
        copy.provider.tell_the_truth(6);
        copy.backup()?;
        Ok(copy)
    }

    fn dir(&self) -> PathBuf {
        self.scratch.path().join("copy")
    }

    fn store(&self) -> String {
        self.dir().display().to_string()
    }

    fn backup(&self) -> Result<Ended> {
        program().ok(["mon", "backup", "--mon", &self.provider.addr(), "--store", &self.store()])
    }

    fn verify(&self) -> Result<Ended> {
        program().run(["store", "verify", "--store", &self.store()])
    }

    /// Every file that belongs to the copy.
    fn files(&self) -> Result<Vec<PathBuf>> {
        let entries = fs::read_dir(self.dir())?.map(|entry| Ok(entry?.path()));
        let mut files = entries.collect::<Result<Vec<_>>>()?;
        files.sort();
        Ok(files)
    }

    /// The first file with this extension, or the one of this name.
    fn file(&self, named: &str) -> Result<PathBuf> {
        let files = self.files()?;
        let found =
            files.iter().find(|file| file.extension().or(file.file_name()).is_some_and(|it| it == named));
        found.cloned().with_context(|| format!("no {named} among {files:?}"))
    }

    /// Verification fails and names this file, and what was damaged on purpose is put back.
    fn is_found(&self, file: &Path, damage: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
        let sound = fs::read(file)?;
        let mut bytes = sound.clone();
        damage(&mut bytes);
        ensure!(bytes != sound, "nothing was damaged");
        fs::write(file, bytes)?;
        let ended = self.verify()?;
        fs::write(file, sound)?;
        self.names(&ended, file)
    }

    fn names(&self, ended: &Ended, file: &Path) -> Result<()> {
        let name = file.file_name().and_then(|name| name.to_str()).context("no name")?;
        ensure!(ended.code == Some(7), "{name}: {ended:?}");
        ensure!(format!("{}{}", ended.stdout, ended.stderr).contains(name), "{name}: {ended:?}");
        let again = self.verify()?;
        ensure!(again.code != Some(0) || again.stdout.contains("sound: 2 points"), "{again:?}");
        Ok(())
    }
}

/// Where `needle` begins.
fn find(bytes: &[u8], needle: &[u8]) -> Result<usize> {
    bytes.windows(needle.len()).position(|window| window == needle).context("it is not there")
}

#[test]
fn one_flipped_bit_is_found_wherever_it_is() -> Result<()> {
    let copy = Copy::make()?;
    let sound = copy.verify()?;
    ensure!(sound.code == Some(0) && sound.stdout.contains("sound: 2 points"), "{sound:?}");
    let log = copy.file("log")?;
    let value = find(&fs::read(&log)?, &[100; 2_000])?;
    copy.is_found(&log, |bytes| bytes[value + 1_000] ^= 4)?;
    // The header of the file, and that of the record behind it.
    copy.is_found(&log, |bytes| bytes[0] ^= 1)?;
    copy.is_found(&log, |bytes| bytes[40] ^= 0x80)?;
    let run = copy.file("run")?;
    for part in 1..4 {
        copy.is_found(&run, |bytes| {
            let at = bytes.len() * part / 4;
            bytes[at] ^= 0x10;
        })?;
    }
    let manifest = copy.file("manifest")?;
    copy.is_found(&manifest, |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    })
}

#[test]
fn a_truncated_and_a_missing_file_are_found() -> Result<()> {
    let copy = Copy::make()?;
    for named in ["log", "run", "manifest"] {
        let file = copy.file(named)?;
        copy.is_found(&file, |bytes| bytes.truncate(bytes.len() - 1))?;
        copy.is_found(&file, |bytes| bytes.truncate(bytes.len() / 2))?;
        copy.is_found(&file, Vec::clear)?;
        if named != "manifest" {
            let sound = fs::read(&file)?;
            fs::remove_file(&file)?;
            copy.names(&copy.verify()?, &file)?;
            fs::write(&file, sound)?;
        }
    }
    fs::remove_file(copy.file("manifest")?)?;
    let ended = copy.verify()?;
    ensure!(matches!(ended.code, Some(4 | 7)), "{ended:?}");
    // Nobody starts anew over what is left.
    let ended = program().run(["mon", "backup", "--mon", &copy.provider.addr(), "--store", &copy.store()])?;
    ensure!(ended.code == Some(7) && ended.stderr.contains("manifest"), "{ended:?}");
    Ok(())
}

#[test]
fn a_version_that_the_provider_never_sent_is_found() -> Result<()> {
    let copy = Copy { provider: Provider::start(6)?, scratch: tempfile::tempdir()? };
    copy.provider.lie(|_, truth| {
        let Some(mut message) = truth else { return Vec::new() };
        if matches!(message.op, Op::Chunk | Op::LastChunk)
            && let Ok(mut decoded) = Transaction::decode(&mut Reader::new(&message.chunk))
        {
            decoded.ops.retain(|op| (&op.prefix[..], &op.key[..]) != (b"osdmap", b"4"));
            message.chunk = transaction(decoded.ops);
        }
        vec![Act::Say(message)]
    });
    copy.backup()?;
    let ended = copy.verify()?;
    ensure!(ended.code == Some(7), "{ended:?}");
    ensure!(ended.stdout.contains("at point 1: osdmap has 1 versions missing ([4])"), "{ended:?}");
    Ok(())
}

#[test]
fn a_second_writer_is_told_who_the_first_is_and_harms_nothing() -> Result<()> {
    let copy = Copy::make()?;
    let backup =
        ["mon", "backup", "--mon", &copy.provider.addr(), "--store", &copy.store()].map(String::from);
    let mut first = program().spawn(backup.iter().map(String::as_str).chain(["--follow"]))?;
    first.wait_for("point 2", STEP_MAX)?;
    let second = program().run(&backup)?;
    ensure!(second.code == Some(1), "{second:?}");
    ensure!(second.stderr.contains(&format!("process {}", first.pid())), "{}: {second:?}", first.pid());
    // The first goes on.
    copy.provider.tell_the_truth(7);
    first.kill()?;
    // A dead one is in nobody's way.
    copy.backup()?;
    let ended = copy.verify()?;
    ensure!(ended.code == Some(0) && ended.stdout.contains("3 points"), "{ended:?}");
    Ok(())
}

#[test]
fn a_monitor_of_another_cluster_is_refused_by_name() -> Result<()> {
    let copy = Copy::make()?;
    let (ours, theirs) = (FSID, Uuid([9; 16]));
    copy.provider.join_cluster(theirs);
    for extent in [&[][..], &["--full"]] {
        let addr = copy.provider.addr();
        let store = copy.store();
        let ended =
            program().run([&["mon", "backup", "--mon", &addr, "--store", &store], extent].concat())?;
        ensure!(ended.code == Some(2), "{ended:?}");
        for fsid in [ours, theirs] {
            ensure!(ended.stderr.contains(&fsid.to_string()), "{ended:?}");
        }
    }
    ensure!(copy.verify()?.stdout.contains("sound: 2 points"), "the copy has changed");
    Ok(())
}

fn modes(path: &Path) -> Result<Vec<(PathBuf, u32)>> {
    let metadata = fs::symlink_metadata(path)?;
    let mut all = vec![(path.to_owned(), metadata.permissions().mode() & 0o7777)];
    if metadata.is_dir() {
        for entry in fs::read_dir(path)? {
            all.extend(modes(&entry?.path())?);
        }
    }
    Ok(all)
}

#[test]
fn nobody_else_can_read_a_copy_or_what_is_exported_from_it() -> Result<()> {
    let provider = Provider::start(3)?;
    let scratch = tempfile::tempdir()?;
    let dir = scratch.path().join("backups/mon");
    let (store, out) = (dir.display().to_string(), scratch.path().join("trace").display().to_string());
    let openly = |arguments: &[&str]| {
        let script = "umask 000 && exec \"$0\" \"$@\"";
        Program::new("/bin/sh").ok([&["-c", script, PROGRAM], arguments].concat())
    };
    // An open file and an open directory that were there before are closed.
    fs::create_dir_all(&dir)?;
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o777))?;
    fs::write(&out, "")?;
    fs::set_permissions(&out, fs::Permissions::from_mode(0o666))?;
    for version in 3..6 {
        provider.tell_the_truth(version);
        openly(&["mon", "backup", "--mon", &provider.addr(), "--store", &store])?;
    }
    openly(&["mon", "backup", "--full", "--mon", &provider.addr(), "--store", &store])?;
    openly(&["store", "export", "--store", &store, "--out", &out])?;
    let all = [modes(&dir)?, modes(Path::new(&out))?].concat();
    ensure!(all.len() > 6, "{all:?}");
    for (path, mode) in &all {
        let expected = if path.is_dir() { 0o700 } else { 0o600 };
        ensure!(*mode == expected, "{}: {mode:o}", path.display());
    }
    // And one that it makes itself.
    let dir = scratch.path().join("new/mon");
    openly(&["mon", "backup", "--mon", &provider.addr(), "--store", &dir.display().to_string()])?;
    let parent = dir.parent().context("no parent")?;
    let open: Vec<_> = modes(parent)?.into_iter().filter(|(_, mode)| mode & 0o077 != 0).collect();
    ensure!(open.is_empty(), "{open:?}");
    Ok(())
}

/// A file system of a few bytes that only programs run in here can see.
struct SmallDisk {
    dir: PathBuf,
    holder: Running,
}

impl SmallDisk {
    fn mount(dir: PathBuf, size: &str) -> Result<Self> {
        fs::create_dir_all(&dir)?;
        let script = "mount -t tmpfs -o size=$1,mode=700 none \"$0\" && echo mounted && \
                      exec setpriv --pdeathsig KILL sleep infinity";
        let path = dir.display().to_string();
        let private = ["--user", "--map-root-user", "--mount", "--propagation", "private"];
        let arguments = [&private[..], &["sh", "-c", script, &path, size]].concat();
        let mut holder = Program::new("unshare").spawn(arguments)?;
        holder.wait_for("mounted", STEP_MAX).context("this test makes a file system in a user namespace")?;
        Ok(Self { dir, holder })
    }

    fn run(&self, arguments: &[&str]) -> Result<Ended> {
        let pid = self.holder.pid().to_string();
        let inside = ["--target", &pid, "--user", "--preserve-credentials", "--mount"];
        Program::new("nsenter").run([&inside[..], arguments].concat())
    }

    fn program(&self, arguments: &[&str]) -> Result<Ended> {
        self.run(&[&[PROGRAM], arguments].concat())
    }

    fn resize(&self, size: &str) -> Result<()> {
        let dir = self.dir.display().to_string();
        let ended = self.run(&["mount", "-o", &format!("remount,size={size}"), &dir])?;
        ensure!(ended.code == Some(0), "{ended:?}");
        Ok(())
    }
}

#[test]
fn a_full_disk_is_named_and_costs_no_point_and_room_mends_it() -> Result<()> {
    let provider = Provider::start(3)?;
    let scratch = tempfile::tempdir()?;
    let disk = SmallDisk::mount(scratch.path().join("disk"), "1400k")?;
    let store = disk.dir.join("copy").display().to_string();
    let addr = provider.addr();
    let backup = |flags: &[&str]| {
        disk.program(&[&["mon", "backup", "--mon", &addr, "--store", &store], flags].concat())
    };
    let list = || -> Result<String> {
        let ended = disk.program(&["store", "list-crc", "--store", &store, "--point", "1"])?;
        ensure!(ended.code == Some(0), "{ended:?}");
        Ok(ended.stdout)
    };
    let first = backup(&[])?;
    ensure!(first.code == Some(0), "{first:?}");
    let before = list()?;
    ensure!(before.lines().count() > 400, "{before}");
    // Neither a second full copy has room, nor what is new.
    provider.tell_the_truth(600);
    for flags in [&["--full"][..], &[]] {
        let ended = backup(flags)?;
        ensure!(ended.code == Some(1), "{flags:?}: {ended:?}");
        ensure!(ended.stderr.contains("no space left to "), "{flags:?}: {ended:?}");
        ensure!(list()? == before, "{flags:?}: the point has changed");
        let verified = disk.program(&["store", "verify", "--store", &store])?;
        ensure!(verified.stdout.contains("sound: 1 points"), "{flags:?}: {verified:?}");
    }
    // An export that does not fit leaves nothing behind.
    let out = disk.dir.join("trace").display().to_string();
    let ended = disk.program(&["store", "export", "--store", &store, "--out", &out])?;
    ensure!(ended.code == Some(1) && ended.stderr.contains("no space left to "), "{ended:?}");
    let names = disk.run(&["ls", "-A", &disk.dir.display().to_string()])?.stdout;
    ensure!(names.trim() == "copy", "{names}");
    disk.resize("32m")?;
    let ended = backup(&["--json"])?;
    ensure!(ended.code == Some(0) && ended.stdout.contains("\"version\":600"), "{ended:?}");
    ensure!(list()? == before, "the first point has changed");
    let verified = disk.program(&["store", "verify", "--store", &store])?;
    ensure!(verified.stdout.contains("sound: 2 points"), "{verified:?}");
    Ok(())
}
