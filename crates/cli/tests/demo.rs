//! The first command of the README.

use std::process::Command;

#[test]
fn the_demonstration_ends_with_two_equal_digests() {
    let output = Command::new(env!("CARGO_BIN_EXE_cuttlebone")).args(["demo", "--json"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let steps: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let names: Vec<_> = steps.iter().map(|step| step["step"].as_str().unwrap()).collect();
    let story = "origin provider handshake full commits incremental kill recovery nodes published reverted kept fenced node-kill verify";
    let story: Vec<_> = story.split(' ').collect();
    assert_eq!(names[..story.len()], story);
    let verdict = steps.last().unwrap();
    assert_eq!(verdict["equal"], true, "{verdict}");
    assert_eq!(verdict["origin_digest"], verdict["replica_digest"]);
    assert_eq!(verdict["version"], 210);
}
