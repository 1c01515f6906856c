//! Which crate may see which: an arrow points to a lower tier only, and siblings never meet.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::run;

/// The tier of every crate; see docs/ARCHITECTURE.md. A crate that is missing here does not pass.
const TIERS: &[(&str, u8)] = &[
    ("machine", 0),
    ("wire", 0),
    ("auth", 1),
    ("checkpoint", 1),
    ("memcache", 1),
    ("mon", 1),
    ("monsync", 1),
    ("mounttable", 1),
    ("mds", 1),
    ("msgr", 1),
    ("store", 1),
    ("tokens", 1),
    ("bucket", 2),
    ("driver", 3),
    ("link", 2),
    ("mounttable-etcd", 2),
    ("publisher", 2),
    ("sim", 2),
    ("tokens-etcd", 2),
    ("http", 3),
    ("replica", 3),
    ("fs", 4),
    ("node", 5),
    ("cli", 6),
    ("fuzz", 7),
    ("interop", 7),
    ("testkit", 7),
];

/// Packages whose use tells something about a crate, and who may use them outside tests.
const RESTRICTED: &[(&str, &[&str])] = &[
    ("anyhow", &["cli", "fuzz", "interop", "testkit"]),
    ("bincode", &["bucket", "checkpoint", "mounttable", "node", "replica", "store", "tokens"]),
    ("tokio", &["cli", "driver", "fs", "http", "interop", "mounttable-etcd", "node", "testkit"]),
];

/// Siblings that meet in tests: a backend is tested under the publisher that it is made for.
const TEST_PAIRS: &[(&str, &str)] = &[("mounttable-etcd", "publisher")];

/// Tiers at and below this one are `#![no_std]`, except where a crate needs a disk or threads.
const NO_STD_TIER_MAX: u8 = 1;
/// The exceptions.
const STD: &[&str] = &["store", "tokens"];

/// Reads cargo's metadata and checks every arrow, and that the default build needs no compiler of C.
pub(crate) fn check() -> Result<()> {
    let metadata = run::output(&mut run::cargo(["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata: Value = serde_json::from_str(&metadata)?;
    let packages = metadata.get("packages").and_then(Value::as_array).context("metadata without packages")?;
    let mut faults = Vec::new();
    for package in packages {
        if let Some(name) = text(package, "name").strip_prefix("cuttlebone-") {
            check_package(name, package, &mut faults)?;
        }
    }
    faults.extend(builders_of_c()?);
    if faults.is_empty() {
        return Ok(());
    }
    bail!("layers:\n  {}", faults.join("\n  "))
}

/// Packages that compile or look for C, of which the default build has none.
const C_BUILDERS: &[&str] = &["autotools", "bindgen", "cc", "cmake", "pkg-config", "vcpkg"];

/// Looks through everything that the default members need on this platform, to run and to be built.
fn builders_of_c() -> Result<Vec<String>> {
    let tree = ["tree", "--edges", "normal,build", "--prefix", "none", "--format", "{p}"];
    let tree = run::output(&mut run::cargo(tree))?;
    ensure!(tree.starts_with("cuttlebone-cli "), "cargo tree: {tree}");
    let needed = |name: &&&str| tree.lines().any(|line| line.split(' ').next() == Some(**name));
    let found = C_BUILDERS.iter().filter(needed);
    Ok(found.map(|name| format!("the default build needs {name}: see cargo tree -i {name}")).collect())
}

fn check_package(name: &str, package: &Value, faults: &mut Vec<String>) -> Result<()> {
    let Some(tier) = tier(name) else {
        faults.push(format!(
            "crate {name} has no tier; give it one in xtask/src/layers.rs and docs/ARCHITECTURE.md"
        ));
        return Ok(());
    };
    let manifest = text(package, "manifest_path");
    ensure!(
        manifest.ends_with(&format!("crates/{name}/Cargo.toml")),
        "cuttlebone-{name} is in {manifest}, not in crates/{name}"
    );
    for dependency in package.get("dependencies").and_then(Value::as_array).into_iter().flatten() {
        let target = text(dependency, "name");
        let in_tests = dependency.get("kind").and_then(Value::as_str) == Some("dev");
        if let Some(target) = target.strip_prefix("cuttlebone-") {
            let below = tier_of(target)? < tier;
            let test_support = in_tests && (target == "testkit" || TEST_PAIRS.contains(&(name, target)));
            if !below && !test_support {
                faults.push(format!("{name} (tier {tier}) depends on {target}, which is not below it"));
            }
        }
        let rule = RESTRICTED.iter().find(|(package, _)| *package == target);
        if let Some((package, allowed)) = rule
            && !in_tests
            && !allowed.contains(&name)
        {
            faults.push(format!("{name} depends on {package}, which only {} may", allowed.join(", ")));
        }
    }
    let no_std = tier <= NO_STD_TIER_MAX && !STD.contains(&name) || name == "link";
    let lib =
        std::fs::read_to_string(run::root().join(format!("crates/{name}/src/lib.rs"))).unwrap_or_default();
    if no_std && !lib.contains("#![no_std]") {
        faults.push(format!("{name} is a protocol core and has to say #![no_std]"));
    }
    Ok(())
}

fn tier(name: &str) -> Option<u8> {
    TIERS.iter().find(|(known, _)| *known == name).map(|(_, tier)| *tier)
}

fn tier_of(name: &str) -> Result<u8> {
    tier(name).with_context(|| format!("crate {name} has no tier"))
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}
