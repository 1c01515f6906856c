//! Configurations that make no sense: each gives a readable line with where it is, the key and what to do.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use cuttlebone_node::config::{Config, Override};

/// What every case starts from; it makes sense.
const GOOD: &str = r#"
[node]
name = "n1"
[links]
listen = "127.0.0.1:0"
replicas = true
[bucket]
dir = "DIR/bucket"
[source.monsync]
monitors = ["v2:127.0.0.1:3300/0"]
[http]
listen = "127.0.0.1:0"
[tokens]
dir = "DIR/tokens"
[publish]
names = ["cell/store"]
[stop]
flush_s = 60
"#;

/// All faults, one a line.
fn faults(text: &str) -> Vec<String> {
    let read = Config::parse(text, "node.toml", &[]).and_then(|config| config.check());
    read.err().unwrap_or_default().iter().map(ToString::to_string).collect()
}

#[test]
#[expect(clippy::too_many_lines, reason = "most of it is the table of cases")]
fn every_fault_is_one_line_with_its_place_its_key_and_a_hint() {
    let dir = tempfile::tempdir().unwrap();
    let good = GOOD.replace("DIR", &dir.path().display().to_string());
    let path = |name: &str| dir.path().join(name).display().to_string();
    assert_eq!(faults(&good), Vec::<String>::new());
    fs::write(dir.path().join("file"), "x").unwrap();
    fs::write(dir.path().join("open-token"), "secret").unwrap();
    fs::write(dir.path().join("empty-token"), " \n").unwrap();
    let mode = |name: &str, mode| fs::set_permissions(path(name), fs::Permissions::from_mode(mode)).unwrap();
    mode("open-token", 0o644);
    mode("empty-token", 0o600);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let (bucket, tokens) = (path("bucket"), path("tokens"));
    // What is replaced, by what, and what the line has to say, in this order.
    let cases: &[(&str, &str, &[&str])] = &[
        ("[node]", "[node", &["node.toml:2", "not TOML"]),
        (
            "name = \"n1\"",
            "nmae = \"n1\"",
            &["node.toml:3: node.nmae", "no such key", "did you mean node.name?"],
        ),
        ("[stop]", "[stops]", &["node.toml:18: stops.flush_s", "no such key", "stop.flush_s"]),
        ("[stop]", "[extra]\nx = 1\n[stop]", &["node.toml:18: extra.x", "no such key", "docs/node.md"]),
        ("name = \"n1\"", "name = 7", &["node.toml:3: node.name", "a number where text"]),
        ("name = \"n1\"", "name = \"a b\"", &["node.toml:3: node.name", "not a name", "letters"]),
        ("name = \"n1\"", "name = \"\"", &["node.toml:3: node.name", "not a name"]),
        (
            "replicas = true",
            "replicas = \"yes\"",
            &["node.toml:6: links.replicas", "text where true or false"],
        ),
        (
            "listen = \"127.0.0.1:0\"\nreplicas",
            "listen = \"nowhere\"\nreplicas",
            &["node.toml:5: links.listen", "nowhere", "10.0.0.9:3300"],
        ),
        (
            "listen = \"127.0.0.1:0\"\nreplicas",
            "listen = \"0.0.0.0:0\"\nreplicas",
            &["node.toml:5: links.listen", "under which address", "links.advertise"],
        ),
        (
            "listen = \"127.0.0.1:0\"\nreplicas",
            "replicas",
            &["links.listen", "has to be set", "10.0.0.9:3300"],
        ),
        (
            "listen = \"127.0.0.1:0\"\nreplicas",
            &format!("listen = \"{taken}\"\nreplicas"),
            &["node.toml:5: links.listen", "in use", "running already"],
        ),
        (
            "listen = \"127.0.0.1:0\"\nreplicas",
            "listen = \"192.0.2.1:3300\"\nreplicas",
            &["node.toml:5: links.listen", "this machine does not have"],
        ),
        (
            "replicas = true",
            "replicas = false",
            &["links.listen", "nobody would be served", "links.replicas"],
        ),
        (
            "replicas = true",
            "replicas = true\nprovide = true",
            &["node.toml:7: links.provide", "no copy", "copy.dir"],
        ),
        (
            "replicas = true",
            "advertise = [\"osd.3\"]\nreplicas = true",
            &["node.toml:6: links.advertise", "osd.3", "v2:10.0.0.9:3300/0"],
        ),
        (&bucket, &path("missing/bucket"), &["node.toml:8: bucket.dir", "parent directory"]),
        (&bucket, &path("file"), &["node.toml:8: bucket.dir", "not a directory", "another path"]),
        (&bucket, "/proc/bucket", &["node.toml:8: bucket.dir", "/proc/bucket", "writable"]),
        (
            "[source.monsync]",
            "resident_bytes_max = 10\n[source.monsync]",
            &["node.toml:9: bucket.resident_bytes_max", "outside its range", "from 1048576"],
        ),
        (
            "[source.monsync]",
            "checkpoint_items_max = -1\n[source.monsync]",
            &["node.toml:9: bucket.checkpoint_items_max", "outside its range", "from 10 to 1000000"],
        ),
        (
            "[source.monsync]",
            "log_bytes_max = 1.5\n[source.monsync]",
            &["node.toml:9: bucket.log_bytes_max", "a broken number where a number"],
        ),
        (
            "monitors = [\"v2:127.0.0.1:3300/0\"]",
            "monitors = []",
            &["node.toml:10: source.monsync.monitors", "empty list"],
        ),
        (
            "monitors = [\"v2:127.0.0.1:3300/0\"]",
            "monitors = \"v2:127.0.0.1:3300/0\"",
            &["node.toml:10: source.monsync.monitors", "text where a list"],
        ),
        (
            "monitors = [\"v2:127.0.0.1:3300/0\"]",
            "monitors = [\"mon a\"]",
            &["node.toml:10: source.monsync.monitors", "mon a", "v2:10.0.0.1:3300/0"],
        ),
        (
            "monitors = [\"v2:127.0.0.1:3300/0\"]",
            "every_ms = 100",
            &["source.monsync.monitors", "has to be set"],
        ),
        (
            "monitors = [\"v2:127.0.0.1:3300/0\"]",
            "monitors = [\"v2:127.0.0.1:3300/0\"]\nevery_ms = 1",
            &["node.toml:11: source.monsync.every_ms", "from 10 to 3600000 milliseconds"],
        ),
        (
            "[http]",
            "[source.follow]\norigin = \"127.0.0.1:1\"\n[http]",
            &["node.toml:12: source.follow.origin", "another source already"],
        ),
        (
            "[http]\nlisten = \"127.0.0.1:0\"",
            "[http]\nlisten = \"127.0.0.1\"",
            &["node.toml:12: http.listen", "not an address", "HOST:PORT"],
        ),
        (
            "[http]\nlisten = \"127.0.0.1:0\"",
            "[http]\nlisten = \"0.0.0.0:0\"",
            &["node.toml:12: http.listen", "other machines", "http.bearer_file"],
        ),
        (
            "[http]\nlisten = \"127.0.0.1:0\"",
            &format!("[http]\nlisten = \"{taken}\""),
            &["node.toml:12: http.listen", "in use", "running already"],
        ),
        (
            "[http]\nlisten = \"127.0.0.1:0\"",
            &format!("[http]\nlisten = \"unix:{}\"", path("none/socket")),
            &["node.toml:12: http.listen", "directory has to be there"],
        ),
        (
            "[tokens]",
            &format!("bearer_file = \"{}\"\n[tokens]", path("none")),
            &["node.toml:13: http.bearer_file", "No such file", "mode 0600"],
        ),
        (
            "[tokens]",
            &format!("bearer_file = \"{}\"\n[tokens]", path("open-token")),
            &["node.toml:13: http.bearer_file", "others can read it", "mode 0600"],
        ),
        (
            "[tokens]",
            &format!("bearer_file = \"{}\"\n[tokens]", path("empty-token")),
            &["node.toml:13: http.bearer_file", "empty"],
        ),
        (&tokens, &path("file"), &["node.toml:14: tokens.dir", "not a directory"]),
        ("names = [\"cell/store\"]", "names = [\"\\u0000\"]", &["node.toml:16: publish.names", "cell/store"]),
        ("flush_s = 60", "flush_s = 0", &["node.toml:18: stop.flush_s", "from 1 to 3600 seconds"]),
    ];
    assert!(cases.len() >= 30);
    for (old, new, wanted) in cases {
        assert!(good.contains(old), "{old:?} is not in the good one");
        let found = faults(&good.replacen(old, new, 1));
        let says = |line: &String| {
            let mut rest = line.as_str();
            wanted.iter().all(|part| match rest.find(part) {
                Some(at) => {
                    rest = &rest[at + part.len()..];
                    true
                }
                None => false,
            })
        };
        assert!(found.iter().any(says), "{new:?}: {wanted:?} is not in {found:#?}");
        assert!(found.iter().all(|line| !line.contains('\n')), "one line each: {found:#?}");
    }
}

