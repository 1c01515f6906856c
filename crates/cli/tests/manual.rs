//! Help, manual and completions, as a user's shell sees them.

use std::fs;
use std::process::Command;

use clap::CommandFactory;
use cuttlebone_cli::CommandLine;

fn cuttlebone(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_cuttlebone"))
        .env_remove("CEPH_ARGS")
        .args(arguments)
        .output()
        .expect("the command starts");
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// Every command that help shows, as the words after `cuttlebone`, with its definition.
fn commands(command: &clap::Command, words: &[String], found: &mut Vec<(Vec<String>, clap::Command)>) {
    found.push((words.to_vec(), command.clone()));
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        commands(sub, &[words, &[sub.get_name().into()]].concat(), found);
    }
}

#[test]
fn every_command_has_a_page_with_its_own_options() {
    let dir = tempfile::tempdir().expect("a directory");
    let pages = dir.path().join("man1");
    cuttlebone(&["man", "--out", pages.to_str().expect("text")]);
    let mut all = Vec::new();
    commands(&CommandLine::command(), &[], &mut all);
    assert!(all.len() > 20, "{}", all.len());
    for (words, command) in &all {
        let name = [&["cuttlebone".to_string()], words.as_slice()].concat().join("-");
        let page = fs::read_to_string(pages.join(format!("{name}.1")))
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let about = command.get_about().expect("every command says what it does").to_string();
        // In this format, lines are broken nowhere and a dash is `\-`.
        let text = page.replace("\\-", "-").replace("\\*(Aq", "'").replace("\\&", "").replace("\\(aq", "'");
        assert!(text.contains(&about), "{name}: {about:?} in\n{text}");
        for option in command.get_arguments().filter(|option| !option.is_hide_set()) {
            if let Some(long) = option.get_long() {
                assert!(text.contains(&format!("--{long}")), "{name} has no --{long}");
            }
        }
        assert!(page.is_ascii(), "{name}: formatters without a locale have no other letters");
        assert!(text.contains(".SH \"EXIT STATUS\""), "{name}: {text}");
        if !command.has_subcommands() {
            assert!(text.contains(".SH EXAMPLES"), "{name}");
        }
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        assert_eq!(cuttlebone(&[&["man"], words.as_slice()].concat()), page, "{name}");
    }
    assert_eq!(fs::read_dir(&pages).expect("pages").count(), all.len(), "no page without a command");
}

#[test]
fn a_page_of_no_command_is_wrong_usage() {
    let output = Command::new(env!("CARGO_BIN_EXE_cuttlebone")).args(["man", "mon", "nonsense"]).output();
    let output = output.expect("the command starts");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no command mon nonsense"), "{output:?}");
}

/// What bash offers for the last of `words`, after it has read the script.
fn bash_offers(words: &[&str]) -> Vec<String> {
    let dir = tempfile::tempdir().expect("a directory");
    let script = dir.path().join("cuttlebone.bash");
    fs::write(&script, cuttlebone(&["completions", "bash"])).expect("a file");
    let bash = r#"
        . "$1"; shift
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
        complete -p cuttlebone >/dev/null || exit 3
        _cuttlebone cuttlebone "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let output = Command::new("bash")
        .args(["--norc", "-c", bash, "bash"])
        .arg(&script)
        .args(words)
        .output()
        .expect("bash starts");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).lines().map(String::from).collect()
}

#[test]
fn bash_completes_nouns_verbs_options_and_values() {
    assert_eq!(bash_offers(&["cuttlebone", "mo"])[0], "mon");
    assert_eq!(bash_offers(&["cuttlebone", "mon", "ba"]), ["backup"]);
    assert_eq!(bash_offers(&["cuttlebone", "mon", "backup", "--foll"]), ["--follow"]);
    assert_eq!(bash_offers(&["cuttlebone", "wire", "decode", "MonM"]), ["MonMap"]);
}

#[test]
fn bash_finds_no_fault_in_the_script() {
    let dir = tempfile::tempdir().expect("a directory");
    let script = dir.path().join("cuttlebone.bash");
    fs::write(&script, cuttlebone(&["completions", "bash"])).expect("a file");
    let output = Command::new("bash").arg("-n").arg(&script).output().expect("bash starts");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn the_other_shells_get_a_script_that_names_every_noun() {
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        let script = cuttlebone(&["completions", shell]);
        for noun in CommandLine::command().get_subcommands().filter(|noun| !noun.is_hide_set()) {
            assert!(script.contains(noun.get_name()), "{shell}: {}", noun.get_name());
        }
    }
}

#[test]
fn help_ends_with_examples_and_the_top_with_exit_statuses() {
    let top = cuttlebone(&["--help"]);
    assert!(top.contains("Examples:\n") && top.contains("Exit status:\n  0    done\n"), "{top}");
    assert!(top.contains("  130  interrupted"), "{top}");
    assert!(cuttlebone(&["mon", "backup", "--help"]).contains("Examples:\n  Copy what is new"));
}
