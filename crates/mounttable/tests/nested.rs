//! Names across tables that are mounted in each other: scenarios 54 to 64 and 73, with tables in this process in the
//! place of ones on the network.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use cuttlebone_machine::Instant;
use cuttlebone_mounttable::{
    DEPTH_MAX, Dial, Directory, Error, Failure, Found, Kept, Kind, Limits, LocalNamespace, Mount, Mounted,
    Name, Namespace, Pattern, Permissions, Resolved, Resolver, SharedTable, Subtree, Table, Tag, Ttl, Upkeep,
    Version, Withdrawal,
};
use futures::executor::block_on;
use futures::{Stream, StreamExt, stream};
use support::{name, server, ttl, who};

/// Tables by their addresses.
#[derive(Clone, Default)]
struct Net(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    tables: BTreeMap<String, SharedTable>,
    down: BTreeSet<String>,
    /// Who was asked what.
    asked: Vec<String>,
}

/// A table that may be down.
struct Remote {
    net: Net,
    address: String,
    table: LocalNamespace,
}

impl Net {
    fn new(addresses: &[&str]) -> Self {
        let net = Self::default();
        for address in addresses {
            let table = SharedTable::new(Table::new(Limits::private(), who("service")), || Instant::ZERO);
            net.0.lock().unwrap().tables.insert((*address).into(), table);
        }
        net
    }

    fn table(&self, address: &str) -> SharedTable {
        self.0.lock().unwrap().tables[address].clone()
    }

    fn mount(&self, table: &str, at: &str, what: &str, kind: Kind) {
        let mount = Mount::new(name(at), server(what), ttl(60)).with_kind(kind);
        self.table(table).mount(&who("service"), &mount).unwrap();
    }

    fn down(&self, address: &str) {
        self.0.lock().unwrap().down.insert(address.into());
    }

    fn resolver(&self, roots: &[&str]) -> Resolver<Self> {
        Resolver::new(roots.iter().map(|root| self.dial(root).unwrap()).collect(), self.clone())
    }

    fn asked(&self) -> Vec<String> {
        core::mem::take(&mut self.0.lock().unwrap().asked)
    }
}

impl Dial for Net {
    type Table = Remote;

    fn dial(&self, address: &str) -> Result<Remote, Failure> {
        let state = self.0.lock().unwrap();
        let table = state.tables.get(address).ok_or(Failure::Foreign { reason: "no such host".into() })?;
        let table = table.namespace(who("client"));
        Ok(Remote { net: self.clone(), address: address.into(), table })
    }
}

impl Remote {
    fn reach(&self, what: &str) -> Result<&LocalNamespace, Failure> {
        let mut state = self.net.0.lock().unwrap();
        state.asked.push(format!("{} {what}", self.address));
        if state.down.contains(&self.address) {
            return Err(Failure::Unreachable { reason: "down".into() });
        }
        Ok(&self.table)
    }
}

impl Namespace for Remote {
    fn upkeep(&self) -> Upkeep {
        Upkeep::Refresh
    }

    fn batch_max(&self) -> usize {
        8
    }

    async fn mount(&self, batch: Vec<Mount>) -> Vec<Result<Mounted, Failure>> {
        self.table.mount(batch).await
    }

    async fn unmount(&self, batch: Vec<Withdrawal>) -> Vec<Result<(), Failure>> {
        self.table.unmount(batch).await
    }

    async fn keep(&self) -> Result<Kept, Failure> {
        self.table.keep().await
    }

    async fn release(&self) -> Result<(), Failure> {
        self.table.release().await
    }

    async fn resolve(&self, name: Name) -> Result<Resolved, Failure> {
        self.reach(&format!("resolve {name}"))?.resolve(name).await
    }
}

impl Directory for Remote {
    fn glob(
        &self,
        base: Name,
        pattern: Pattern,
    ) -> impl Stream<Item = Result<Found, Failure>> + Send + 'static {
        match self.reach(&format!("glob {base} {pattern}")) {
            Ok(table) => table.glob(base, pattern).boxed(),
            Err(failure) => stream::iter([Err(failure)]).boxed(),
        }
    }
}

