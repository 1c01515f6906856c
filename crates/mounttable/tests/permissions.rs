//! Scenarios about who may do what, by their numbers in the list of acceptance scenarios.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod support;

use cuttlebone_mounttable::{Error, Permissions, Subtree, Tag, Version};
use support::{Bench, name, who};

#[expect(clippy::needless_pass_by_value, reason = "reads like the calls it is put around")]
fn denied<T>(result: Result<T, Error>) -> bool {
    matches!(result, Err(Error::Denied { .. }))
}

fn open_to(tag: Tag, pattern: &str) -> Permissions {
    Permissions::none().allow(tag, pattern)
}

/// The root is managed by `root`; everybody may resolve, and `ann` and `bob` may make names.
fn shared() -> Bench {
    let root = open_to(Tag::Admin, "root")
        .allow(Tag::Read, "...")
        .allow(Tag::Create, "ann")
        .allow(Tag::Create, "bob");
    Bench::configured(&[("", root)])
}

#[test]
fn s13_a_reader_needs_read_or_resolve_on_the_mount() {
    let stuff = open_to(Tag::Admin, "root").allow(Tag::Read, "bob").allow(Tag::Mount, "service");
    let mut bench = Bench::configured(&[("", open_to(Tag::Read, "...")), ("stuff", stuff)]);
    bench.by("service").mount("stuff", "h:1", 60).unwrap();
    assert_eq!(bench.by("bob").servers("stuff/x"), ["h:1"]);
    assert!(denied(bench.by("ann").resolve("stuff/x")));
}

#[test]
fn s14_an_element_of_520_bytes_is_no_name() {
    assert!(cuttlebone_mounttable::Name::parse(&format!("a/{}", "x".repeat(520))).is_err());
}

#[test]
fn s16_permissions_are_set_against_the_version_that_was_seen() {
    let mut bench = shared();
    bench.by("ann").allow("a", &open_to(Tag::Admin, "ann")).unwrap();
    let (permissions, version) = bench.table.permissions(bench.now, &bench.who, &name("a")).unwrap().unwrap();
    let mut set =
        |expected| bench.table.set_permissions(bench.now, &who("ann"), &name("a"), &permissions, expected);
    assert_eq!(set(Some(Version(version.0 + 7))), Err(Error::Version { current: version }));
    set(Some(version)).unwrap();
    assert!(matches!(set(Some(version)), Err(Error::Version { .. })), "it has changed");
    set(None).unwrap();
}

#[test]
fn s17_setting_permissions_makes_a_name_for_those_who_may_create() {
    let mut bench = shared();
    bench.by("bob").allow("new", &open_to(Tag::Read, "...")).unwrap();
    assert!(denied(bench.by("eve").allow("other", &open_to(Tag::Read, "..."))));
    assert_eq!(bench.by("root").glob("", "*"), "new");
}

#[test]
fn s18_whoever_drops_himself_stays_admin() {
    let mut bench = shared();
    bench.by("bob").allow("mine", &open_to(Tag::Read, "...")).unwrap();
    bench.allow("mine", &open_to(Tag::Resolve, "...")).unwrap();
    let (permissions, _) = bench.table.permissions(bench.now, &bench.who, &name("mine")).unwrap().unwrap();
    assert_eq!(permissions.patterns(Tag::Admin), ["bob"]);
}

#[test]
fn s19_s33_a_pattern_counts_once_however_often_it_is_given() {
    let mut bench = shared();
    let twice = open_to(Tag::Read, "x").allow(Tag::Read, "x");
    bench.by("ann").allow("a", &twice).unwrap();
    bench.allow("a", &twice).unwrap();
    let (permissions, _) = bench.table.permissions(bench.now, &bench.who, &name("a")).unwrap().unwrap();
    assert_eq!(permissions.patterns(Tag::Read), ["x"]);
    assert_eq!(bench.table.nodes_made_by(&who("ann")), 1);
}

#[test]
fn s23_mounting_and_unmounting_need_the_right_to_mount() {
    let mut bench = shared();
    bench.by("ann").mount("a", "h:1", 60).unwrap();
    assert!(denied(bench.by("bob").mount("a", "h:2", 60)));
    assert!(denied(bench.by("bob").unmount("a", "h:1")));
    assert!(denied(bench.by("eve").mount("b", "h:2", 60)));
    assert_eq!(bench.by("eve").servers("a"), ["h:1"]);
}

#[test]
fn s31_a_template_gives_everybody_the_own_name_and_no_other() {
    let own = open_to(Tag::Admin, "%%").allow(Tag::Mount, "%%");
    let users = open_to(Tag::Create, "...").allow(Tag::Admin, "root");
    let mut bench = Bench::configured(&[
        ("", open_to(Tag::Read, "...").allow(Tag::Admin, "root")),
        ("users", users),
        ("users/%%", own),
    ]);
    bench.by("ann").mount("users/ann", "h:1", 60).unwrap();
    let before = bench.count();
    for stranger in ["ann", "root"] {
        assert!(denied(bench.by(stranger).mount("users/bob", "h:1", 60)), "{stranger}");
        assert!(denied(bench.by(stranger).mount("users/bob/deep/down", "h:1", 60)), "{stranger}");
    }
    assert_eq!(bench.count(), before, "a refusal leaves no part of the path");
}

