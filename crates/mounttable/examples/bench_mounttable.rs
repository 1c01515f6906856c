//! What a large table costs: `cargo xtask bench mounttable --json`.
//!
//! One JSON object: memory for each of a million mounts beside its strings, resolves and refreshes a second on one
//! core, and how long the first results of a glob over all of them take.

use core::time::Duration;

use cuttlebone_machine::{Entropy, Instant, SplitMix};
use cuttlebone_mounttable::{Glob, Limits, Mount, Name, Pattern, Principal, Server, Table, Ttl};

/// Mounts in the table: 1,000 folders of 1,000 names.
const NAMES: usize = 1_000_000;
/// Operations of each measurement.
const TIMES: usize = 500_000;
/// Measurements; the best one counts, since other work disturbs in one direction only.
const ROUNDS: usize = 5;

/// Memory of this process in bytes, as the kernel counts it.
fn resident() -> Result<usize, Box<dyn core::error::Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).ok_or("no VmRSS")?;
    let kib: usize = line.split_whitespace().nth(1).ok_or("no number")?.parse()?;
    Ok(kib * 1024)
}

/// Seconds this thread has been on a core, as the kernel counts them: what others do beside it is not counted.
#[expect(clippy::cast_precision_loss, reason = "a time needs no more than 52 bits")]
fn on_core() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos: u64 = text.split_whitespace().next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0);
    nanos as f64 / 1e9
}

/// Seconds on a core that `work` takes, the best of several times.
fn best(mut work: impl FnMut()) -> f64 {
    let round = |_| {
        let start = on_core();
        work();
        on_core() - start
    };
    (0..ROUNDS).map(round).fold(f64::INFINITY, f64::min)
}

/// Seconds by the clock, the best of several times, for what is too short for the kernel's count.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures the real clock")]
fn best_of_all(mut work: impl FnMut()) -> f64 {
    let round = |_| {
        let start = std::time::Instant::now();
        work();
        start.elapsed().as_secs_f64()
    };
    (0..ROUNDS).map(round).fold(f64::INFINITY, f64::min)
}

#[expect(clippy::cast_precision_loss, reason = "a rate needs no more than 52 bits")]
fn main() -> Result<(), Box<dyn core::error::Error>> {
    let who = Principal::new("bench");
    let ttl = Ttl::new(Duration::from_secs(80)).ok_or("zero")?;
    let now = Instant::ZERO;
    let names: Vec<Name> = (0..NAMES)
        .map(|at| format!("cell{:03}/svc{:06}", at / 1000, at).parse())
        .collect::<Result<_, _>>()?;
    let servers: Vec<Server> = (0..NAMES)
        .map(|at| format!("10.0.{}.{}:7000", at / 256 % 256, at % 256).parse())
        .collect::<Result<_, _>>()?;
    // One element of the name; the servers' text is shared with the list above and not counted here.
    let string_bytes = "svc000000".len();

    let before = resident()?;
    let mut table = Table::new(Limits::private(), who.clone());
    for (name, server) in names.iter().zip(&servers) {
        table.mount(now, &who, &Mount::new(name.clone(), server.clone(), ttl))?;
    }
    let bytes_per_mount = resident()?.saturating_sub(before) / NAMES - string_bytes;

    let mut dice = SplitMix::new(7);
    let mut pick = || usize::try_from(dice.below(1_000_000)).unwrap_or(0);
    let order: Vec<usize> = (0..TIMES).map(|_| pick()).collect();
    let resolve = best(|| {
        for at in &order {
            let found = table.resolve(now, &who, &names[*at]);
            assert!(core::hint::black_box(found).is_ok(), "every name is mounted");
        }
    });
    let refresh = best(|| {
        for at in &order {
            let mount = Mount::new(names[*at].clone(), servers[*at].clone(), ttl);
            assert!(core::hint::black_box(table.mount(now, &who, &mount)).is_ok(), "a refresh");
        }
    });
    let first = best_of_all(|| {
        let mut glob = Glob::new(who.clone(), Name::root(), Pattern::everything());
        let found = table.glob(now, &mut glob).unwrap_or_default();
        assert!(!found.is_empty(), "the root at least");
    });
    let all = best(|| {
        let mut glob = Glob::new(who.clone(), Name::root(), Pattern::everything());
        let mut count = 0;
        while !glob.is_done() {
            count += table.glob(now, &mut glob).unwrap_or_default().len();
        }
        assert!(count > NAMES, "all of them, and the folders");
    });
    println!(
        "{{\"schema\":1,\"bench\":\"mounttable\",\"mounts\":{NAMES},\"bytes_per_mount\":{bytes_per_mount},\
         \"resolves_per_second\":{:.0},\"refreshes_per_second\":{:.0},\"glob_first_results_us\":{:.1},\
         \"glob_all_seconds\":{all:.3}}}",
        TIMES as f64 / resolve,
        TIMES as f64 / refresh,
        first * 1e6
    );
    Ok(())
}
