use cuttlebone_wire::WallTime;

/// A number of bytes in IEC units, for people.
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1024.0;
    let mut units = UNITS.into_iter();
    let mut unit = units.next().unwrap_or_default();
    while value >= 1024.0
        && let Some(next) = units.next()
    {
        value /= 1024.0;
        unit = next;
    }
    format!("{value:.1} {unit}")
}

/// Bytes a second, for people.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "three digits are shown"
)]
pub(crate) fn rate(count: u64, seconds: f64) -> String {
    format!("{}/s", bytes((count as f64 / seconds.max(1e-6)) as u64))
}

/// A stamp in RFC 3339, UTC.
pub(crate) fn stamp(time: WallTime) -> String {
    let time = jiff::Timestamp::new(time.secs.into(), 0);
    time.map_or_else(|_| "-".into(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(u64::MAX), "16.0 EiB");
        assert_eq!(rate(10 << 20, 2.0), "5.0 MiB/s");
    }

    #[test]
    fn stamps_are_utc() {
        assert_eq!(stamp(WallTime { secs: 1_700_000_000, nanos: 5 }), "2023-11-14T22:13:20Z");
    }
}
