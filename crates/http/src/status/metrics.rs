//! The snapshot as Prometheus reads it. No label comes from outside: names are those that an operator chose.

use core::fmt::{Display, Write};

use super::{BucketStatus, Stage, Status, UpdateStage};

/// The text format, version 0.0.4.
///
/// Source: `prometheus/docs:content/docs/instrumenting/exposition_formats.md`.
pub(crate) fn text(status: &Status) -> String {
    let mut out = Text::default();
    node(&mut out, status);
    sources(&mut out, status);
    buckets(&mut out, status);
    update(&mut out, status);
    tokens(&mut out, status);
    names_and_links(&mut out, status);
    out.0
}

fn node(out: &mut Text, status: &Status) {
    let node = &status.node;
    out.family("cuttlebone_info", "gauge", "Which program this is.");
    out.sample("cuttlebone_info", &[("version", &node.version), ("name", &node.name)], 1);
    out.gauge("cuttlebone_ready", "Whether the node serves.", u8::from(node.stage == Stage::Serving));
    out.gauge("cuttlebone_uptime_seconds", "How long the process has been running.", seconds(node.uptime_ms));
}

fn sources(out: &mut Text, status: &Status) {
    let sources = &status.sources;
    if sources.is_empty() {
        return;
    }
    let mut each =
        |name: &str, kind: &str, help: &str, value: &dyn Fn(&super::SourceStatus) -> Option<f64>| {
            out.family(name, kind, help);
            for source in sources {
                if let Some(value) = value(source) {
                    out.sample(name, &[("source", &source.name)], value);
                }
            }
        };
    let unix = |at: u64| precise(at);
    each("cuttlebone_source_lag_seconds", "gauge", "Since when the source is behind its peer.", &|source| {
        source.lag_ms.map(seconds)
    });
    each(
        "cuttlebone_source_lag_versions",
        "gauge",
        "Versions the source is known to be behind.",
        &|source| source.lag_versions.map(precise),
    );
    each("cuttlebone_source_items_total", "counter", "Items received.", &|source| {
        Some(precise(source.items_total))
    });
    each("cuttlebone_source_received_bytes_total", "counter", "Bytes received.", &|source| {
        Some(precise(source.bytes_total))
    });
    let backup = "cuttlebone_mon_backup_";
    each(&format!("{backup}failures_total"), "counter", "Attempts that failed.", &|source| {
        (source.kind == "monsync").then_some(precise(source.failures_total))
    });
    each(
        &format!("{backup}last_success_timestamp_seconds"),
        "gauge",
        "When a copy was last complete.",
        &|source| source.last_success_unix.map(unix),
    );
    each(&format!("{backup}last_duration_seconds"), "gauge", "How long that took.", &|source| {
        source.last_duration_ms.map(seconds)
    });
    each(&format!("{backup}last_size_bytes"), "gauge", "How large that copy is.", &|source| {
        source.last_size_bytes.map(precise)
    });
}

fn buckets(out: &mut Text, status: &Status) {
    let buckets = &status.buckets;
    if buckets.is_empty() {
        return;
    }
    let mut each = |name: &str, kind: &str, help: &str, value: &dyn Fn(&BucketStatus) -> u64| {
        out.family(name, kind, help);
        for bucket in buckets {
            out.sample(name, &[("bucket", &bucket.name)], value(bucket));
        }
    };
    each("cuttlebone_bucket_items", "gauge", "Keys with a value.", &|bucket| bucket.items);
    each("cuttlebone_bucket_evicted_items", "gauge", "Keys whose value is on the disk only.", &|bucket| {
        bucket.evicted
    });
    each("cuttlebone_bucket_resident_bytes", "gauge", "Bytes of values in memory.", &|bucket| {
        bucket.resident_bytes
    });
    each("cuttlebone_checkpoint_memory_bytes", "gauge", "Bytes of the change logs.", &|bucket| {
        bucket.log_bytes
    });
    each(
        "cuttlebone_checkpoint_persisted_seqno",
        "gauge",
        "Seqnos on the disk, of all vbuckets.",
        &|bucket| bucket.persisted_seqno,
    );
    each("cuttlebone_checkpoint_unpersisted_items", "gauge", "Mutations not on the disk.", &|bucket| {
        bucket.unpersisted
    });
    each(
        "cuttlebone_checkpoint_dedup_total",
        "counter",
        "Mutations that replaced a queued one.",
        &|bucket| bucket.dedup_total,
    );
    each("cuttlebone_bucket_disk_failing", "gauge", "Whether the disk refuses.", &|bucket| {
        u64::from(bucket.disk_error.is_some())
    });
    let name = "cuttlebone_checkpoint_cursor_lag_items";
    out.family(name, "gauge", "Mutations that a cursor has not read.");
    for bucket in buckets {
        for cursor in &bucket.cursors {
            out.sample(name, &[("bucket", &bucket.name), ("cursor", &cursor.name)], cursor.lag_items);
        }
    }
}

