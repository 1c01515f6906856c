//! Replays every stored input, and makes sure that each target has some.

use std::fs;
use std::path::Path;

use cuttlebone_fuzz::TARGETS;

#[test]
fn every_stored_input_runs_through_its_target() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for target in TARGETS {
        let folder = corpus.join(target.name);
        let inputs: Vec<_> = fs::read_dir(&folder)
            .unwrap_or_else(|error| panic!("{}: {error}; every target has a corpus", folder.display()))
            .map(|entry| entry.unwrap().path())
            .collect();
        assert!(!inputs.is_empty(), "{} has no stored input", target.name);
        for input in inputs {
            (target.run)(&fs::read(&input).unwrap());
        }
    }
}
