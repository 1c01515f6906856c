//! The archive that people download: a static binary, its manual, completions, units for systemd, licences.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::run;

mod checks;
mod init;
mod licences;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Directory for the archive and the folder it is made of
    #[arg(long, value_name = "DIR", default_value = "target/archive")]
    out: PathBuf,
    /// What to build for; without it musl of this machine's architecture, or glibc where musl cannot be installed
    #[arg(long, value_name = "TRIPLE")]
    target: Option<String>,
    /// Run the node's unit under a systemd of its own as well, where namespaces and control groups are to be had
    #[arg(long)]
    try_unit: bool,
}

impl Arguments {
    /// The default archive in the default place.
    pub(crate) fn usual() -> Self {
        Self { out: "target/archive".into(), target: None, try_unit: false }
    }
}

/// Builds, checks and packs.
pub(crate) fn build(arguments: &Arguments) -> Result<()> {
    let target = arguments.target.clone().map_or_else(target, Ok)?;
    let epoch = epoch()?;
    let binary = compile(&target, &epoch)?;
    checks::is_static(&binary)?;
    checks::runs_in_an_empty_root(&binary)?;
    let name = format!("cuttlebone-{}-{target}", env!("CARGO_PKG_VERSION"));
    let out = run::root().join(&arguments.out);
    let folder = out.join(&name);
    fill(&folder, &binary, &target)?;
    checks::units(&folder)?;
    if arguments.try_unit {
        init::node_unit_works(&folder)?;
    }
    let archive = pack(&out, &name, &epoch)?;
    let bytes = |path: &Path| Ok::<_, anyhow::Error>(fs::metadata(path)?.len());
    println!(
        "{}: {} bytes, in it a binary of {} bytes",
        archive.display(),
        bytes(&archive)?,
        bytes(&binary)?
    );
    Ok(())
}

/// The target to build for: musl, which links statically without leaving anything to be looked up at run time. Where
/// its standard library can neither be found nor installed, glibc, linked statically: that binary finds host names
/// only where the same release of glibc is installed, so the archive's name says what it is.
fn target() -> Result<String> {
    let arch = std::env::consts::ARCH;
    let musl = format!("{arch}-unknown-linux-musl");
    let install = || run::step(&mut run::command("rustup", ["target", "add", &musl]));
    if has_std(&musl)? || install().is_ok() {
        return Ok(musl);
    }
    eprintln!("no standard library for {musl}: glibc is linked instead; see docs/installing.md");
    Ok(format!("{arch}-unknown-linux-gnu"))
}

/// Whether the compiler in use has a standard library for `target`.
fn has_std(target: &str) -> Result<bool> {
    let printed = run::output(&mut run::command("rustc", ["--print", "target-libdir", "--target", target]))?;
    Ok(Path::new(printed.trim()).is_dir())
}

/// The time that everything in the archive carries, in seconds since 1970: `SOURCE_DATE_EPOCH`, else that of the last
/// commit.
fn epoch() -> Result<String> {
    if let Ok(epoch) = std::env::var("SOURCE_DATE_EPOCH") {
        return Ok(epoch);
    }
    let printed = run::output(&mut run::command("git", ["log", "-1", "--format=%ct"]))?;
    Ok(printed.trim().into())
}

/// Compiles the command. No path of this machine gets into it, so that the same source gives the same bytes elsewhere.
fn compile(target: &str, epoch: &str) -> Result<PathBuf> {
    let root = run::root();
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(std::env::home_dir()?.join(".cargo"))).context("no home of cargo")?;
    let flags = [
        "-Ctarget-feature=+crt-static".into(),
        format!("--remap-path-prefix={}=.", root.display()),
        format!("--remap-path-prefix={}=cargo", home.display()),
    ];
    let arguments =
        ["build", "--locked", "--profile", "dist", "--package", "cuttlebone-cli", "--target", target];
    let mut command = run::cargo(arguments);
    command.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f")).env("SOURCE_DATE_EPOCH", epoch);
    run::step(&mut command)?;
    let built = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    Ok(built.join(target).join("dist/cuttlebone"))
}

/// Puts everything where it belongs under a prefix, so that the archive can be unpacked into `/usr/local`.
fn fill(folder: &Path, binary: &Path, target: &str) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    let place = |path: &str| -> Result<PathBuf> {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().context("a folder")?)?;
        Ok(path)
    };
    fs::copy(binary, place("bin/cuttlebone")?)?;
    run::step(Command::new(binary).args(["man", "--out"]).arg(folder.join("share/man/man1")))?;
    for (shell, path) in COMPLETIONS {
        let script = run::output(Command::new(binary).args(["completions", shell]))?;
        fs::write(place(path)?, script)?;
    }
    for unit in checks::unit_files()? {
        let name = unit.file_name().context("a unit has a name")?.to_string_lossy().into_owned();
        fs::copy(&unit, place(&format!("lib/systemd/system/{name}"))?)?;
    }
    for page in ["CHANGELOG.md", "LICENSE-APACHE", "LICENSE-MIT", "README.md", "SECURITY.md"] {
        fs::copy(run::root().join(page), place(&format!("share/doc/cuttlebone/{page}"))?)?;
    }
    fs::write(place("share/doc/cuttlebone/LICENSES-OF-DEPENDENCIES")?, licences::of_dependencies(target)?)?;
    Ok(())
}

/// Where each shell looks for scripts of packages.
const COMPLETIONS: &[(&str, &str)] = &[
    ("bash", "share/bash-completion/completions/cuttlebone"),
    ("fish", "share/fish/vendor_completions.d/cuttlebone.fish"),
    ("zsh", "share/zsh/site-functions/_cuttlebone"),
];

/// Packs the folder, with the sums of its files in it and that of the archive beside it. Order, owners, times and modes
/// are fixed.
fn pack(out: &Path, name: &str, epoch: &str) -> Result<PathBuf> {
    let archive = format!("{name}.tar.gz");
    let script = format!(
        "set -eu
        (cd {name} && find . -type f ! -name SHA256SUMS | LC_ALL=C sort | xargs sha256sum > SHA256SUMS)
        tar --create --sort=name --mtime=@{epoch} --owner=0 --group=0 --numeric-owner \
            --mode=u=rwX,go=rX --format=ustar {name} | gzip -9n > {archive}
        sha256sum {archive} > {archive}.sha256"
    );
    ensure!(epoch.bytes().all(|byte| byte.is_ascii_digit()), "SOURCE_DATE_EPOCH={epoch} is no number");
    run::step(Command::new("sh").args(["-c", &script]).current_dir(out))?;
    Ok(out.join(archive))
}