fn update(out: &mut Text, status: &Status) {
    let update = &status.update;
    out.gauge(
        "cuttlebone_update_on",
        "Whether hot reload is on.",
        u8::from(update.stage != UpdateStage::Off),
    );
    out.gauge("cuttlebone_update_held_items", "Mutations that a revert would undo.", update.held_items);
    let name = "cuttlebone_update_ended_total";
    out.family(name, "counter", "Windows that ended, by how.");
    out.sample(name, &[("how", "completed")], update.completed_total);
    out.sample(name, &[("how", "reverted")], update.reverted_total);
    out.counter("cuttlebone_update_reverted_keys_total", "Keys restored.", update.reverted_keys_total);
    out.counter("cuttlebone_update_revert_failed_total", "Reverts refused.", update.revert_failed_total);
}

fn tokens(out: &mut Text, status: &Status) {
    let tokens = &status.tokens;
    out.gauge("cuttlebone_registry_names", "Names in use.", tokens.names.total);
    out.gauge("cuttlebone_registry_draining_names", "Names that wait for older tokens.", tokens.draining);
    out.gauge("cuttlebone_registry_permits_in_use", "Slots that tokens take.", tokens.slots_held);
    out.gauge("cuttlebone_registry_tokens_held", "Tokens that are out.", tokens.held);
    out.gauge("cuttlebone_registry_waiting_requests", "Requests waiting for a token.", tokens.waiting);
    out.counter("cuttlebone_registry_fenced_total", "Incarnations told to stop.", tokens.fenced_total);
}

fn names_and_links(out: &mut Text, status: &Status) {
    let listener = &status.listener;
    let published = &status.published;
    out.gauge("cuttlebone_mounttable_entries", "Servers in the mount table.", status.mounts.total);
    if published.total > 0 {
        // As good as the worst of them; those beyond the rows that are kept are not seen.
        let all = published.rows.iter().all(|row| row.mounted);
        out.gauge("cuttlebone_publisher_registered", "Whether every name is announced.", u8::from(all));
    }
    out.gauge("cuttlebone_connections", "Links to peers.", status.connections.total);
    out.gauge("cuttlebone_http_connections", "Connections of HTTP clients.", listener.connections);
    out.gauge("cuttlebone_http_connections_max", "How many there may be.", listener.connections_max);
    out.counter("cuttlebone_http_accepted_total", "Connections taken.", listener.accepted_total);
    out.counter("cuttlebone_http_turned_away_total", "Connections turned away.", listener.turned_away_total);
    out.gauge("cuttlebone_http_sessions", "Open lives of owners and holders.", listener.sessions);
}

/// The text so far.
#[derive(Default)]
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _infallible = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (at, (label, text)) in labels.iter().enumerate() {
            let before = if at == 0 { '{' } else { ',' };
            let _infallible = write!(self.0, "{before}{label}=\"{}\"", Escaped(text));
        }
        let after = if labels.is_empty() { "" } else { "}" };
        let _infallible = writeln!(self.0, "{after} {value}");
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "gauge", help);
        self.sample(name, &[], value);
    }

    fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "counter", help);
        self.sample(name, &[], value);
    }
}

/// A label's value as the format wants it.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        for letter in self.0.chars() {
            match letter {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

fn seconds(ms: u64) -> f64 {
    core::time::Duration::from_millis(ms).as_secs_f64()
}

/// Prometheus knows floating-point numbers only.
#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53, as everything in this format")]
const fn precise(count: u64) -> f64 {
    count as f64
}