fn glob(resolver: &Resolver<Net>, pattern: &str) -> String {
    let pattern = Pattern::parse(pattern).unwrap();
    let found: Vec<_> = block_on(resolver.glob(&pattern).collect());
    let mut names: Vec<String> = found
        .into_iter()
        .map(|found| match found {
            Ok(found) if found.name.is_root() => ".".into(),
            Ok(found) => found.name.to_string(),
            Err(unseen) => format!("!{}", unseen.mount),
        })
        .collect();
    names.sort();
    names.join(" ")
}

/// Where a name is held, as `address name`.
fn responsible(resolver: &Resolver<Net>, at: &str) -> Vec<String> {
    let tables = block_on(resolver.responsible(&name(at))).unwrap();
    tables.iter().map(|t| format!("{} {}", t.address.as_deref().unwrap_or("root"), t.name)).collect()
}

/// A root with a table at `mt`, another below that, and a plain server at the end and beside.
fn three_deep() -> (Net, Resolver<Net>) {
    let net = Net::new(&["root:1", "mt:1", "deep:1"]);
    net.mount("root:1", "mt", "mt:1", Kind::Table);
    net.mount("mt:1", "inner", "/deep:1", Kind::Table);
    net.mount("deep:1", "joke1/level1/fool", "joker:1", Kind::Server);
    net.mount("root:1", "plain", "p:1", Kind::Server);
    let resolver = net.resolver(&["root:1"]);
    (net, resolver)
}

#[test]
fn s54_s57_s58_the_innermost_table_on_the_path_is_responsible() {
    let (_net, resolver) = three_deep();
    for (at, expected) in [
        ("plain", "root plain"),
        ("unknown/x", "root unknown/x"),
        ("mt/unknown/x", "mt:1 unknown/x"),
        ("mt/inner/joke1", "deep:1 joke1"),
        ("mt/inner/joke1/level1/fool/and/more", "deep:1 joke1/level1/fool/and/more"),
        ("plain/below/a/server", "root plain/below/a/server"),
        ("mt", "root mt"),
        ("", "root "),
    ] {
        assert_eq!(responsible(&resolver, at), [expected], "{at}");
    }
}

#[test]
fn s55_what_is_mounted_through_a_name_lands_in_the_table_that_is_mounted_there() {
    let (net, resolver) = three_deep();
    let tables = block_on(resolver.responsible(&name("mt/a"))).unwrap();
    let mount = Mount::new(tables[0].name.clone(), server("h:9"), ttl(60));
    assert!(block_on(tables[0].table.mount(vec![mount]))[0].is_ok());
    assert!(net.table("mt:1").resolve(&who("x"), &name("a")).is_ok());
    let found = block_on(resolver.resolve(&name("mt/a/b"))).unwrap();
    assert_eq!((found.mount, found.suffix), (name("mt/a"), name("b")));
    assert_eq!(found.servers[0].server, server("h:9"));
}

#[test]
fn s56_three_tables_on_one_name_are_equal_and_any_of_them_answers() {
    let net = Net::new(&["root:1", "a:1", "b:1", "c:1"]);
    for table in ["a:1", "b:1//", "/c:1"] {
        net.mount("root:1", "mt", table, Kind::Table);
    }
    for table in ["a:1", "b:1", "c:1"] {
        net.mount(table, "x", "h:1", Kind::Server);
    }
    let resolver = net.resolver(&["root:1"]);
    assert_eq!(responsible(&resolver, "mt/x"), ["c:1 x", "b:1 x", "a:1 x"]);
    net.down("c:1");
    net.down("a:1");
    assert_eq!(block_on(resolver.resolve(&name("mt/x"))).unwrap().servers[0].server, server("h:1"));
    assert_eq!(glob(&resolver, "mt/*"), "mt/x");
    net.down("b:1");
    assert!(matches!(block_on(resolver.resolve(&name("mt/x"))), Err(Failure::Unreachable { .. })));
    assert_eq!(glob(&resolver, "mt/*"), "!mt", "what could not be looked at is told");
}

