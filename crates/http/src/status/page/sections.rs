use core::fmt::Write;

use super::html::{Badge, Cell, Escaped};
use super::{drawing, figures, hidden, nothing, section, table};
use crate::message::Row;
use crate::status::{
    BucketStatus, ConnectionStatus, Direction, ListenerStatus, MountStatus, PublishedStatus, Rows,
    SourceState, SourceStatus, TokensStatus, UpdateStage, UpdateStatus, VbucketState, VbucketStatus,
};

/// Vbuckets that are drawn; a page of a thousand would be looked at by nobody.
const DRAWN_MAX: usize = 64;
/// Rows of a table on the page; the JSON has more.
const SHOWN_MAX: usize = 256;

pub(super) fn sources(out: &mut String, sources: &[SourceStatus]) {
    section(out, "sources", "Sources");
    if sources.is_empty() {
        nothing(out, "This node has no source.");
    } else {
        let heads = [
            "source",
            "state",
            "peer",
            "behind",
            "versions behind",
            "items",
            "bytes",
            "failures",
            "last error",
        ];
        table(out, "Where the data comes from", &heads, sources.iter().map(source));
    }
    out.push_str("</section>\n");
}

fn source(source: &SourceStatus) -> Vec<Cell> {
    let state = match source.state {
        SourceState::Connecting => Cell::Word(Badge::Waiting, "connecting"),
        SourceState::Copying => Cell::Word(Badge::Waiting, "copying"),
        SourceState::Following => Cell::Word(Badge::Good, "following"),
        SourceState::Ended => Cell::Word(Badge::Good, "ended"),
    };
    vec![
        Cell::Text(format!("{} ({})", source.name, source.kind)),
        state,
        Cell::optional(source.peer.as_ref()),
        Cell::span(source.lag_ms),
        Cell::number(source.lag_versions),
        Cell::Number(source.items_total),
        Cell::Bytes(source.bytes_total),
        Cell::Number(source.failures_total),
        Cell::optional(source.last_error.as_ref()),
    ]
}

pub(super) fn buckets(out: &mut String, buckets: &[BucketStatus]) {
    section(out, "buckets", "Checkpoints and cursors");
    if buckets.is_empty() {
        nothing(out, "This node keeps no bucket.");
    }
    for (at, bucket) in buckets.iter().enumerate() {
        bucket_figures(out, at, bucket);
        let heads = ["cursor", "mutations to read"];
        let cursors = bucket.cursors.iter();
        table(
            out,
            "Cursors over all vbuckets",
            &heads,
            cursors.map(|cursor| vec![Cell::text(&cursor.name), Cell::Number(cursor.lag_items)]),
        );
        for drawn in bucket.vbuckets.rows.iter().take(DRAWN_MAX) {
            vbucket(out, drawn);
        }
        hidden(out, &bucket.vbuckets, DRAWN_MAX);
    }
    if !buckets.is_empty() {
        nothing(
            out,
            "Each line is a vbucket: its checkpoints from the oldest to the open one, below them what is on disk, and a \
             mark where each cursor stands.",
        );
    }
    out.push_str("</section>\n");
}

fn bucket_figures(out: &mut String, at: usize, bucket: &BucketStatus) {
    let _infallible = writeln!(out, "<h3>{}</h3>", Escaped(&bucket.name));
    let disk = match &bucket.disk_error {
        None => Cell::Word(Badge::Good, "works"),
        Some(error) => Cell::Text(format!("refuses: {error}")),
    };
    figures(
        out,
        &format!("bucket-{at}"),
        &[
            ("items", "items", Cell::Number(bucket.items)),
            ("evicted", "on disk only", Cell::Number(bucket.evicted)),
            ("resident", "values in memory", Cell::Bytes(bucket.resident_bytes)),
            ("log", "change logs", Cell::Bytes(bucket.log_bytes)),
            ("unpersisted", "not on disk yet", Cell::Number(bucket.unpersisted)),
            ("dedup", "replaced while queued", Cell::Number(bucket.dedup_total)),
            ("disk", "disk", disk),
        ],
    );
}

fn vbucket(out: &mut String, vbucket: &VbucketStatus) {
    let state = match vbucket.state {
        VbucketState::Active => "active",
        VbucketState::Replica => "replica",
        VbucketState::Pending => "pending",
        VbucketState::Dead => "dead",
    };
    let window = if vbucket.in_window { ", hot reload" } else { "" };
    let _infallible = write!(
        out,
        "<figure><figcaption>vbucket {} <span class=\"muted\">{state}{window}, {} items, seqno {}, {} on disk</span></figcaption>",
        vbucket.id, vbucket.items, vbucket.last_seqno, vbucket.persisted_seqno
    );
    drawing::vbucket(out, vbucket);
    out.push_str("</figure>\n");
}

pub(super) fn update(out: &mut String, update: &UpdateStatus) {
    section(out, "update", "Hot reload");
    let stage = match update.stage {
        UpdateStage::Off => Cell::Word(Badge::Good, "off"),
        UpdateStage::On => Cell::Word(Badge::Waiting, "on"),
        UpdateStage::Reverting => Cell::Word(Badge::Waiting, "reverting"),
    };
    figures(
        out,
        "update",
        &[
            ("stage", "state", stage),
            ("since", "for", Cell::span(update.since_ms)),
            ("owner", "begun by", Cell::optional(update.owner.as_ref())),
            ("held", "mutations held", Cell::Number(update.held_items)),
            ("completed", "completed", Cell::Number(update.completed_total)),
            ("reverted", "reverted", Cell::Number(update.reverted_total)),
            ("keys", "keys restored", Cell::Number(update.reverted_keys_total)),
            ("failed", "reverts refused", Cell::Number(update.revert_failed_total)),
        ],
    );
    out.push_str("</section>\n");
}

