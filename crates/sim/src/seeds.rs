use core::ops::Range;
use core::panic::AssertUnwindSafe;
use std::env;
use std::panic::{catch_unwind, resume_unwind};
use std::thread;

/// Runs a scenario once for each of `count` seeds, from 0 on.
///
/// `CUTTLEBONE_SEEDS=5000` runs that many instead, `CUTTLEBONE_SEEDS=5000..6000` those, and `CUTTLEBONE_SEED=17`
/// that one alone.
///
/// # Panics
///
/// As the scenario does, after printing the command that replays the seed; and if a variable holds no number.
pub fn for_each_seed(count: u64, scenario: impl Fn(u64)) {
    for seed in chosen(count) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| scenario(seed))) {
            let package = env::var("CARGO_PKG_NAME").unwrap_or_else(|_| "cuttlebone-sim".into());
            let thread = thread::current();
            let test = thread.name().unwrap_or("main");
            eprintln!(
                "seed {seed} failed; replay it with\n\n    CUTTLEBONE_SEED={seed} cargo nextest run -p {package} -E 'test(={test})'\n"
            );
            resume_unwind(panic);
        }
    }
}

fn chosen(count: u64) -> Range<u64> {
    let one = env::var("CUTTLEBONE_SEED").ok();
    let many = env::var("CUTTLEBONE_SEEDS").ok();
    seeds(count, one.as_deref(), many.as_deref())
}

fn seeds(count: u64, one: Option<&str>, many: Option<&str>) -> Range<u64> {
    let number = |text: &str| text.trim().parse::<u64>().expect("a seed is a number");
    match (one, many) {
        (Some(seed), _) => number(seed)..number(seed).saturating_add(1),
        (None, Some(range)) => match range.split_once("..") {
            Some((from, to)) => number(from)..number(to),
            None => 0..number(range),
        },
        (None, None) => 0..count,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_those_that_were_asked_for() {
        assert_eq!(seeds(3, None, None), 0..3);
        assert_eq!(seeds(3, None, Some("9")), 0..9);
        assert_eq!(seeds(3, None, Some("7..9")), 7..9);
        assert_eq!(seeds(3, Some("5"), Some("7..9")), 5..6);
    }
}
