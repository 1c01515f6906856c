//! One vbucket as a line: its checkpoints from the oldest to the open one, and where each cursor stands.

use core::fmt::Write;

use super::html::Escaped;
use crate::status::VbucketStatus;

/// The width of the line in the drawing's own units; the page scales it.
const WIDTH: u64 = 1_000;
/// Where the line ends, and the names below it begin.
const FOOT: usize = 44;
/// From one name to the next; a phone shows them larger.
const PITCH: usize = 36;
/// Names of cursors are written below the line where there are few enough of them to be read.
const NAMED_MAX: usize = 4;

pub(super) fn vbucket(out: &mut String, vbucket: &VbucketStatus) {
    let first = vbucket.checkpoints.first().map_or(vbucket.persisted_seqno, |oldest| oldest.first_seqno);
    let scale = Scale { from: first.min(vbucket.last_seqno), to: vbucket.last_seqno };
    let named = vbucket.cursors.len().min(NAMED_MAX);
    let height = FOOT + PITCH * named;
    let _infallible = write!(
        out,
        "<svg viewBox=\"-4 0 1008 {height}\" role=\"img\" aria-label=\"{}\">",
        Escaped(&in_words(vbucket))
    );
    for checkpoint in &vbucket.checkpoints {
        let (from, to) =
            (scale.at(checkpoint.first_seqno.saturating_sub(1)), scale.at(checkpoint.last_seqno));
        let class = if checkpoint.open { "open" } else { "closed" };
        let _infallible = write!(
            out,
            "<rect class=\"{class}\" x=\"{from}\" y=\"8\" width=\"{}\" height=\"28\"/>",
            to.saturating_sub(from).max(2)
        );
    }
    let persisted = scale.at(vbucket.persisted_seqno);
    let _infallible =
        write!(out, "<rect class=\"persisted\" x=\"0\" y=\"30\" width=\"{persisted}\" height=\"6\"/>");
    for (at, cursor) in vbucket.cursors.iter().enumerate() {
        let x = scale.at(cursor.seqno);
        let foot = FOOT + if at < named { PITCH * at + PITCH - 6 } else { 0 };
        let _infallible =
            write!(out, "<line class=\"cursor\" x1=\"{x}\" x2=\"{x}\" y1=\"2\" y2=\"{foot}\"/>");
        if at < named {
            // Left of the mark in the right half, so that no name leaves the drawing.
            let (anchor, place) = if x > WIDTH / 2 { ("end", x - 8) } else { ("start", x + 8) };
            let _infallible = write!(
                out,
                "<text x=\"{place}\" y=\"{foot}\" text-anchor=\"{anchor}\">{} {}</text>",
                Escaped(&cursor.name),
                cursor.seqno
            );
        }
    }
    out.push_str("</svg>\n");
}

/// The drawing for those who do not see it.
fn in_words(vbucket: &VbucketStatus) -> String {
    let mut words = format!(
        "vbucket {}: {} checkpoints up to seqno {}, {} on disk",
        vbucket.id,
        vbucket.checkpoints.len(),
        vbucket.last_seqno,
        vbucket.persisted_seqno
    );
    for cursor in &vbucket.cursors {
        let _infallible = write!(words, "; {} at {}, {} behind", cursor.name, cursor.seqno, cursor.lag_items);
    }
    words
}

/// Seqnos to places on the line. The seqno before the first is its left end.
struct Scale {
    from: u64,
    to: u64,
}

impl Scale {
    fn at(&self, seqno: u64) -> u64 {
        let start = self.from.saturating_sub(1);
        let length = u128::from(self.to.saturating_sub(start).max(1));
        let place = u128::from(seqno.clamp(start, self.to.max(start)) - start);
        u64::try_from(place * u128::from(WIDTH) / length).unwrap_or(WIDTH)
    }
}
