pub(crate) use cuttlebone_store::fuzzing::{block, directory};

#[cfg(test)]
mod tests {
    use cuttlebone_store::fuzzing::seeds;

    #[test]
    fn the_stored_seeds_are_those_of_the_current_format() {
        let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/store_directory");
        for (n, seed) in (1..).zip(seeds()) {
            let path = corpus.join(format!("seed-{n}"));
            if std::env::var_os("CUTTLEBONE_BLESS").is_some() {
                std::fs::write(&path, &seed).unwrap();
            }
            let stored = std::fs::read(&path).unwrap_or_default();
            assert!(stored == seed, "{} is out of date; run with CUTTLEBONE_BLESS=1", path.display());
        }
    }
}