#[test]
fn s32_the_quota_counts_the_names_one_has_made_and_gives_them_back() {
    let mut bench = Bench::configured(&[
        ("", open_to(Tag::Admin, "service").allow(Tag::Create, "...")),
        ("a/b", open_to(Tag::Read, "...")),
    ]);
    for at in 0..1000 {
        bench.by("ann").mount(&format!("m{at}"), "h:1", 60).unwrap();
    }
    assert_eq!(bench.mount("more", "h:1", 60), Err(Error::Quota { who: who("ann"), max: 1000 }));
    assert_eq!(bench.table.nodes_made_by(&who("ann")), 1000);
    assert_eq!(bench.table.nodes_made_by(&who("bob")), 0);
    assert_eq!(bench.table.nodes_made_by(&who("service")), 3);
    bench.unmount("m7", "h:1").unwrap();
    assert!(matches!(bench.mount("x/y", "h:1", 60), Err(Error::Quota { .. })), "two names do not fit");
    bench.mount("more", "h:1", 60).unwrap();
    assert_eq!(bench.table.nodes_made_by(&who("ann")), 1000);
}

#[test]
fn s34_everybody_sees_only_what_he_has_a_right_to() {
    let everybody = Permissions::none().allow(Tag::Read, "...").allow(Tag::Admin, "root");
    let mut bench = Bench::configured(&[
        ("", everybody.clone()),
        ("one", everybody.clone()),
        ("users", everybody),
        ("a", open_to(Tag::Admin, "root").allow(Tag::Read, "ann")),
        ("stuff", open_to(Tag::Admin, "root").allow(Tag::Read, "bob")),
    ]);
    for (user, seen) in [("root", "a one stuff users"), ("ann", "a one users"), ("bob", "one stuff users")] {
        assert_eq!(bench.by(user).glob("", "*"), seen);
        assert_eq!(bench.by(user).glob("", "*/..."), seen);
    }
}

#[test]
fn s36_a_name_with_permissions_of_its_own_stays_when_it_is_empty() {
    let mut bench = Bench::new();
    bench.allow("one/bright", &open_to(Tag::Read, "...")).unwrap();
    bench.mount("one/bright/day", "h:1", 60).unwrap();
    bench.unmount("one/bright/day", "h:1").unwrap();
    assert_eq!(bench.glob("", "*/..."), "one one/bright");
}

#[test]
fn s38_a_name_is_deleted_by_its_owner_or_by_the_admin_of_its_directory() {
    for (deleter, done) in [("eve", false), ("ann", true), ("root", true)] {
        let mut bench = shared();
        bench.by("ann").mount("dir/name", "h:1", 60).unwrap();
        assert_eq!(bench.by(deleter).delete("dir/name", Subtree::Keep).is_ok(), done, "{deleter}");
        assert_eq!(bench.by("ann").servers("dir/name").is_empty(), done, "{deleter}");
    }
}

#[test]
fn s42_a_key_of_the_configuration_that_is_no_name_is_refused() {
    let config = [(format!("x/{}", "y".repeat(600)), Permissions::none())].into_iter().collect();
    let made = cuttlebone_mounttable::Table::with_permissions(
        cuttlebone_mounttable::Limits::default(),
        &who("service"),
        &config,
    );
    assert!(matches!(made, Err(Error::Name(_))));
}

#[test]
fn s48_names_between_configured_ones_inherit_exactly() {
    let root = open_to(Tag::Admin, "root").allow(Tag::Read, "...");
    let leaf = open_to(Tag::Admin, "ann");
    let mut bench = Bench::configured(&[("", root.clone()), ("x/y/z", leaf.clone())]);
    let mut at =
        |text: &str| bench.table.permissions(bench.now, &who("root"), &name(text)).unwrap().unwrap().0;
    assert_eq!([at("x"), at("x/y")], [root.clone(), root]);
    assert_eq!(at("x/y/z"), leaf);
}

#[test]
fn s74_a_closed_name_resolves_for_its_owner_only() {
    let mut bench = shared();
    bench.by("ann").allow("closed", &Permissions::none()).unwrap();
    bench.mount("closed", "h:1", 60).unwrap();
    assert_eq!(bench.servers("closed"), ["h:1"]);
    assert!(denied(bench.by("eve").resolve("closed")));
}

#[test]
fn every_node_on_the_path_is_checked_by_its_own_name() {
    // The first version checked `/b` where it meant `/a/b`.
    let mut bench = shared();
    bench.by("ann").allow("a/b", &open_to(Tag::Admin, "ann")).unwrap();
    bench.by("bob").allow("b", &open_to(Tag::Read, "...")).unwrap();
    bench.by("ann").mount("a/b/c", "h:1", 60).unwrap();
    assert!(denied(bench.by("eve").resolve("a/b/c")));
}

#[test]
fn a_mount_one_may_see_but_not_resolve_has_no_servers_in_a_glob() {
    let mut bench = shared();
    bench.by("ann").allow("a", &open_to(Tag::Mount, "bob")).unwrap();
    bench.mount("a", "h:1", 60).unwrap();
    let found = bench.by("bob").found("", "a").unwrap();
    assert_eq!(found.len(), 1);
    assert!(found[0].servers.is_empty());
    assert_eq!(bench.by("eve").glob("", "*"), "");
}

#[test]
fn mounting_does_not_delete_what_somebody_has_set_permissions_on() {
    let mut bench = Bench::new();
    bench.allow("a/b/c", &open_to(Tag::Admin, "ann")).unwrap();
    assert_eq!(bench.mount("a", "h:1", 60), Err(Error::NotEmpty { name: name("a") }));
    assert_eq!(bench.count(), (4, 0));
}
