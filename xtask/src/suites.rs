//! The test suites by name.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::{run, setup};

/// A suite: what it shows, and which tests are in it.
struct Suite {
    name: &'static str,
    /// A nextest filter; `None` for what nextest does not run.
    filter: Option<&'static str>,
    /// Whether real peers have to be installed.
    peers: bool,
}

/// Every suite. Which test belongs where follows from the name of its binary: see docs/TESTING.md.
const SUITES: &[Suite] = &[
    Suite {
        name: "unit",
        filter: Some(
            "not (package(cuttlebone-interop) | package(cuttlebone-sim) | package(cuttlebone-fuzz) \
             | binary(/^(interop|stock_tools|golden|tables|model|properties|pulls|sim|kill|crash|liars)/))",
        ),
        peers: false,
    },
    Suite { name: "golden", filter: Some("binary(/^golden/)"), peers: false },
    Suite { name: "table", filter: Some("binary(/^tables/)"), peers: false },
    Suite {
        name: "model",
        filter: Some("binary(/^(model|properties|pulls)/) | test(/^name::model::/)"),
        peers: false,
    },
    Suite { name: "sim", filter: Some("package(cuttlebone-sim) | binary(/^sim/)"), peers: false },
    Suite { name: "crash", filter: Some("binary(/^(kill|crash|liars)/)"), peers: true },
    Suite { name: "fuzz", filter: Some("package(cuttlebone-fuzz)"), peers: false },
    Suite {
        name: "interop",
        filter: Some("package(cuttlebone-interop) | binary(/^(interop|stock_tools)/)"),
        peers: true,
    },
    Suite { name: "doc", filter: None, peers: false },
    Suite { name: "loom", filter: None, peers: false },
    Suite { name: SHUTTLE, filter: None, peers: false },
];

/// The suite that `all` leaves out: under its `cfg` every dependency is built once more, for two seconds of tests. It runs
/// once a night.
const SHUTTLE: &str = "shuttle";

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// unit, golden, table, model, sim, crash, fuzz, interop, doc, loom, shuttle, or all but the last
    #[arg(default_value = "all")]
    suite: String,
    /// Only this package
    #[arg(short, long)]
    package: Option<String>,
    /// Which profile of .config/nextest.toml says how long a test may take
    #[arg(long, default_value = DEFAULT_PROFILE)]
    profile: String,
    /// Variables that make the suite larger than usual.
    #[arg(skip)]
    sizes: &'static [(&'static str, &'static str)],
}

/// The profile in which a test that takes long is one that hangs.
const DEFAULT_PROFILE: &str = "default";

impl Arguments {
    /// The suite called `suite`, of all packages.
    pub(crate) fn of(suite: &str) -> Self {
        Self { suite: suite.into(), package: None, profile: DEFAULT_PROFILE.into(), sizes: &[] }
    }

    /// The suite called `suite` in sizes that take their time.
    pub(crate) fn long(
        suite: &str,
        package: Option<&str>,
        sizes: &'static [(&'static str, &'static str)],
    ) -> Self {
        Self { suite: suite.into(), package: package.map(String::from), profile: "nightly".into(), sizes }
    }
}

/// How many tests passed and failed.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    passed: u64,
    failed: u64,
}

/// Runs one suite, or all of them.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let all = arguments.suite == "all";
    let is_chosen = |suite: &&Suite| suite.name == arguments.suite || all && suite.name != SHUTTLE;
    let chosen: Vec<_> = SUITES.iter().filter(is_chosen).collect();
    if chosen.is_empty() {
        let names: Vec<_> = SUITES.iter().map(|suite| suite.name).collect();
        bail!("there is no suite {}; there are: {} all", arguments.suite, names.join(" "));
    }
    setup::nextest()?;
    let mut advice = None;
    if chosen.iter().any(|suite| suite.peers) {
        advice = setup::peers().err();
    }
    if let Some(advice) = &advice {
        eprintln!("{advice}");
    }
    let filter = if all { Some("all()") } else { chosen.iter().find_map(|suite| suite.filter) };
    let mut tally = Tally::default();
    if let Some(filter) = filter {
        nextest(filter, arguments, &mut tally)?;
    }
    if chosen.iter().any(|suite| suite.name == "doc") {
        doc_tests(arguments, &mut tally)?;
    }
    for explored in &EXPLORED {
        if chosen.iter().any(|suite| suite.name == explored.suite)
            && arguments.package.as_ref().is_none_or(|package| package == explored.package)
        {
            explored.run(arguments, &mut tally)?;
        }
    }
    if let Some(advice) = advice {
        eprintln!("\nSome of these failures come from programs that are not installed.\n{advice}");
    }
    println!("{} passed, {} failed", tally.passed, tally.failed);
    ensure!(tally.failed == 0 && tally.passed > 0, "suite {} failed", arguments.suite);
    Ok(())
}