#[test]
fn the_example_makes_sense() {
    let config = Config::parse(include_str!("../../../dist/node.toml"), "node.toml", &[]).unwrap();
    assert_eq!(config.mds.unwrap().limits.entries_per_second, Some(20_000));
    let links = config.links.unwrap();
    assert_eq!((links.backfills_max, links.copies_max), (2, 4));
}

#[test]
fn a_tree_and_etcd_are_refused_by_name_where_they_do_not_fit() {
    let dir = tempfile::tempdir().unwrap();
    let good = GOOD.replace("DIR", &dir.path().display().to_string());
    let path = |name: &str| dir.path().join(name).display().to_string();
    fs::write(dir.path().join("text"), "not a certificate").unwrap();
    let etcd = |etcd: &str, publish: &str| {
        let publish = format!("names = [\"cell/store\"]\n{publish}");
        good.replace("names = [\"cell/store\"]", &publish) + &format!("[etcd]\n{etcd}\n")
    };
    let prefix = "etcd_prefix = \"cuttlebone/mounts\"";
    let tree =
        |more: &str| good.clone() + &format!("[source.mds]\nmonitors = [\"v2:127.0.0.1:3300/0\"]\n{more}\n");
    let cases: &[(String, &[&str])] = &[
        (tree(""), &["source.mds.vbucket", "is source.monsync.vbucket, too", "a vbucket of its own"]),
        (tree("vbucket = 1\nroot = \"home\""), &["node.toml:22: source.mds.root", "not a path", "/home"]),
        (tree("vbucket = 1\nwatched_max = 5000"), &["source.mds.watched_max", "from 0 to 1000 directories"]),
        (
            tree("vbucket = 1").replace("[bucket]", "[copy]"),
            &["source.mds.monitors", "nowhere to keep the tree", "set bucket.dir"],
        ),
        (
            good.replace("replicas = true", "replicas = true\nbackfills_max = 0"),
            &["node.toml:7: links.backfills_max", "from 1 to 16 replicas"],
        ),
        (etcd("endpoints = [\"127.0.0.1\"]", prefix), &["etcd.endpoints", "not a member of etcd", "2379"]),
        (etcd("endpoints = [\"ftp://a:1\"]", prefix), &["etcd.endpoints", "not a member of etcd"]),
        (etcd("endpoints = []", prefix), &["etcd.endpoints", "an empty list", "2379"]),
        (etcd("ca_file = \"x\"", prefix), &["etcd.endpoints", "has to be set", "2379"]),
        (
            etcd("endpoints = [\"127.0.0.1:1\"]", ""),
            &["etcd.endpoints", "nothing would be kept there", "publish.etcd_prefix"],
        ),
        (
            etcd("endpoints = [\"127.0.0.1:1\"]\ncert_file = \"x\"", prefix),
            &["etcd.cert_file", "go together", "set etcd.key_file"],
        ),
        (
            etcd("endpoints = [\"127.0.0.1:1\"]", &format!("{prefix}\ntable = \"127.0.0.1:2\"")),
            &["publish.etcd_prefix", "in one place", "publish.table"],
        ),
        (
            etcd("endpoints = [\"127.0.0.1:1\"]", "etcd_prefix = \"/x\""),
            &["publish.etcd_prefix", "not a place in etcd", "without slashes"],
        ),
        (
            good.replace("[stop]", &format!("{prefix}\n[stop]")),
            &["node.toml:17: publish.etcd_prefix", "not said where etcd is", "set etcd.endpoints"],
        ),
        (
            good.replace("[tokens]", "[tokens]\netcd_key = \"epochs\""),
            &["node.toml:14: tokens.etcd_key", "in one place", "tokens.dir"],
        ),
    ];
    for (text, wanted) in cases {
        let found = faults(text);
        let says = |line: &String| wanted.iter().all(|part| line.contains(part));
        assert!(found.iter().any(says), "{wanted:?} is not in {found:#?}");
    }
    // What the build can do.
    let plain = faults(&etcd("endpoints = [\"127.0.0.1:1\"]", prefix));
    let tls = format!("endpoints = [\"https://a:1\"]\nca_file = \"{}\"", path("text"));
    let tls = faults(&etcd(&tls, prefix)).join("\n");
    if cfg!(feature = "etcd") {
        assert_eq!(plain, Vec::<String>::new());
    } else {
        assert!(plain[0].contains("built without etcd") && plain[0].contains("--features etcd"), "{plain:?}");
    }
    if cfg!(feature = "etcd-tls") {
        assert!(tls.contains("etcd.ca_file") && tls.contains("not in PEM"), "{tls}");
    } else {
        assert!(tls.contains("etcd.endpoints: this program was built without"), "{tls}");
    }
}

