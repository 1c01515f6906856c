use super::*;
use crate::status::{
    BucketStatus, CheckpointStatus, ConnectionStatus, CursorStatus, MountStatus, PublishedStatus,
    SourceStatus, VbucketStatus,
};

/// The variables of one theme: the first block of them is light, the second dark.
fn theme(at: usize) -> Vec<(&'static str, [f64; 3])> {
    let block = STYLE.split(":root {").nth(at + 1).unwrap().split('}').next().unwrap();
    let colour = |text: &str| {
        let channel = |at: usize| f64::from(u8::from_str_radix(&text[at..at + 2], 16).unwrap()) / 255.0;
        [channel(1), channel(3), channel(5)]
    };
    let lines = block.lines().map(str::trim).filter_map(|line| line.strip_prefix("--"));
    lines
        .map(|line| {
            let (name, value) = line.split_once(": ").unwrap();
            (name, colour(value.trim_end_matches(';')))
        })
        .collect()
}

/// The contrast ratio as WCAG 2.1 has it, from relative luminance.
fn contrast(a: [f64; 3], b: [f64; 3]) -> f64 {
    let luminance = |colour: [f64; 3]| {
        let linear = colour.map(|c| if c <= 0.03928 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) });
        0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    };
    let (a, b) = (luminance(a), luminance(b));
    (a.max(b) + 0.05) / (a.min(b) + 0.05)
}

#[test]
fn text_and_drawings_can_be_read_in_light_and_dark() {
    assert!((contrast([0.0; 3], [1.0; 3]) - 21.0).abs() < 1e-9);
    for theme in [theme(0), theme(1)] {
        let of = |name: &str| theme.iter().find(|(other, _)| *other == name).unwrap().1;
        for text in ["text", "muted", "link", "good", "waiting", "bad"] {
            let ratio = contrast(of(text), of("ground"));
            assert!(ratio >= 4.5, "{text} has {ratio:.2}");
        }
        for shape in ["edge", "closed", "open", "persisted"] {
            let ratio = contrast(of(shape), of("ground"));
            assert!(ratio >= 3.0, "{shape} has {ratio:.2}");
        }
        assert_eq!(theme.len(), 11, "a colour that is not checked");
    }
    let outside = STYLE.split(":root").last().unwrap().split_once('}').unwrap().1;
    assert!(!outside.contains('#'), "every colour is a variable");
}

/// A snapshot in which everything that can come from outside is hostile.
fn hostile() -> Status {
    let bad = || "<script>alert(\"'&\")</script>".to_owned();
    let mut status = Status::default();
    status.node.name = bad();
    status.node.detail = bad();
    status.node.version = bad();
    status.sources = vec![SourceStatus {
        name: bad(),
        kind: bad(),
        peer: Some(bad()),
        last_error: Some(bad()),
        ..SourceStatus::default()
    }];
    let vbucket = |id| VbucketStatus {
        id,
        last_seqno: u64::MAX,
        persisted_seqno: u64::MAX,
        checkpoints: vec![CheckpointStatus {
            id: 1,
            first_seqno: 0,
            last_seqno: u64::MAX,
            items: 1,
            open: true,
        }],
        cursors: vec![CursorStatus { name: bad(), checkpoint: 9, seqno: u64::MAX, lag_items: 1 }; 6],
        ..VbucketStatus::default()
    };
    let mut bucket = BucketStatus::new(bad(), (0..100).map(vbucket));
    bucket.disk_error = Some(bad());
    status.buckets = vec![bucket, BucketStatus::new("empty", [VbucketStatus::default()])];
    status.update.owner = Some(bad());
    status.mounts =
        (0..2_000).map(|_| MountStatus { name: bad(), server: bad(), ..MountStatus::default() }).collect();
    let published =
        PublishedStatus { name: bad(), server: bad(), last_error: Some(bad()), ..Default::default() };
    status.published = [published].into_iter().collect();
    let link =
        ConnectionStatus { peer: bad(), address: bad(), purpose: bad(), ..ConnectionStatus::default() };
    status.connections = [link].into_iter().collect();
    status
}

#[test]
fn what_comes_from_outside_stays_text() {
    let page = html(&hostile());
    assert!(!page.contains("<script>alert"));
    assert_eq!(page.matches("<script").count(), 1);
    assert!(page.contains("&lt;script&gt;alert(&quot;&#39;&amp;&quot;)&lt;/script&gt;"));
    assert!(page.contains("and 36 more") && page.contains("and 1744 more"), "what is left out is said");
}

#[test]
fn every_tag_is_closed_every_id_is_there_once_and_every_drawing_has_words() {
    for status in [hostile(), Status::default()] {
        let page = html(&status);
        let mut open = Vec::new();
        let mut ids = Vec::new();
        for tag in page.split('<').skip(1) {
            let tag = tag.split_once('>').unwrap().0;
            let name = tag.split([' ', '\n']).next().unwrap();
            if let Some(id) = tag.split_once(" id=\"") {
                ids.push(id.1.split('"').next().unwrap().to_owned());
            }
            match name.strip_prefix('/') {
                Some(name) => assert_eq!(open.pop(), Some(name.trim_end()), "in {tag}"),
                None if ["!doctype", "meta", "link"].contains(&name) || tag.ends_with('/') => {}
                None => open.push(name),
            }
            if name == "svg" {
                assert!(tag.contains("role=\"img\"") && tag.contains("aria-label=\"vbucket"), "{tag}");
            }
        }
        assert!(open.is_empty(), "{open:?}");
        let all = ids.len();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), all, "an id twice");
        for id in ["sources", "buckets", "update", "tokens", "mounts", "published", "connections", "listener"]
        {
            assert!(ids.iter().any(|other| other == id), "{id}");
        }
    }
}

#[test]
fn lengths_of_time_and_sizes_are_written_for_people() {
    let span = |ms| Span(ms).to_string();
    assert_eq!(
        [span(7), span(1_250), span(61_000), span(7_500_000), span(180_000_000)],
        ["7 ms", "1.2 s", "1 min 1 s", "2 h 5 min", "2 d 2 h"]
    );
    let bytes = |n| html::Bytes(n).to_string();
    assert_eq!(bytes(1_023), "1023 B");
    assert_eq!(bytes(1_048_576), "<span title=\"1048576 bytes\">1.0 MiB</span>");
    assert!(bytes(u64::MAX).contains(" EiB"));
}