pub(super) fn tokens(out: &mut String, tokens: &TokensStatus) {
    section(out, "tokens", "Tokens");
    figures(
        out,
        "tokens",
        &[
            ("names", "names", Cell::Number(tokens.names.total)),
            ("held", "held", Cell::Number(tokens.held)),
            ("waiting", "waited for", Cell::Number(tokens.waiting)),
            ("draining", "names draining", Cell::Number(tokens.draining)),
            ("fenced", "fenced so far", Cell::Number(tokens.fenced_total)),
        ],
    );
    if !tokens.names.rows.is_empty() {
        let heads = ["name", "state", "epoch", "next", "slots", "tokens", "waiting", "oldest"];
        table(out, "Names, held and waited for", &heads, tokens.names.rows.iter().take(SHOWN_MAX).map(name));
        hidden(out, &tokens.names, SHOWN_MAX);
    }
    out.push_str("</section>\n");
}

fn name(row: &Row) -> Vec<Cell> {
    let state = match row.state.as_str() {
        "active" => Cell::Word(Badge::Good, "active"),
        "draining" => Cell::Word(Badge::Waiting, "draining"),
        _ => Cell::text(&row.state),
    };
    let waiting = row.waiting + row.registrants;
    vec![
        Cell::text(&row.name),
        state,
        Cell::number(row.epoch),
        Cell::number(row.successor),
        Cell::Text(format!("{} of {}", row.slots_held, row.limit)),
        Cell::Number(row.outstanding as u64),
        Cell::Number(waiting as u64),
        Cell::span(row.holders.iter().map(|holder| holder.age_ms).max()),
    ]
}

pub(super) fn mounts(out: &mut String, mounts: &Rows<MountStatus>) {
    section(out, "mounts", "Mounts");
    figures(out, "mounts", &[("total", "entries", Cell::Number(mounts.total))]);
    if !mounts.rows.is_empty() {
        let row = |mount: &MountStatus| {
            let expiry = mount.expires_in_ms.map_or_else(|| Cell::text("never"), Cell::Span);
            vec![Cell::text(&mount.name), Cell::text(&mount.server), Cell::span(mount.age_ms), expiry]
        };
        let heads = ["name", "server", "age", "gone in"];
        table(out, "The mount table", &heads, mounts.rows.iter().take(SHOWN_MAX).map(row));
        hidden(out, mounts, SHOWN_MAX);
    }
    out.push_str("</section>\n");
}

pub(super) fn published(out: &mut String, published: &Rows<PublishedStatus>) {
    section(out, "published", "Announced");
    figures(out, "published", &[("total", "names and servers", Cell::Number(published.total))]);
    if !published.rows.is_empty() {
        let row = |row: &PublishedStatus| {
            let mounted = if row.mounted {
                Cell::Word(Badge::Good, "mounted")
            } else {
                Cell::Word(Badge::Bad, "not mounted")
            };
            let (age, error) = (Cell::span(row.age_ms), Cell::optional(row.last_error.as_ref()));
            vec![Cell::text(&row.name), Cell::text(&row.server), mounted, age, error]
        };
        let heads = ["name", "server", "state", "confirmed before", "last error"];
        table(out, "What this node announces", &heads, published.rows.iter().take(SHOWN_MAX).map(row));
        hidden(out, published, SHOWN_MAX);
    }
    out.push_str("</section>\n");
}

pub(super) fn connections(out: &mut String, connections: &Rows<ConnectionStatus>) {
    section(out, "connections", "Connections");
    figures(out, "connections", &[("total", "links", Cell::Number(connections.total))]);
    if !connections.rows.is_empty() {
        let row = |link: &ConnectionStatus| {
            let direction = match link.direction {
                Direction::Dialled => "dialled",
                Direction::Accepted => "accepted",
            };
            vec![
                Cell::text(&link.peer),
                Cell::text(&link.address),
                Cell::text(direction),
                Cell::text(&link.purpose),
                Cell::Span(link.age_ms),
            ]
        };
        let heads = ["peer", "address", "direction", "purpose", "age"];
        table(out, "Links to peers", &heads, connections.rows.iter().take(SHOWN_MAX).map(row));
        hidden(out, connections, SHOWN_MAX);
    }
    out.push_str("</section>\n");
}

pub(super) fn listener(out: &mut String, listener: &ListenerStatus) {
    section(out, "listener", "This listener");
    figures(
        out,
        "listener",
        &[
            ("connections", "connections", Cell::Number(listener.connections)),
            ("connections-max", "at most", Cell::Number(listener.connections_max)),
            ("accepted", "taken so far", Cell::Number(listener.accepted_total)),
            ("turned-away", "turned away", Cell::Number(listener.turned_away_total)),
            ("sessions", "sessions", Cell::Number(listener.sessions)),
            ("sessions-max", "at most", Cell::Number(listener.sessions_max)),
        ],
    );
    out.push_str("</section>\n");
}