#[test]
fn a_table_that_is_mounted_with_a_suffix_is_asked_below_it() {
    let net = Net::new(&["root:1", "mt:1"]);
    net.mount("root:1", "users", "mt:1/home", Kind::Table);
    net.mount("mt:1", "home/ann/phone", "h:1", Kind::Server);
    let resolver = net.resolver(&["root:1"]);
    let found = block_on(resolver.resolve(&name("users/ann/phone/x"))).unwrap();
    assert_eq!((found.mount, found.suffix), (name("users/ann/phone"), name("x")));
    assert_eq!(glob(&resolver, "users/..."), "users users/ann users/ann/phone");
    assert_eq!(responsible(&resolver, "users/bob"), ["mt:1 home/bob"]);
}

#[test]
fn s59_globs_find_names_across_tables() {
    let (net, resolver) = three_deep();
    net.mount("root:1", "mt2", "mt:1", Kind::Table);
    net.mount("root:1", "baz", "p:2", Kind::Server);
    net.mount("mt:1", "foo/bar", "p:3", Kind::Server);
    let deep = "mt/inner mt/inner/joke1 mt/inner/joke1/level1 mt/inner/joke1/level1/fool";
    for (pattern, expected) in [
        ("*", "baz mt mt2 plain"),
        ("x", ""),
        ("m*", "mt mt2"),
        ("mt[2,3]", "mt2"),
        ("*z", "baz"),
        ("mt/inner/j?ke1/level1/*", "mt/inner/joke1/level1/fool"),
        ("*/foo/*", "mt/foo/bar mt2/foo/bar"),
        ("*/f??/*r", "mt/foo/bar mt2/foo/bar"),
        ("mt/inner/...", deep),
        ("mt/***", &format!("mt mt/foo mt/foo/bar {deep}")),
    ] {
        assert_eq!(glob(&resolver, pattern), expected, "{pattern}");
    }
    let all = format!("mt mt/foo mt/foo/bar {deep}");
    // A table that is mounted on two names has everything below both.
    assert_eq!(glob(&resolver, "..."), format!(". baz {all} {} plain", all.replace("mt", "mt2")));
    // The same from another root, which is a rooted pattern.
    let inner = net.resolver(&[]).at(&server("/mt:1/inner")).unwrap();
    assert_eq!(glob(&inner, "*/level1/*"), "joke1/level1/fool");
}

#[test]
fn s60_a_plain_server_is_never_asked_for_what_lies_below_it() {
    let net = Net::new(&["root:1", "service:1"]);
    net.mount("root:1", "stuff", "service:1", Kind::Server);
    let resolver = net.resolver(&["root:1"]);
    for pattern in ["stuff", "*", "***", "stuff/glob", "stuff/*", "..."] {
        glob(&resolver, pattern);
        block_on(resolver.resolve(&name("stuff/x"))).unwrap();
        assert!(net.asked().iter().all(|asked| asked.starts_with("root:1")), "{pattern}");
    }
}

#[test]
fn s61_a_circle_of_tables_ends_for_resolutions_and_for_globs() {
    let net = Net::new(&["c1:1", "c3:1", "c4:1"]);
    net.mount("c1:1", "c2", "h:2", Kind::Server);
    net.mount("c1:1", "c3", "c3:1", Kind::Table);
    net.mount("c3:1", "c4", "c4:1", Kind::Table);
    net.mount("c4:1", "c1", "c1:1", Kind::Table);
    let resolver = net.resolver(&[]).at(&server("c1:1")).unwrap();
    let rounds = |count: usize| name(&format!("{}c2", "c3/c4/c1/".repeat(count)));
    let found = block_on(resolver.resolve(&rounds(10))).unwrap();
    assert_eq!((found.mount, found.servers[0].server.clone()), (rounds(10), server("h:2")));
    assert_eq!(block_on(resolver.resolve(&rounds(11))), Err(Failure::TooDeep { max: DEPTH_MAX }));
    assert!(block_on(resolver.responsible(&rounds(11))).is_err());
    assert_eq!(glob(&resolver, "..."), ". c2 c3 c3/c4 c3/c4/c1");
    assert_eq!(glob(&resolver, "c3/..."), "c3 c3/c4 c3/c4/c1 c3/c4/c1/c2 c3/c4/c1/c3");
    // Patterns that grow shorter on the way are bounded by themselves, and what is too deep is told.
    assert_eq!(glob(&resolver, &format!("{}*", "c3/c4/c1/".repeat(3))).split(' ').count(), 2);
    let beyond = "c3/c4/c1/".repeat(3) + "c3/c4";
    assert_eq!(glob(&resolver, &format!("{}*", "c3/c4/c1/".repeat(4))), format!("!{beyond}"));
}