#[test]
fn all_faults_are_told_at_once_and_in_the_order_of_the_file() {
    let text = "[node]\nnmae = \"x\"\n[stop]\nflush_s = 0\nnames_s = 1.5\n[tokens]\ndir = 3\n";
    let lines = faults(text);
    let places: Vec<_> = lines.iter().filter_map(|line| line.split(": ").next()).collect();
    assert_eq!(places[..4], ["node.toml:2", "node.toml:4", "node.toml:5", "node.toml:7"], "{lines:#?}");
}

#[test]
fn the_environment_beats_the_file_and_flags_beat_the_environment() {
    let dir = tempfile::tempdir().unwrap();
    let text = GOOD.replace("DIR", &dir.path().display().to_string());
    let environment =
        [("CUTTLEBONE_NODE_NAME", "from-env"), ("CUTTLEBONE_STOP_FLUSH_S", "9"), ("CUTTLEBONE_OTHER", "x")];
    let mut overrides =
        Override::of_environment(environment.map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert_eq!(overrides.len(), 2, "what is no key is somebody else's");
    let config = Config::parse(&text, "node.toml", &overrides).unwrap();
    assert_eq!((config.name.as_str(), config.stop.flush.as_secs()), ("from-env", 9));
    overrides.push(Override { at: "--set".into(), key: "node.name".into(), value: "from-flag".into() });
    overrides.push(Override {
        at: "--set".into(),
        key: "source.monsync.monitors".into(),
        value: "[\"x\"]".into(),
    });
    let faults = Config::parse(&text, "node.toml", &overrides).unwrap_err();
    assert!(faults[0].to_string().starts_with("--set: source.monsync.monitors: "), "{}", faults[0]);
    overrides.pop();
    assert_eq!(Config::parse(&text, "node.toml", &overrides).unwrap().name, "from-flag");
}

#[test]
fn a_difference_names_keys_and_says_which_can_change_live() {
    let text = GOOD.replace("DIR", "/x");
    let old = Config::parse(&text, "node.toml", &[]).unwrap();
    let changed = text.replace("flush_s = 60", "flush_s = 61\n[log]\nlevel = \"debug\"").replace("n1", "n2");
    let new = Config::parse(&changed, "node.toml", &[]).unwrap();
    let found: Vec<_> =
        old.difference(&new).into_iter().map(|it| (it.key, it.from, it.to, it.live)).collect();
    let row = |key: &str, from: Option<&str>, to: &str, live| {
        (key.to_owned(), from.map(String::from), Some(to.to_owned()), live)
    };
    assert_eq!(
        found,
        [
            row("log.level", None, "debug", true),
            row("node.name", Some("n1"), "n2", false),
            row("stop.flush_s", Some("60"), "61", true),
        ]
    );
    assert_eq!(old.difference(&old), []);
}
