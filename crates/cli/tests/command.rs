//! The command as scripts see it: exit status, standard output, standard error.
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::io::Write;
use std::process::{Command, Output, Stdio};

fn cuttlebone(arguments: &[&str], input: &[u8]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cuttlebone"));
    command.env_remove("CEPH_ARGS").args(arguments);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A command that refuses its arguments ends without reading.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

fn check(arguments: &[&str], input: &[u8], status: i32, expected: &str) {
    let output = cuttlebone(arguments, input);
    assert_eq!(output.status.code(), Some(status), "{arguments:?}: {output:?}");
    let (says, silent) =
        if status == 0 { (&output.stdout, &output.stderr) } else { (&output.stderr, &output.stdout) };
    assert!(String::from_utf8_lossy(says).contains(expected), "{arguments:?}: {output:?}");
    assert!(silent.is_empty(), "{arguments:?}: {output:?}");
}

const NAME: &[u8] = b"\x08\0\0\0\x05\0\0\0admin";

#[test]
fn exit_statuses_are_those_of_the_documentation() {
    check(&["wire", "decode", "EntityName"], NAME, 0, "client.admin");
    check(&["wire", "decode", "EntityName", "--in", "/nonexistent"], b"", 4, "/nonexistent: No such file");
    check(
        &["wire", "decode", "EntityName"],
        &NAME[..8],
        7,
        "EntityName: entity id at byte 8: needs 5 bytes, 0 are left",
    );
    check(
        &["wire", "decode", "EntityName"],
        &[NAME, b"x"].concat(),
        7,
        "end of the object at byte 13: 1 bytes too many",
    );
    check(&["wire", "decode", "NoSuchType"], b"", 2, "NoSuchType");
    check(&["wire", "reencode", "EntityName", "--features", "xyz"], b"", 2, "hexadecimal");
    check(&["nonsense"], b"", 2, "nonsense");
    check(&["--version"], b"", 0, "cuttlebone 0.1.0");
    check(&["wire", "--help"], b"", 0, "--mon-host <ADDRS>");
}

#[test]
fn json_has_a_schema_and_is_one_line() {
    let output = cuttlebone(&["wire", "decode", "--json", "EntityName"], NAME);
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "{\"schema\":1,\"type\":\"EntityName\",\"bytes\":13,\"features\":\"0xffffffffffffffff\",\"value\":\"client.admin\"}\n"
    );
    check(&["--format", "json", "wire", "types"], b"", 0, "{\"schema\":1,\"types\":[");
    check(&["wire", "types"], b"", 0, "entity_addrvec_t");
}

#[test]
fn reencode_writes_the_bytes_it_read_or_the_form_that_was_asked_for() {
    let addr =
        b"\x01\x01\x01\x1c\0\0\0\x02\0\0\0\0\0\0\0\x10\0\0\0\x02\0\x0c\xe4\x7f\0\0\x01\0\0\0\0\0\0\0\0";
    assert_eq!(cuttlebone(&["wire", "reencode", "entity_addr_t"], addr).stdout, addr);
    assert_eq!(cuttlebone(&["wire", "reencode", "entity_addr_t", "--features", "0"], addr).stdout.len(), 136);
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_cuttlebone"))
        .args(["wire", "types"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}
