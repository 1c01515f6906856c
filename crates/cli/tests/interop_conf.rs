//! Configuration files, read by us and by Ceph's own `ceph-conf`.
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::fs;
use std::process::Command;

use cuttlebone_cli::conf::Conf;

/// What `ceph-conf` finds; `Err` if it refuses the file.
fn ceph_conf(text: &str, key: &str) -> Result<Option<String>, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.conf");
    fs::write(&path, text).unwrap();
    let mut command = Command::new("ceph-conf");
    command.env_remove("CEPH_ARGS").arg("-c").arg(&path).args(["-n", "client.admin", "--lookup", key]);
    let output = command
        .output()
        .expect("ceph-conf is installed; if not: `cargo xtask setup`, or `apt-get install ceph-common`");
    let errors = String::from_utf8(output.stderr).unwrap();
    if errors.contains("parse error") {
        return Err(errors);
    }
    let value = String::from_utf8(output.stdout).unwrap();
    Ok(output.status.success().then(|| value.trim_end_matches('\n').into()))
}

/// What we find.
fn ours(text: &str, key: &str) -> Result<Option<String>, String> {
    let conf: Conf = text.parse().map_err(|error| format!("{error}"))?;
    let value = conf.get(["client.admin", "client", "global"], key);
    let variable = |name: &str| match name {
        "cluster" => Some("x".into()),
        "type" => Some("client".into()),
        "id" | "num" => Some("admin".into()),
        "name" => Some("client.admin".into()),
        _ => None,
    };
    Ok(value.map(|value| Conf::expand(value, &variable)))
}

fn check(text: &str, keys: &[&str]) {
    for key in keys {
        match (ceph_conf(text, key), ours(text, key)) {
            (Ok(theirs), Ok(ours)) => assert_eq!(ours, theirs, "{key} in {text:?}"),
            (Err(_), Err(_)) => {}
            (theirs, ours) => panic!("{key} in {text:?}: ceph-conf {theirs:?}, we {ours:?}"),
        }
    }
}

#[test]
fn keys_with_blanks_and_underscores_are_one_and_dashes_are_another() {
    check("[global]\nfoo bar = a b\nx-y = 1\n", &["foo_bar", "foo bar", "x_y", "x-y", "x y"]);
    check("[global]\n  foo\t  bar  =1\n", &["foo_bar"]);
    check("[global]\nFoo = 1\n", &["foo", "Foo"]);
}

#[test]
fn comments_start_anywhere_and_can_be_escaped() {
    check("\n# c\n; d\n  # e\n[global] # f\nfoo = a # b\nbar = a;b\n#foo = 2\n", &["foo", "bar"]);
    check("[global]\nfoo = a \\# b\nbar = a \\; b\\\\c\\d\n", &["foo", "bar"]);
    check("[global]\n# comment \\\nbar = 2\n", &["bar"]);
    check("[global]\nfoo # = 1\n", &["foo"]);
}

#[test]
fn a_backslash_at_the_end_joins_lines() {
    check("[global]\nfoo = a \\\n   b\nbar = 1\n", &["foo", "bar"]);
    check("[global]\nfoo = \\\n 1\n", &["foo"]);
    check("[global]\nfoo = a\\\n\\\nb\n", &["foo"]);
}

#[test]
fn quotes_protect_blanks_but_not_comments() {
    check("[global]\nfoo = \"a b\"\nbar = 'q\"q' # c\nbaz = a \"b\" c\n", &["foo", "bar", "baz"]);
    check("[global]\nfoo = \"a # b\"\n", &["foo"]);
    check("[global]\nfoo = \"a \\# \\\" b\"\n", &["foo"]);
    check("[global]\nfoo = \"a\" b\n", &["foo"]);
    check("[global]\nfoo = \"unfinished\n", &["foo"]);
    check("[global]\nfoo = ''\nbar =\n", &["foo", "bar"]);
    check("[global]\nfoo = \"  a  \"\n", &["foo"]);
}

#[test]
fn the_nearest_section_and_the_last_line_count() {
    let text = "[client]\nfoo = 3\n[global]\nfoo = 1\nbar = 2\n[client.admin]\nbaz = 4\n[osd]\nbar = 5\n";
    check(text, &["foo", "bar", "baz", "none"]);
    check("[global]\nfoo = 1\nfoo = 2\n[global]\nbar = 3\nfoo=5\n", &["foo", "bar"]);
    check("[ global ]\nfoo = 1\n", &["foo"]);
    check("[global]\nfoo = a=b\n", &["foo"]);
    check("[global]\r\nfoo = 1\r\nbar = 2\r\n", &["foo", "bar"]);
}

#[test]
fn variables_are_replaced() {
    check("[global]\nfoo = $cluster-$type.$id $name ${name}x $nosuch ${nosuch} $ $$\n", &["foo"]);
}

#[test]
fn what_is_not_a_file_is_refused_by_both() {
    for text in [
        "[global\nfoo = 1\n",
        "[global]\nfoo\n",
        "[global]\n = 1\n",
        "[x] = 1\n",
        "[]\n",
        "foo = 1\n[global]\nfoo = 2\n",
        "[global]\nfoo[1] = 2\n",
    ] {
        assert!(ceph_conf(text, "foo").is_err() && ours(text, "foo").is_err(), "{text:?}");
    }
}

#[test]
fn we_forgive_a_missing_last_line_break_which_ceph_does_not() {
    let text = "[global]\nfoo = 1";
    assert!(ceph_conf(text, "foo").is_err());
    assert_eq!(ours(text, "foo"), Ok(Some("1".into())));
}
