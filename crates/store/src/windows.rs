use bytes::Bytes;

use crate::builder::{LAST_COMMITTED, PAXOS};
use crate::limits::MISSING_MAX;
use crate::{Error, View};

/// Services that count versions and keep none of them.
///
/// Source: `ceph/ceph:src/mon/ConfigMonitor.cc` and `HealthMonitor.cc`, encode_pending; seen in 16.2.15.
const WITHOUT_VERSIONS: [&[u8]; 2] = [b"config", b"health"];
/// Holds keys of users, whatever they are called.
const USER_KEYS: &[u8] = b"mon_config_key";

/// The versions that a service keeps: `first_committed ..= last_committed`, without a gap in a sound store.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Window {
    /// The service.
    pub prefix: Bytes,
    /// First version kept. Where the service does not say, its lowest one.
    pub first: u64,
    /// Last version committed.
    pub last: u64,
    /// Versions in the window that are there.
    pub versions: u64,
    /// Versions in the window that are missing.
    pub missing: u64,
    /// The first few of them.
    pub missing_first: Vec<u64>,
    /// Versions above the window that have no business there.
    pub beyond: u64,
    /// The first few of them.
    pub beyond_first: Vec<u64>,
}

impl Window {
    /// Whether every version of the window is there, and none above it.
    pub const fn is_sound(&self) -> bool {
        self.missing == 0 && self.beyond == 0 && self.first <= self.last.saturating_add(1)
    }
}

impl View {
    /// The window of every service that has one.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn versions(&self) -> Result<Vec<Window>, Error> {
        let mut windows = Vec::new();
        for prefix in self.prefixes()?.into_keys() {
            if *prefix == *USER_KEYS {
                continue;
            }
            if let Some(last) = self.number(&prefix, LAST_COMMITTED)? {
                windows.push(self.window(prefix, last)?);
            }
        }
        Ok(windows)
    }

    fn window(&self, prefix: Bytes, last: u64) -> Result<Window, Error> {
        let first = match self.number(&prefix, b"first_committed")? {
            Some(first) => first,
            None => self.lowest_version(&prefix)?.unwrap_or(last),
        };
        // A leader stores the version it proposes before it is committed, and says which one.
        let pending = if *prefix == *PAXOS { self.number(PAXOS, b"pending_v")? } else { None };
        let mut window = Window {
            first,
            last,
            versions: 0,
            missing: 0,
            missing_first: Vec::new(),
            beyond: 0,
            beyond_first: Vec::new(),
            prefix,
        };
        for entry in self.entries(Some(&window.prefix))? {
            let Some(version) = version_number(entry?.key()) else { continue };
            if (first..=last).contains(&version) {
                window.versions += 1;
            } else if version > last && (pending != Some(version) || version > last.saturating_add(1)) {
                window.beyond += 1;
                if window.beyond_first.len() < MISSING_MAX {
                    window.beyond_first.push(version);
                }
            }
        }
        let expected =
            if last == 0 || first > last { 0 } else { last.saturating_sub(first).saturating_add(1) };
        window.missing = expected.saturating_sub(window.versions);
        if WITHOUT_VERSIONS.contains(&&*window.prefix) && window.versions == 0 {
            window.missing = 0;
        }
        if window.missing > 0 {
            self.name_missing(&mut window)?;
        }
        Ok(window)
    }

    /// Names the first few versions that are missing. Keys are not in the order of numbers, so it looks for each;
    /// since every one it finds is counted already, the search is as long as the window has versions.
    fn name_missing(&self, window: &mut Window) -> Result<(), Error> {
        for version in window.first..=window.last {
            if self.find(&window.prefix, version.to_string().as_bytes())?.is_none() {
                window.missing_first.push(version);
                if window.missing_first.len() as u64 == window.missing.min(MISSING_MAX as u64) {
                    break;
                }
            }
        }
        Ok(())
    }

    fn lowest_version(&self, prefix: &[u8]) -> Result<Option<u64>, Error> {
        let mut lowest = None;
        for entry in self.entries(Some(prefix))? {
            let version = version_number(entry?.key());
            lowest = lowest.into_iter().chain(version).min();
        }
        Ok(lowest)
    }

    /// A number kept as eight little-endian bytes.
    fn number(&self, prefix: &[u8], key: &[u8]) -> Result<Option<u64>, Error> {
        let value = self.get(prefix, key)?;
        Ok(value.and_then(|value| value[..].try_into().ok()).map(u64::from_le_bytes))
    }
}

/// The version that a key names: plain decimal without padding, so that each number has one key.
fn version_number(key: &[u8]) -> Option<u64> {
    let is_plain = key.iter().all(u8::is_ascii_digit) && (key.len() == 1 || key.first() != Some(&b'0'));
    if is_plain { core::str::from_utf8(key).ok()?.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::version_number;

    #[test]
    fn a_version_has_one_spelling() {
        let cases: [(&[u8], _); 8] = [
            (b"0", Some(0)),
            (b"10", Some(10)),
            (b"010", None),
            (b"", None),
            (b"full_1", None),
            (b"+1", None),
            (b"18446744073709551615", Some(u64::MAX)),
            (b"18446744073709551616", None),
        ];
        for (key, expected) in cases {
            assert_eq!(version_number(key), expected, "{key:?}");
        }
    }
}
