//! The scenarios of the mount tables that went before, by their numbers in the list of acceptance scenarios, and the
//! ones that they lacked.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod support;

use core::time::Duration;

use cuttlebone_mounttable::{
    Before, Epoch, Error, Kind, Limits, Mount, Place, Placement, Subtree, Table, Ttl, Which,
};
use support::{Bench, name, server, ttl, who};

#[test]
fn s11_s12_the_suffix_below_a_mount_arrives_unchanged() {
    let mut bench = Bench::new();
    bench.mount("stuff", "h:1", 60).unwrap();
    for (asked, suffix) in [
        ("stuff/the/rain", "the/rain"),
        ("/stuff/in/spain", "in/spain"),
        ("stuff//falls", "falls"),
        ("stuff", ""),
        ("stuff/unknown/to/the/service", "unknown/to/the/service"),
    ] {
        let resolved = bench.resolve(asked).unwrap();
        assert_eq!((resolved.mount, resolved.suffix), (name("stuff"), name(suffix)), "{asked}");
    }
    assert_eq!(bench.resolve("stuf"), Err(Error::NoSuchName));
    assert_eq!(bench.resolve("stuffing"), Err(Error::NoSuchName));
}

#[test]
fn s15_one_server_on_several_names_and_doubled_slashes_are_single() {
    let mut bench = Bench::new();
    for at in ["a/b", "x/y", "alpha//beta"] {
        bench.mount(at, "h:1", 60).unwrap();
    }
    for at in ["a/b", "x/y", "alpha/beta", "alpha//beta"] {
        assert_eq!(bench.servers(at), ["h:1"], "{at}");
    }
}

#[test]
fn s20_s21_unmounting_all_servers_or_the_only_one_ends_the_name() {
    for what in ["", "h:1"] {
        let mut bench = Bench::new();
        bench.mount("a/b", "h:1", 60).unwrap();
        bench.unmount("a/b", what).unwrap();
        assert_eq!(bench.resolve("a/b"), Err(Error::NoSuchName));
        assert_eq!(bench.count(), (1, 0));
        // Again, and of what never was: what was wanted is so.
        bench.unmount("a/b", what).unwrap();
        bench.unmount("never", "x:9").unwrap();
    }
}

#[test]
fn s22_a_ttl_of_an_hour_lasts_an_hour() {
    let mut bench = Bench::new();
    bench.mount("a", "h:1", 3600).unwrap();
    bench.pass(3600);
    assert_eq!(bench.servers("a"), ["h:1"], "alive at the very deadline");
    bench.pass(4);
    assert_eq!(bench.resolve("a"), Err(Error::NoSuchName));
}

fn three() -> Bench {
    let mut bench = Bench::new();
    for at in ["one/bright/day", "in/the/middle", "of/the/night"] {
        bench.mount(at, "h:1", 60).unwrap();
    }
    bench
}

#[test]
fn s24_to_s27_globs_find_what_they_say() {
    let mut bench = three();
    let all = ". in in/the in/the/middle of of/the of/the/night one one/bright one/bright/day";
    for (pattern, expected) in [
        ("*", "in of one"),
        ("...", all),
        ("*/...", &all[2..]),
        ("one/...", "one one/bright one/bright/day"),
        ("of/the/night/two/dead/boys", "of/the/night"),
        ("*/the", "in/the of/the"),
        ("*/the/...", "in/the in/the/middle of/the of/the/night"),
        ("o*", "of one"),
        ("", "."),
        ("nothing/*", ""),
        ("***", all),
    ] {
        assert_eq!(bench.glob("", pattern), expected, "{pattern}");
    }
    assert!(bench.found("nothing", "*").is_err());
}

#[test]
fn s28_a_glob_below_a_mount_answers_with_the_server_and_the_rest() {
    let mut bench = three();
    let found = bench.found("of/the/night/two/dead", "*").unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].servers[0].server.as_str(), "h:1/two/dead");
    assert_eq!(found[0].place, Place::MountPoint);
}

#[test]
fn s29_five_directories_of_25_mounts_are_131_names() {
    let mut bench = Bench::new();
    for at in 0..125 {
        bench.mount(&format!("d{}/m{at}", at % 5), "h:1", 60).unwrap();
    }
    assert_eq!(bench.found("", "...").unwrap().len(), 131);
}

