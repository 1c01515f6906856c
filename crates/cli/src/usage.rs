use std::fs;

/// What this process has used so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// Processor time of all threads, in user space and in the kernel, in seconds.
    pub(crate) cpu_seconds: f64,
    /// The most memory that was resident at any time, in bytes.
    pub(crate) memory_bytes_max: u64,
}

/// Ticks a second in which Linux counts processor time for user space, whatever its own timer does.
const TICKS: f64 = 100.0;

impl Usage {
    /// As Linux tells it; zeros elsewhere.
    #[expect(clippy::cast_precision_loss, reason = "52 bits of hundredths of a second are enough")]
    pub(crate) fn of_this_process() -> Self {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // The name, in parentheses, may hold anything; user and system time are fields 14 and 15.
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = peak.and_then(|peak| peak.trim().trim_end_matches(" kB").parse::<u64>().ok());
        Self { cpu_seconds: ticks as f64 / TICKS, memory_bytes_max: kib.unwrap_or(0) * 1024 }
    }
}
