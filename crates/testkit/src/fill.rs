use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::Result;
use cuttlebone_machine::{Entropy, SplitMix};
use cuttlebone_wire::{Encode, Features, Op, Transaction};

/// Keys to put into a store before the test: `fill/<number>` under `mon_config_key`, with random values.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "three numbers, written out by every test that fills a store")]
pub struct Fill {
    /// How many keys.
    pub keys: u64,
    /// Bytes of each value.
    pub value_bytes: usize,
    /// The values follow from it.
    pub seed: u64,
}

/// Most bytes of values in one transaction of a trace.
const TRANSACTION_BYTES: usize = 1024 * 1024;
/// Most keys in one transaction of a trace.
const TRANSACTION_KEYS: usize = 2000;

impl Fill {
    /// Writes the keys as `ceph-monstore-tool … replay-trace` reads them: transactions, one behind another.
    pub(crate) fn write_trace(&self, path: &Path) -> Result<()> {
        let mut trace = BufWriter::new(File::create(path)?);
        let mut chance = SplitMix::new(self.seed);
        let keys_each = (TRANSACTION_BYTES / self.value_bytes.max(1)).clamp(1, TRANSACTION_KEYS);
        let mut keys = (0..self.keys).peekable();
        while keys.peek().is_some() {
            let batch = keys.by_ref().take(keys_each);
            let ops =
                batch.map(|i| Op::put("mon_config_key", format!("fill/{i:08}"), self.value(&mut chance)));
            trace.write_all(&Transaction::new(ops.collect()).to_bytes(Features::PACIFIC))?;
        }
        Ok(trace.flush()?)
    }

    fn value(&self, chance: &mut SplitMix) -> Vec<u8> {
        let mut value = Vec::with_capacity(self.value_bytes + 8);
        while value.len() < self.value_bytes {
            value.extend(chance.next_u64().to_le_bytes());
        }
        value.truncate(self.value_bytes);
        value
    }
}