#[test]
fn s35_the_last_unmount_takes_the_useless_ancestors() {
    let mut bench = Bench::new();
    bench.mount("one/bright/day", "h:1", 60).unwrap();
    bench.unmount("one/bright/day", "h:1").unwrap();
    assert_eq!(bench.glob("", "*/..."), "");
    assert_eq!(bench.count(), (1, 0));
}

#[test]
fn s37_a_name_with_children_is_deleted_only_as_a_subtree() {
    let mut bench = three();
    assert_eq!(bench.delete("of", Subtree::Keep), Err(Error::NotEmpty { name: name("of") }));
    assert_eq!(bench.servers("of/the/night"), ["h:1"]);
    bench.delete("of", Subtree::Delete).unwrap();
    assert_eq!(bench.resolve("of/the/night"), Err(Error::NoSuchName));
    assert_eq!(bench.delete("", Subtree::Delete), Err(Error::Root));
    bench.delete("unknown", Subtree::Keep).unwrap();
}

#[test]
fn s40_only_what_was_refreshed_outlives_its_ttl() {
    let mut bench = Bench::new();
    for at in ["a1/b1", "a1/b2", "a2/b1", "a2/b2/c"] {
        bench.mount(at, "h:1", 80).unwrap();
    }
    bench.pass(40);
    assert_eq!(bench.mount("a2/b2/c", "h:1", 80).unwrap().before, Before::Present);
    bench.pass(44);
    assert_eq!(bench.glob("", "*/..."), "a2 a2/b2 a2/b2/c");
}

#[test]
fn s41_a_glob_can_begin_at_a_name() {
    let mut bench = Bench::new();
    bench.mount("a2/b2/c", "h:1", 80).unwrap();
    assert_eq!(bench.glob("a2/b2", "*"), "c");
}

#[test]
fn s43_counters_follow_mounts_unmounts_and_deletes() {
    let mut bench = Bench::new();
    for at in 0..10 {
        bench.mount(&format!("n{at}"), "h:1", 60).unwrap();
    }
    for at in (0..10).rev() {
        assert_eq!(bench.count(), (at + 2, at + 1));
        if at % 2 == 0 {
            bench.unmount(&format!("n{at}"), "h:1").unwrap();
        } else {
            bench.delete(&format!("n{at}"), Subtree::Keep).unwrap();
        }
    }
    assert_eq!(bench.count(), (1, 0));
}

#[test]
fn s44_deleting_in_the_middle_of_a_deep_tree_keeps_the_counters_true() {
    let mut bench = Bench::new();
    bench.mount("1/2/3/4/5a/6/7/8", "h:1", 60).unwrap();
    bench.mount("1/2/3/4/5b/6/7/8", "h:1", 60).unwrap();
    assert_eq!(bench.count(), (13, 2));
    bench.allow("1/2/3/4", &cuttlebone_mounttable::Permissions::none()).unwrap();
    bench.delete("1/2/3/4/5a", Subtree::Delete).unwrap();
    bench.delete("1/2/3/4/5b", Subtree::Delete).unwrap();
    assert_eq!(bench.count(), (5, 0));
    bench.delete("1", Subtree::Delete).unwrap();
    assert_eq!(bench.count(), (1, 0));
}

#[test]
fn s45_five_servers_on_two_names_go_at_once_or_one_by_one() {
    let mut bench = Bench::new();
    for port in 1..=5 {
        bench.mount("a", &format!("h:{port}"), 60).unwrap();
        bench.mount("b", &format!("h:{port}"), 60).unwrap();
        assert_eq!(bench.count(), (3, 2 * port));
    }
    bench.unmount("a", "").unwrap();
    for port in 1..=5 {
        assert_eq!(bench.count(), (2, 6 - port));
        bench.unmount("b", &format!("h:{port}")).unwrap();
    }
    assert_eq!(bench.count(), (1, 0));
}

#[test]
fn s46_mounting_on_an_inner_node_deletes_what_is_below() {
    let mut bench = Bench::new();
    bench.mount("1/2/3/4/5/6/7", "h:1", 60).unwrap();
    bench.mount("1/2/3/4/5", "h:2", 60).unwrap();
    assert_eq!(bench.count(), (6, 1));
    assert_eq!(bench.resolve("1/2/3/4/5/6/7").unwrap().suffix, name("6/7"));
    assert_eq!(bench.mount("1/2/3/4/5/6", "h:3", 60), Err(Error::Covered { mount: name("1/2/3/4/5") }));
}

