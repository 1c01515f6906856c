pub(crate) use cuttlebone_bucket::fuzzing::{document, row, segment};

#[cfg(test)]
mod tests {
    use cuttlebone_bucket::fuzzing::seeds;

    #[test]
    fn the_stored_seeds_are_those_of_the_current_format() {
        let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
        for (target, seed) in seeds() {
            let path = corpus.join(target).join("seed");
            if std::env::var_os("CUTTLEBONE_BLESS").is_some() {
                std::fs::create_dir_all(corpus.join(target)).unwrap();
                std::fs::write(&path, &seed).unwrap();
            }
            let stored = std::fs::read(&path).unwrap_or_default();
            assert!(stored == seed, "{} is out of date; run with CUTTLEBONE_BLESS=1", path.display());
        }
    }
}
