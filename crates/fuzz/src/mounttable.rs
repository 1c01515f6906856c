use core::time::Duration;

use cuttlebone_machine::Instant;
use cuttlebone_mounttable::{
    Epoch, Glob, Limits, Mount, Name, Pattern, Permissions, Placement, Principal, Server, Subtree, Table,
    Tag, Ttl, Which, escape_element, unescape_element,
};

/// Names, servers and escapes: what parses is clean, and its text parses to itself.
pub(crate) fn name(data: &[u8]) {
    let Ok(text) = core::str::from_utf8(data) else { return };
    assert_eq!(unescape_element(&escape_element(text)).as_deref(), Some(text));
    let _ = unescape_element(text);
    if let Ok(name) = Name::parse(text) {
        assert_eq!(Name::parse(name.as_str()).as_ref(), Ok(&name));
        assert_eq!(name.depth(), name.elements().count());
        assert_eq!(name.prefixes().count(), name.depth() + 1);
        assert_eq!(name.strip_prefix(&name), Some(Name::root()));
    }
    if let Ok(server) = Server::parse(text) {
        assert_eq!(Server::parse(server.as_str()).as_ref(), Ok(&server));
        let (address, suffix) = server.split();
        let address = Server::parse(address).expect("an address is a server");
        assert_eq!(address.join(&suffix).as_ref(), Ok(&server));
    }
}

/// A pattern and a name, one per line: the pattern's text reads as the same pattern, and a table with this one name
/// finds it when the pattern says so.
pub(crate) fn glob(data: &[u8]) {
    let Ok(text) = core::str::from_utf8(data) else { return };
    let (pattern, at) = text.split_once('\n').unwrap_or((text, "a/b"));
    let (Ok(pattern), Ok(at)) = (Pattern::parse(pattern), Name::parse(at)) else { return };
    assert_eq!(Pattern::parse(&pattern.to_string()).as_ref(), Ok(&pattern), "{pattern}");
    let who = Principal::new("fuzz");
    let mut table = Table::new(Limits::private(), who.clone());
    let server = Server::parse("h:1").expect("a server");
    let mounted = table.mount(Instant::ZERO, &who, &Mount::new(at.clone(), server, Ttl::FOREVER)).is_ok();
    assert_eq!(mounted, !at.is_root());
    let mut glob = Glob::new(who, Name::root(), pattern.clone());
    let mut found = Vec::new();
    while !glob.is_done() {
        found.extend(table.glob(Instant::ZERO, &mut glob).expect("the root is open"));
    }
    for prefix in at.prefixes().filter(|prefix| pattern.matches(prefix)) {
        assert_eq!(found.iter().filter(|found| found.name == prefix).count(), 1, "{pattern} {prefix:?}");
    }
}

/// A list of operations, four bytes each; the counters agree with a recount after each of them.
pub(crate) fn table(data: &[u8]) {
    let limits = Limits::default();
    let mut table = Table::new(limits, Principal::new("service"));
    let mut now = Instant::ZERO;
    for step in data.chunks_exact(4).take(256) {
        let [op, at, what, amount] = step.try_into().unwrap_or([0; 4]);
        let names = ["", "a", "a/b", "a/b/c", "a/bc", "b", "b//a/", "%2F/x"];
        let name = Name::parse(names[usize::from(at) % names.len()]).expect("a name");
        let who = Principal::new(["ann", "bob", "ann:phone"][usize::from(at / 8) % 3]);
        let server = Server::parse(["h:1", "h:2", "[::1]:3/s"][usize::from(what) % 3]).expect("a server");
        let tag = [Tag::Admin, Tag::Create, Tag::Mount, Tag::Read, Tag::Resolve][usize::from(what) % 5];
        let epoch = Epoch(u64::from(what / 64));
        match op % 8 {
            0 | 1 => {
                let ttl = Ttl::new(Duration::from_secs(amount.into())).unwrap_or(Ttl::FOREVER);
                let placement = if op >= 128 { Placement::Replace } else { Placement::Beside };
                let mount =
                    Mount::new(name.clone(), server.clone(), ttl).with_epoch(epoch).with_placement(placement);
                if table.mount(now, &who, &mount).is_ok() {
                    let live = table.resolve(now, &Principal::new("service"), &name);
                    assert!(live.map_or(true, |r| r.servers[0].server == server));
                }
            }
            2 => drop(table.unmount(now, &who, &name, &Which::All)),
            3 => drop(table.unmount(now, &who, &name, &Which::One { server, epoch })),
            4 => drop(table.delete(
                now,
                &who,
                &name,
                if amount % 2 == 0 { Subtree::Keep } else { Subtree::Delete },
            )),
            5 => drop(table.set_permissions(now, &who, &name, &Permissions::none().allow(tag, "ann"), None)),
            6 => now = now + Duration::from_secs(amount.into()),
            _ => drop(table.resolve(now, &who, &name)),
        }
        table.counters(now);
        assert_eq!(table.recount(), Ok(()));
    }
    // What it would write down brings the same permissions back.
    let mut again = Table::new(Limits::default(), Principal::new("service"));
    for record in table.records() {
        again.apply(&record);
    }
    assert_eq!(again.records(), table.records());
}
