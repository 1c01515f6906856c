use core::time::Duration;
use std::io::{IsTerminal, stderr};

use indicatif::{ProgressBar, ProgressStyle};

use crate::args::{Format, Global};
use crate::text::bytes;

/// What goes on, on standard error: a line that moves on a terminal, remarks everywhere, nothing with `--quiet`.
#[derive(Debug)]
pub(crate) struct Bar {
    bar: Option<ProgressBar>,
    quiet: bool,
}

/// How often the line moves.
const TICK: Duration = Duration::from_millis(100);

impl Bar {
    pub(crate) fn new(global: &Global) -> Self {
        let shown = !global.quiet && global.format() == Format::Plain && stderr().is_terminal();
        let bar = shown.then(|| {
            let style =
                ProgressStyle::with_template("{spinner} {elapsed_precise} {msg} ({binary_bytes_per_sec})");
            let bar = ProgressBar::new_spinner();
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar.enable_steady_tick(TICK);
            bar
        });
        Self { bar, quiet: global.quiet }
    }

    /// What is going on now; shown on a terminal only.
    pub(crate) fn say(&mut self, message: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(message.to_owned());
        }
    }

    /// How much has been moved.
    pub(crate) fn moved(&mut self, count: u64, keys: u64, version: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(count);
            bar.set_message(format!("{}, {keys} keys, version {version}", bytes(count)));
        }
    }

    /// Something the user should know, which stays.
    pub(crate) fn remark(&mut self, message: &str) {
        if self.quiet {
            return;
        }
        match &self.bar {
            Some(bar) => bar.suspend(|| crate::complain(message)),
            None => crate::complain(message),
        }
    }

    /// Takes the moving line away.
    pub(crate) fn clear(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