#[test]
fn s47_an_expired_mount_does_not_resolve_and_is_not_counted() {
    let mut bench = Bench::new();
    bench.mount("a/b", "h:1", 5).unwrap();
    bench.pass(6);
    assert_eq!(bench.resolve("a/b"), Err(Error::NoSuchName));
    assert_eq!(bench.count(), (1, 0));
}

#[test]
fn the_age_of_a_mount_counts_through_refreshes_and_begins_anew_after_a_gap() {
    let mut bench = Bench::new();
    let age = |bench: &mut Bench| bench.resolve("a").unwrap().servers[0].age.unwrap().as_secs();
    bench.mount("a", "h:1", 15).unwrap();
    for passed in [10, 20, 30] {
        bench.pass(10);
        bench.mount("a", "h:1", 15).unwrap();
        assert_eq!(age(&mut bench), passed);
    }
    bench.pass(16);
    bench.mount("a", "h:1", 15).unwrap();
    assert_eq!(age(&mut bench), 0);
}

#[test]
fn s49_servers_of_one_name_expire_one_by_one() {
    let mut bench = Bench::new();
    for (port, secs) in [(1, 0), (2, 5), (3, 10), (4, 15)] {
        bench.mount("a", &format!("h:{port}"), secs).unwrap();
    }
    bench.pass(6);
    // The original took a time to live of 0 for "already over" here and for "ten years" elsewhere.
    assert_eq!(bench.servers("a"), ["h:4", "h:3", "h:1"]);
    bench.unmount("a", "h:3").unwrap();
    let resolved = bench.resolve("a").unwrap();
    assert_eq!(resolved.servers[0].left, Some(Duration::from_secs(9)));
    assert_eq!(resolved.servers[1].left, None, "for ever");
}

#[test]
fn s39_servers_without_a_port_are_no_servers() {
    for (text, ok) in
        [("@6@tcp@h:1@@id@s@@@/sub", true), ("/h:1", true), ("h:1", true), ("/h", false), ("@h:1", false)]
    {
        assert_eq!(cuttlebone_mounttable::Server::parse(text).is_ok(), ok, "{text}");
    }
}

#[test]
fn s65_a_leaf_is_told_by_resolve_and_by_glob() {
    let mut bench = Bench::new();
    bench.put(&Mount::new(name("a/leaf"), server("h:1"), ttl(60)).with_kind(Kind::Leaf)).unwrap();
    assert_eq!(bench.resolve("a/leaf").unwrap().kind, Kind::Leaf);
    assert_eq!(bench.found("", "a/*").unwrap()[0].kind, Kind::Leaf);
    assert_eq!(bench.found("", "a").unwrap()[0].kind, Kind::Table, "an inner name is served by this table");
}

#[test]
fn another_kind_is_refused_also_with_replace_until_the_mount_has_expired() {
    let mut bench = Bench::new();
    let mount = |kind| Mount::new(name("a"), server("h:1"), ttl(10)).with_kind(kind);
    bench.put(&mount(Kind::Server)).unwrap();
    let error = Error::KindDiffers { name: name("a"), mounted: Kind::Server, asked: Kind::Table };
    assert_eq!(bench.put(&mount(Kind::Table)), Err(error.clone()));
    assert_eq!(bench.put(&mount(Kind::Table).with_placement(Placement::Replace)), Err(error));
    bench.pass(11);
    bench.put(&mount(Kind::Table)).unwrap();
    assert_eq!(bench.resolve("a").unwrap().kind, Kind::Table);
}

#[test]
fn replacing_shows_the_old_servers_or_the_new_one_in_one_step() {
    let mut bench = Bench::new();
    bench.mount("a", "h:1", 60).unwrap();
    bench.mount("a", "h:2", 60).unwrap();
    let before = bench.table.revision();
    bench.put(&Mount::new(name("a"), server("h:3"), ttl(60)).with_placement(Placement::Replace)).unwrap();
    assert_eq!(bench.servers("a"), ["h:3"]);
    let changes = bench.table.changes_since(before, 1).unwrap();
    assert_eq!(changes.len(), 3);
    assert!(changes.iter().all(|change| change.revision == changes[0].revision));
}