#[test]
fn a_table_that_leads_to_ever_new_names_of_itself_ends() {
    let net = Net::new(&["mt:1"]);
    // Each round asks for one element more, so no question is the same as an earlier one.
    net.mount("mt:1", "x", "mt:1/x/y", Kind::Table);
    let resolver = net.resolver(&["mt:1"]);
    assert_eq!(block_on(resolver.resolve(&name("x/z"))), Err(Failure::TooDeep { max: DEPTH_MAX }));
    assert!(glob(&resolver, "...").split(' ').count() < 40);
}

#[test]
fn s62_without_roots_only_names_that_say_where_they_begin_lead_anywhere() {
    let net = Net::new(&["mt:1"]);
    net.mount("mt:1", "a", "h:1", Kind::Server);
    let nowhere = net.resolver(&[]);
    assert!(matches!(block_on(nowhere.resolve(&name("a"))), Err(Failure::Unreachable { .. })));
    assert_eq!(glob(&nowhere, "*"), "!");
    let rooted = nowhere.at(&server("/mt:1/a")).unwrap();
    assert_eq!(block_on(rooted.resolve(&Name::root())).unwrap().servers[0].server, server("h:1"));
    assert!(nowhere.at(&server("nobody:1")).is_err(), "a root that cannot be one is refused at once");
}

#[test]
fn s64_names_are_deleted_where_they_are_held() {
    let (net, resolver) = three_deep();
    let responsible = block_on(resolver.responsible(&name("mt/inner/joke1"))).unwrap();
    let (held, at) = (responsible[0].address.clone().unwrap(), responsible[0].name.clone());
    let table = net.table(&held);
    let full = table.delete(&who("x"), &at, Subtree::Keep);
    assert_eq!(full.unwrap_err().to_string(), "\"joke1\" has names below it");
    assert!(block_on(resolver.resolve(&name("mt/inner/joke1/level1/fool"))).is_ok());
    table.delete(&who("x"), &at, Subtree::Delete).unwrap();
    let gone = block_on(resolver.resolve(&name("mt/inner/joke1/level1/fool")));
    assert_eq!(gone, Err(Failure::Refused(Error::NoSuchName)));
    table.delete(&who("x"), &at, Subtree::Keep).unwrap();
}

#[test]
fn s73_permissions_above_and_in_a_table_that_is_mounted_for_ever_come_back_exactly() {
    let net = Net::new(&["root:1", "mt:1"]);
    let forever = Mount::new(name("a/b/c"), server("mt:1"), Ttl::FOREVER).with_kind(Kind::Table);
    net.table("root:1").mount(&who("service"), &forever).unwrap();
    let resolver = net.resolver(&["root:1"]);
    let open = |pattern: &str| {
        Permissions::none().allow(Tag::Admin, "service").allow(Tag::Admin, pattern).allow(Tag::Resolve, "...")
    };
    for (at, who_may, held) in [("a/b", "ann", "root:1"), ("a/b/c/d/e", "bob", "mt:1")] {
        let responsible = block_on(resolver.responsible(&name(at))).unwrap().remove(0);
        assert_eq!(responsible.address.as_deref().unwrap_or("root:1"), held);
        let table = net.table(held);
        let wanted = open(who_may);
        table.set_permissions(&who("service"), &responsible.name, &wanted, Some(Version(0))).unwrap();
        let read = table.permissions(&who(who_may), &responsible.name).unwrap();
        assert_eq!(read, Some((wanted, Version(1))), "{at}");
    }
    // Those of the outer table hold for the way through it.
    let closed = Permissions::none().allow(Tag::Admin, "service");
    net.table("root:1").set_permissions(&who("service"), &name("a/b"), &closed, None).unwrap();
    let denied = block_on(resolver.resolve(&name("a/b/c/d/e")));
    assert!(matches!(denied, Err(Failure::Refused(Error::Denied { .. }))), "{denied:?}");
}
