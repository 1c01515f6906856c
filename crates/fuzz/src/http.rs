use cuttlebone_http::fuzz::conversation;
use cuttlebone_http::mounts::{Mounts, Principals};
use cuttlebone_machine::Instant;
use cuttlebone_mounttable::{Limits, Mount, Principal, SharedTable, Table, Ttl};

/// What one client sends to a service with a mount table: every refusal has its three sentences, nothing is a fault of
/// the service, and the table's counters agree with a recount.
pub(crate) fn mounts(data: &[u8]) {
    let who = Principal::new("service");
    let mut limits = Limits::default();
    limits.hash_seed = 0;
    let mut table = Table::new(limits, who.clone());
    for (name, server) in [("a/b", "h:1"), ("a/c", "[::1]:2/x"), ("d", "h:3")] {
        let mount =
            Mount::new(name.parse().expect("a name"), server.parse().expect("a server"), Ttl::FOREVER);
        table.mount(Instant::ZERO, &who, &mount).expect("an open table");
    }
    let table = SharedTable::new(table, || Instant::ZERO);
    let face = Mounts::new(table.clone(), Principals::owner(who)).into();
    let answers = conversation(&face, data);
    check(&answers, data.windows(4).any(|window| window == b"HEAD"));
    table.recount().expect("counters that agree");
}

/// Walks through answers until one whose length its head does not say; answers to `HEAD` have a length and no body.
fn check(mut answers: &[u8], asks_for_heads: bool) {
    while let Some(end) = answers.windows(4).position(|window| window == b"\r\n\r\n") {
        let (head, rest) = answers.split_at(end + 4);
        let head = core::str::from_utf8(head).expect("a head is text");
        assert!(head.starts_with("HTTP/1.1 "), "{head}");
        assert!(!head.starts_with("HTTP/1.1 500"), "a fault of the service: {head}");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        let (Some(length), false) = (length, asks_for_heads) else { return };
        let (body, next) = rest.split_at_checked(length).unwrap_or((rest, &[]));
        if head.starts_with("HTTP/1.1 4") && head.contains("application/json") {
            let problem: serde_json::Value = serde_json::from_slice(body).expect("a refusal is JSON");
            for field in ["error", "detail", "hint"] {
                assert!(problem[field].as_str().is_some_and(|text| !text.is_empty()), "{problem}");
            }
        }
        answers = next;
    }
}