#[test]
fn a_refresh_moves_a_server_to_the_front_and_is_no_change() {
    let mut bench = Bench::new();
    bench.mount("a", "h:1", 60).unwrap();
    bench.mount("a", "h:2", 60).unwrap();
    let before = bench.table.revision();
    bench.mount("a", "h:1", 60).unwrap();
    assert_eq!(bench.servers("a"), ["h:1", "h:2"]);
    assert!(bench.table.changes_since(before, 9).unwrap().is_empty());
}

#[test]
fn a_shorter_ttl_counts_at_once() {
    let mut bench = Bench::new();
    bench.mount("a", "h:1", 3600).unwrap();
    bench.mount("a", "h:1", 5).unwrap();
    bench.pass(6);
    assert_eq!(bench.count(), (1, 0));
}

#[test]
fn a_ttl_below_a_second_is_no_eternity() {
    let mut bench = Bench::new();
    let short = Ttl::new(Duration::from_millis(300)).unwrap();
    bench.put(&Mount::new(name("a"), server("h:1"), short)).unwrap();
    bench.pass(1);
    assert_eq!(bench.count(), (1, 0));
}

#[test]
fn an_old_incarnation_neither_removes_nor_replaces_the_entry_of_a_new_one() {
    let mut bench = Bench::new();
    let mount = |epoch| Mount::new(name("a"), server("h:1"), ttl(60)).with_epoch(Epoch(epoch));
    bench.put(&mount(7)).unwrap();
    bench.put(&mount(8)).unwrap();
    assert_eq!(bench.put(&mount(7)), Err(Error::Fenced { newer: Epoch(8) }));
    let late = Which::One { server: server("h:1"), epoch: Epoch(7) };
    let refused = bench.table.unmount(bench.now, &bench.who, &name("a"), &late);
    assert_eq!(refused, Err(Error::Fenced { newer: Epoch(8) }));
    assert_eq!(bench.servers("a"), ["h:1"]);
    let own = Which::One { server: server("h:1"), epoch: Epoch(8) };
    bench.table.unmount(bench.now, &bench.who, &name("a"), &own).unwrap();
    assert_eq!(bench.count(), (1, 0));
}

#[test]
fn the_root_is_no_mount_point_and_asking_for_it_panics_nowhere() {
    let mut bench = Bench::new();
    for root in ["", "/", "//"] {
        assert_eq!(bench.mount(root, "h:1", 60), Err(Error::Root));
        assert_eq!(bench.unmount(root, ""), Ok(()));
        assert_eq!(bench.unmount(root, "h:1"), Ok(()));
        assert_eq!(bench.resolve(root), Err(Error::Root));
        assert_eq!(bench.delete(root, Subtree::Delete), Err(Error::Root));
        assert_eq!(bench.glob(root, ""), ".");
    }
    assert_eq!(bench.count(), (1, 0));
}

#[test]
fn limits_refuse_and_leave_nothing_behind() {
    let mut limits = Limits::private();
    limits.nodes_max = 5;
    limits.servers_per_name_max = 2;
    let mut bench = Bench::with(Table::new(limits, who("service")));
    bench.mount("a/b", "h:1", 60).unwrap();
    assert!(matches!(bench.mount("x/y/z", "h:1", 60), Err(Error::Full { limit: "nodes", max: 5 })));
    assert_eq!(bench.count(), (3, 1));
    bench.mount("a/b", "h:2", 60).unwrap();
    assert!(matches!(bench.mount("a/b", "h:3", 60), Err(Error::Full { .. })));
    assert_eq!(bench.mount("a/b", "h:1", 60).unwrap().before, Before::Present, "a refresh needs no room");
    bench.put(&Mount::new(name("a/b"), server("h:3"), ttl(60)).with_placement(Placement::Replace)).unwrap();
    assert_eq!(bench.servers("a/b"), ["h:3"]);
}

#[test]
fn a_name_with_escapes_is_a_name_like_any_other() {
    let mut bench = Bench::new();
    let element = cuttlebone_mounttable::escape_element("a/b%");
    bench.mount(&format!("x/{element}"), "h:1", 60).unwrap();
    assert_eq!(bench.servers("x/a%2Fb%25"), ["h:1"]);
    assert_eq!(bench.resolve("x/a/b%"), Err(Error::NoSuchName));
}