fn nextest(filter: &str, arguments: &Arguments, tally: &mut Tally) -> Result<()> {
    let report = run::root().join(format!("target/nextest/{}/junit.xml", arguments.profile));
    if report.exists() {
        fs::remove_file(&report)?;
    }
    let mut command = run::cargo(["nextest", "run", "--no-fail-fast", "--all-features", "-E", filter]);
    command.args(["--profile", &arguments.profile]).envs(arguments.sizes.iter().copied());
    match &arguments.package {
        Some(package) => command.args(["--package", package]),
        None => command.arg("--workspace"),
    };
    let outcome = run::step(&mut command);
    // A run that could not build leaves no report: then its own failure is the whole story.
    let Ok(report) = fs::read_to_string(&report) else {
        return outcome.context("no test ran");
    };
    let head = report.split_once("<testsuites").map_or("", |(_, rest)| rest);
    let run = attribute(head, "tests")?;
    let failed = attribute(head, "failures")? + attribute(head, "errors")?;
    tally.passed += run.saturating_sub(failed);
    tally.failed += failed;
    Ok(())
}

/// The number in the first attribute called `name`.
fn attribute(text: &str, name: &str) -> Result<u64> {
    let start = format!(" {name}=\"");
    let value = text.split_once(&start).and_then(|(_, rest)| rest.split_once('"')).map(|(value, _)| value);
    value.and_then(|value| value.parse().ok()).with_context(|| format!("the test report has no {name}"))
}

fn doc_tests(arguments: &Arguments, tally: &mut Tally) -> Result<()> {
    let mut command = run::cargo(["test", "--doc", "--quiet", "--no-fail-fast", "--all-features"]);
    match &arguments.package {
        Some(package) => command.args(["--package", package]),
        None => command.arg("--workspace"),
    };
    libtest(command, tally)
}

/// A package whose shipped locks run under a scheduler that chooses their interleavings; the suite, the test and the `cfg`
/// have one name.
struct Explored {
    suite: &'static str,
    package: &'static str,
}

const EXPLORED: [Explored; 2] = [
    Explored { suite: "loom", package: "cuttlebone-tokens" },
    Explored { suite: SHUTTLE, package: "cuttlebone-bucket" },
];

impl Explored {
    /// In a target directory of its own, since the `cfg` changes every dependency.
    fn run(&self, arguments: &Arguments, tally: &mut Tally) -> Result<()> {
        let mut command = run::cargo(["test", "--package", self.package, "--test", self.suite]);
        command.args(["--target-dir", &format!("target/{}", self.suite)]);
        command.env("RUSTFLAGS", format!("--cfg {}", self.suite)).envs(arguments.sizes.iter().copied());
        libtest(command, tally)
    }
}

/// Runs what prints `test result: …` and counts.
fn libtest(mut command: Command, tally: &mut Tally) -> Result<()> {
    eprintln!("$ {}", run::shown(&command));
    let output = command.output().context("cannot start the tests")?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        eprintln!("{text}{}", String::from_utf8_lossy(&output.stderr));
    }
    let before = *tally;
    for line in text.lines().filter(|line| line.starts_with("test result: ")) {
        tally.passed += number_before(line, " passed")?;
        tally.failed += number_before(line, " failed;")?;
    }
    if !output.status.success() && tally.failed == before.failed {
        tally.failed += 1;
    }
    Ok(())
}

/// The number that stands in front of `word`.
fn number_before(line: &str, word: &str) -> Result<u64> {
    let before = line.split_once(word).map(|(before, _)| before);
    let number = before.and_then(|before| before.rsplit(' ').next()).and_then(|number| number.parse().ok());
    number.with_context(|| format!("no number before {word:?} in {line:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_come_out_of_both_reports() {
        let junit = r#"<testsuites name="nextest-run" tests="27" failures="2" errors="1" uuid="x">"#;
        assert_eq!((attribute(junit, "tests").unwrap(), attribute(junit, "errors").unwrap()), (27, 1));
        let line = "test result: ok. 14 passed; 3 failed; 0 ignored; 0 measured";
        assert_eq!(number_before(line, " passed").unwrap(), 14);
        assert_eq!(number_before(line, " failed;").unwrap(), 3);
        assert!(attribute("", "tests").is_err());
    }
}
