//! What has to hold before anything is packed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::run;

/// The binary asks for no interpreter and for no library.
pub(super) fn is_static(binary: &Path) -> Result<()> {
    let read = |what: &str| run::output(Command::new("readelf").args(["--wide", what]).arg(binary));
    let (segments, dynamic) = (read("--segments")?, read("--dynamic")?);
    ensure!(segments.contains("LOAD"), "{}: readelf tells nothing", binary.display());
    ensure!(!segments.contains("INTERP"), "{} asks for an interpreter:\n{segments}", binary.display());
    ensure!(!dynamic.contains("(NEEDED)"), "{} asks for libraries:\n{dynamic}", binary.display());
    Ok(())
}

/// A directory that goes with its value.
struct Root(PathBuf);

impl Drop for Root {
    fn drop(&mut self) {
        // What is left of it is in the directory for temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The binary runs where there is nothing else: its version in a root directory that is empty, its demonstration in one
/// that has a place for temporary files and something called `/dev/null` besides.
pub(super) fn runs_in_an_empty_root(binary: &Path) -> Result<()> {
    if !run::answers("chroot", &["/", "true"]) {
        eprintln!("not tried in an empty root directory: we may not change ours");
        return Ok(());
    }
    let made =
        run::output(&mut run::command("mktemp", ["--directory", "--tmpdir", "cuttlebone-root.XXXXXX"]))?;
    let root = Root(PathBuf::from(made.trim()));
    fs::copy(binary, root.0.join("cuttlebone"))?;
    let version = inside(&root.0, &["--version"])?;
    ensure!(
        version == concat!("cuttlebone ", env!("CARGO_PKG_VERSION"), "\n"),
        "in an empty root: {version}"
    );
    fs::create_dir(root.0.join("tmp"))?;
    fs::set_permissions(root.0.join("tmp"), fs::Permissions::from_mode(0o1777))?;
    fs::create_dir(root.0.join("dev"))?;
    // A file will do where devices cannot be made: nothing is read from it.
    fs::write(root.0.join("dev/null"), "")?;
    let demo = inside(&root.0, &["demo"])?;
    ensure!(demo.contains("verdict: the replica equals the origin"), "in an empty root: {demo}");
    eprintln!("in an empty root directory: {}{}", version, demo.lines().last().unwrap_or_default());
    Ok(())
}

fn inside(root: &Path, arguments: &[&str]) -> Result<String> {
    run::output(
        Command::new("chroot").arg(root).arg("/cuttlebone").args(arguments).env_clear().env("PATH", PATH),
    )
}

/// Where `chroot` itself is, and `nsenter`.
pub(super) const PATH: &str = "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The units for systemd that we have.
pub(super) fn unit_files() -> Result<Vec<PathBuf>> {
    let folder = run::root().join("dist/systemd");
    let entries = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
    let mut units: Vec<_> = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    units.sort_unstable();
    ensure!(!units.is_empty(), "{} is empty", folder.display());
    Ok(units)
}

/// The most that `systemd-analyze security` may find exposed, in tenths: 10 is nothing, 100 everything.
const EXPOSURE_MAX: &str = "15";

/// systemd understands every unit that was put under `folder`, finds the commands in it, and calls each service safe.
pub(super) fn units(folder: &Path) -> Result<()> {
    if !run::answers("systemd-analyze", &["--version"]) {
        eprintln!("units not checked: there is no systemd-analyze");
        return Ok(());
    }
    // In a copy whose commands are those of the archive, since nothing is installed here.
    let copy = folder.with_extension("units");
    fs::create_dir_all(&copy)?;
    let copy = Root(copy);
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no"]);
    for unit in unit_files()? {
        let text = fs::read_to_string(&unit)?;
        let binary = folder.join("bin/cuttlebone");
        let text = text.replace("=cuttlebone ", &format!("={} ", binary.display()));
        let path = copy.0.join(unit.file_name().context("a unit has a name")?);
        fs::write(&path, text)?;
        if path.extension().is_some_and(|extension| extension == "service") {
            let mut security = Command::new("systemd-analyze");
            security
                .args(["security", "--offline=yes", "--no-pager", "--threshold", EXPOSURE_MAX])
                .arg(&path);
            run::output(&mut security)?;
        }
        verify.arg(&path);
    }
    let output = verify.output().context("cannot start systemd-analyze")?;
    let said = String::from_utf8_lossy(&output.stderr);
    // It ends well even when it finds a word that it does not know, so what it says of our units counts.
    let ours: Vec<_> = said.lines().filter(|line| line.contains("cuttlebone")).collect();
    if !ours.is_empty() || !output.status.success() {
        bail!("systemd-analyze verify:\n{said}");
    }
    Ok(())
}
