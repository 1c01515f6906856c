//! Runs the target that `CUTTLEBONE_FUZZ_TARGET` names under libFuzzer.

#![no_main]

use std::sync::LazyLock;

static TARGET: LazyLock<cuttlebone_fuzz::Target> = LazyLock::new(|| {
    let name = std::env::var("CUTTLEBONE_FUZZ_TARGET").expect("CUTTLEBONE_FUZZ_TARGET names a target");
    cuttlebone_fuzz::target(&name).unwrap_or_else(|| panic!("no fuzz target is called {name}"))
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| (TARGET.run)(data));
