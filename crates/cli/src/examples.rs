//! The examples that each command's help and its page in the manual end with.
//!
//! They stand in one table rather than beside each command, so that a test can read them all as command lines.

/// One use of a command.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Example {
    /// What it is good for.
    pub(crate) what: &'static str,
    /// The line as one types it; everything after a `|` or `>` is the shell's.
    pub(crate) line: &'static str,
}

/// The examples of the command called `path`, such as `mon backup`; the empty path is `cuttlebone` itself.
pub(crate) fn of(path: &str) -> &'static [Example] {
    EXAMPLES.iter().find(|(name, _)| *name == path).map_or(&[], |(_, examples)| examples)
}

const fn to(what: &'static str, line: &'static str) -> Example {
    Example { what, line }
}

/// In the order of `cuttlebone help`.
const EXAMPLES: &[(&str, &[Example])] = &[
    (
        "",
        &[
            to("See the main job done on this machine alone", "cuttlebone demo"),
            to("Copy a live monitor's store", "cuttlebone mon backup --mon 10.0.0.1 --store /backup/mon"),
            to("Check the copy", "cuttlebone store verify --store /backup/mon"),
        ],
    ),
    (
        "demo",
        &[
            to("See the story and its verdict", "cuttlebone demo"),
            to("Look at the nodes and at the copy afterwards", "cuttlebone demo --keep"),
        ],
    ),
    ("wire types", &[to("List the types with what they are", "cuttlebone wire types")]),
    (
        "wire decode",
        &[
            to("Read a monitor map from a file", "cuttlebone wire decode MonMap --in monmap.bin"),
            to(
                "Read one from standard input, on one line",
                "cuttlebone wire decode MonMap --json < monmap.bin",
            ),
        ],
    ),
    (
        "wire reencode",
        &[to(
            "Write an address as peers without messenger v2 read it",
            "cuttlebone wire reencode entity_addr_t --in addr.bin --features 0 > old.bin",
        )],
    ),
    (
        "mon backup",
        &[
            to(
                "Copy what is new since the last run; everything in the first one",
                "cuttlebone mon backup --mon 10.0.0.1,10.0.0.2,10.0.0.3 --store /backup/mon",
            ),
            to(
                "Stay and keep the copy current, one JSON object for each point",
                "cuttlebone mon backup -c /etc/ceph/ceph.conf --store /backup/mon --follow --json",
            ),
            to(
                "Copy everything again, at 20 MB a second, and keep the last three full copies",
                "cuttlebone mon backup -m 10.0.0.1 --store /backup/mon --full --max-rate 20000000 --keep-generations 3",
            ),
        ],
    ),
    (
        "mon serve",
        &[to(
            "Let fresh monitors synchronise from a copy",
            "cuttlebone mon serve --store /backup/mon --listen 10.0.0.9:3300",
        )],
    ),
    ("mon map", &[to("Show the monitor map", "cuttlebone mon map --mon 10.0.0.1")]),
    ("mon status", &[to("Show who leads, as JSON", "cuttlebone mon status --mon 10.0.0.1 --json")]),
    (
        "mon command",
        &[
            to("Run a command in words", "cuttlebone mon command -m 10.0.0.1 config-key ls"),
            to(
                "Run one with an argument and an input",
                "cuttlebone mon command -m 10.0.0.1 -i value config-key set key=greeting",
            ),
        ],
    ),
    (
        "fs ls",
        &[
            to("List a directory with sizes and times", "cuttlebone fs ls -m 10.0.0.1 -l /home"),
            to(
                "List what fits a pattern, one JSON object a line",
                "cuttlebone fs ls -m 10.0.0.1 --json -d /home/*/.bashrc",
            ),
        ],
    ),
    ("fs stat", &[to("Show everything that is known of a name", "cuttlebone fs stat -m 10.0.0.1 /home/ada")]),
    (
        "fs tree",
        &[to("Draw two levels of directories", "cuttlebone fs tree -m 10.0.0.1 --depth 2 --directories /")],
    ),
    (
        "fs find",
        &[to(
            "Find log files, listing 32 directories at a time",
            "cuttlebone fs find -m 10.0.0.1 --parallel 32 --type f --glob *.log /srv",
        )],
    ),
    (
        "fs du",
        &[to(
            "Sum up each home directory without visiting it",
            "cuttlebone fs du -m 10.0.0.1 --depth 1 /home",
        )],
    ),
    (
        "fs changed",
        &[to(
            "Print what changed since a moment",
            "cuttlebone fs changed -m 10.0.0.1 --since 2026-01-31T12:00:00Z /srv",
        )],
    ),
    (
        "fs mkdir",
        &[to(
            "Make a directory and those above it",
            "cuttlebone fs mkdir -m 10.0.0.1 --parents /srv/data/2026",
        )],
    ),
    (
        "fs create",
        &[to(
            "Make an empty file and wait until it is on disk",
            "cuttlebone fs create -m 10.0.0.1 --sync /srv/data/ready",
        )],
    ),
    (
        "fs rm",
        &[
            to("See what would go", "cuttlebone fs rm -m 10.0.0.1 --recursive --dry-run /srv/old"),
            to("Remove it with everything below", "cuttlebone fs rm -m 10.0.0.1 --recursive /srv/old"),
        ],
    ),
    (
        "fs mv",
        &[
            to("Rename", "cuttlebone fs mv -m 10.0.0.1 /srv/new /srv/current"),
            to("Move into a directory", "cuttlebone fs mv -m 10.0.0.1 /srv/a /srv/b /srv/archive"),
        ],
    ),
    ("fs ln", &[to("Make a symbolic link", "cuttlebone fs ln -m 10.0.0.1 --symbolic current /srv/latest")]),
    ("fs xattr ls", &[to("List the attributes that are stored", "cuttlebone fs xattr ls -m 10.0.0.1 /srv")]),
    (
        "fs xattr get",
        &[to("Ask how many files are below", "cuttlebone fs xattr get -m 10.0.0.1 /srv ceph.dir.rfiles")],
    ),
    (
        "fs xattr set",
        &[
            to(
                "Limit how many files may be below",
                "cuttlebone fs xattr set -m 10.0.0.1 /srv ceph.quota.max_files 100000",
            ),
            to("Pin a directory to a rank", "cuttlebone fs xattr set -m 10.0.0.1 /srv ceph.dir.pin 1"),
        ],
    ),
    ("fs xattr rm", &[to("Remove an attribute", "cuttlebone fs xattr rm -m 10.0.0.1 /srv user.note")]),
    (
        "fs watch",
        &[to(
            "Tell of the next change of a directory, then end",
            "cuttlebone fs watch -m 10.0.0.1 --count 1 /srv/inbox",
        )],
    ),
    (
        "store ls",
        &[
            to("List all keys", "cuttlebone store ls --store /backup/mon"),
            to(
                "List the monitor maps of an earlier point",
                "cuttlebone store ls --store /backup/mon --point 1 monmap",
            ),
        ],
    ),
    (
        "store get",
        &[to(
            "Decode the first monitor map",
            "cuttlebone store get --store /backup/mon monmap 1 | cuttlebone wire decode MonMap",
        )],
    ),
    (
        "store list-crc",
        &[to(
            "Make a list to compare with that of ceph-kvstore-tool",
            "cuttlebone store list-crc --store /backup/mon > ours",
        )],
    ),
    (
        "store verify",
        &[to(
            "Check the copy, and act on the exit status",
            "cuttlebone store verify --store /backup/mon --quiet",
        )],
    ),
    (
        "store diff",
        &[
            to("See what the last pull brought", "cuttlebone store diff --store /backup/mon"),
            to("Compare two copies", "cuttlebone store diff --store /backup/mon --with /backup/other"),
        ],
    ),
    (
        "store export",
        &[to(
            "Write what ceph-monstore-tool replay-trace reads",
            "cuttlebone store export --format trace --store /backup/mon --out trace",
        )],
    ),
    (
        "store history",
        &[to(
            "List the points with their versions and times",
            "cuttlebone store history --store /backup/mon",
        )],
    ),
    (
        "node run",
        &[
            to("Run a node in the foreground", "cuttlebone node run --config /etc/cuttlebone/node.toml"),
            to(
                "Find everything that is wrong with a configuration",
                "cuttlebone node run --config /etc/cuttlebone/node.toml --check",
            ),
            to(
                "Run it elsewhere, with another directory",
                "cuttlebone node run --config node.toml --set bucket.dir=/data/bucket --log-format json",
            ),
        ],
    ),
    ("node status", &[to("See what a node does", "cuttlebone node status --server 127.0.0.1:7480")]),
    (
        "node reload",
        &[to(
            "Have a node read its configuration anew, and see what has changed",
            "cuttlebone node reload --server unix:/run/cuttlebone/node",
        )],
    ),
    (
        "node update start",
        &[to("Hold back what comes from now on", "cuttlebone node update start --server 127.0.0.1:7480")],
    ),
    (
        "node update complete",
        &[to("Keep what came since the start", "cuttlebone node update complete --server 127.0.0.1:7480")],
    ),
    (
        "node update revert",
        &[to("Undo what came since the start", "cuttlebone node update revert --server 127.0.0.1:7480")],
    ),
    (
        "node list-crc",
        &[to("Compare what two nodes keep", "cuttlebone node list-crc --server 10.0.0.9:7480 > n1.txt")],
    ),
    (
        "token serve",
        &[to(
            "Serve this machine, with epochs that survive a restart",
            "cuttlebone token serve --listen unix:/run/cuttlebone/tokens --state /var/lib/cuttlebone/tokens",
        )],
    ),
    (
        "token register",
        &[to(
            "Run an agent as the one incarnation of its name",
            "cuttlebone token register --server unix:/run/cuttlebone/tokens --name agent --takeover wait -- the-agent",
        )],
    ),
    (
        "token exec",
        &[to(
            "Run at most two backups at a time",
            "cuttlebone token exec --server unix:/run/cuttlebone/tokens --name backup --limit 2 -- backup-one-disk sda",
        )],
    ),
    ("token ls", &[to("See who holds what", "cuttlebone token ls --server unix:/run/cuttlebone/tokens")]),
    (
        "token revoke",
        &[to(
            "End the current incarnation of a name",
            "cuttlebone token revoke --server unix:/run/cuttlebone/tokens agent",
        )],
    ),
    (
        "mount serve",
        &[to(
            "Serve a table to this machine",
            "cuttlebone mount serve --listen unix:/run/cuttlebone/mounts --state /var/lib/cuttlebone/mounts",
        )],
    ),
    (
        "mount ls",
        &[to(
            "List everything below a name",
            "cuttlebone mount ls --table unix:/run/cuttlebone/mounts cell7/...",
        )],
    ),
    (
        "mount resolve",
        &[to(
            "Find the servers of a name",
            "cuttlebone mount resolve --table unix:/run/cuttlebone/mounts cell7/store",
        )],
    ),
    (
        "mount publish",
        &[to(
            "Keep a name for as long as a server accepts connections",
            "cuttlebone mount publish --table unix:/run/cuttlebone/mounts --name cell7/store --server 10.0.0.1:7000 \
             --ready tcp -- the-server",
        )],
    ),
    (
        "mount unmount",
        &[to(
            "Take one server from a name",
            "cuttlebone mount unmount --table unix:/run/cuttlebone/mounts cell7/store --server 10.0.0.1:7000",
        )],
    ),
    (
        "mount watch",
        &[to(
            "Follow a name, one JSON object a line",
            "cuttlebone mount watch --table unix:/run/cuttlebone/mounts --json cell7/store",
        )],
    ),
    (
        "completions",
        &[
            to(
                "Complete in this bash",
                "cuttlebone completions bash > cuttlebone.bash && . ./cuttlebone.bash",
            ),
            to(
                "Complete in every zsh",
                "cuttlebone completions zsh > /usr/local/share/zsh/site-functions/_cuttlebone",
            ),
        ],
    ),
    (
        "man",
        &[
            to("Read the page of a command", "cuttlebone man mon backup | man -l -"),
            to("Write all pages", "cuttlebone man --out /usr/local/share/man/man1"),
        ],
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::Command;

    use super::*;
    use crate::manual::definition;

    /// The paths of all commands that do something, and are not themselves lists of commands.
    fn verbs(command: &Command, path: &str, found: &mut BTreeSet<String>) {
        let shown = command.get_subcommands().filter(|sub| !sub.is_hide_set());
        if !command.has_subcommands() {
            found.insert(path.into());
        }
        for sub in shown {
            let path =
                if path.is_empty() { sub.get_name().into() } else { format!("{path} {}", sub.get_name()) };
            verbs(sub, &path, found);
        }
    }

    #[test]
    fn every_command_has_an_example_and_every_example_a_command() {
        let mut expected = BTreeSet::from([String::new()]);
        verbs(&definition(), "", &mut expected);
        let found: BTreeSet<String> = EXAMPLES.iter().map(|(path, _)| (*path).into()).collect();
        assert_eq!(found, expected, "crates/cli/src/examples.rs against the commands that there are");
        assert_eq!(EXAMPLES.len(), found.len(), "a command stands twice in crates/cli/src/examples.rs");
    }

    #[test]
    fn every_example_is_a_command_line_of_its_command() {
        for (path, examples) in EXAMPLES {
            for example in *examples {
                let ours =
                    example.line.split([' ']).take_while(|word| !matches!(*word, "|" | ">" | "<" | "&&"));
                let matches = definition().try_get_matches_from(ours);
                let matches = matches.unwrap_or_else(|error| panic!("{}: {error}", example.line));
                let mut named = Vec::new();
                let mut level = &matches;
                while let Some((name, deeper)) = level.subcommand() {
                    named.push(name);
                    level = deeper;
                }
                assert!(path.is_empty() || named.join(" ") == *path, "{}", example.line);
            }
        }
    }

    #[test]
    fn everything_shown_in_help_has_one_line_of_text() {
        fn check(command: &Command, path: &str) {
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            assert!(!about.is_empty() && !about.contains('\n'), "{path}: {about:?}");
            for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
                let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
                assert!(!help.is_empty() && !help.contains('\n'), "{path} {}: {help:?}", argument.get_id());
            }
            for sub in command.get_subcommands() {
                check(sub, &format!("{path} {}", sub.get_name()));
            }
        }
        check(&definition(), "cuttlebone");
    }
}
