//! The node's unit as it is in the archive, under a systemd of its own: started, reloaded, killed, stopped, and refused.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::run;

/// A configuration as somebody would have it who wants tokens and a page to look at.
const CONFIG: &str = "[node]\nname = \"unit\"\n[bucket]\ndir = \"/var/lib/cuttlebone/bucket\"\n\
                      [tokens]\ndir = \"/var/lib/cuttlebone/tokens\"\n[http]\nlisten = \"unix:/run/cuttlebone/http\"\n";
const UNIT: &str = "cuttlebone-node";

/// What runs first, in namespaces of its own: a control group for everything that follows, so that systemd finds one that
/// is empty, and remounts nothing that others see.
const FIRST: &str = r#"
set -e
mount -t tmpfs tmpfs /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p /sys/fs/cgroup/$GROUP
echo 0 > /sys/fs/cgroup/$GROUP/cgroup.procs
exec unshare --cgroup sh -c "$BEFORE"
"#;

/// What runs then: whatever is written from here on goes with the namespaces. Targets that belong to a whole machine are
/// empty, so that nothing but the unit and what it asks for runs.
const BEFORE: &str = r#"
set -e
umount /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system /run/etc/upper /run/etc/work
mount -t overlay overlay -o lowerdir=/etc,upperdir=/run/etc/upper,workdir=/run/etc/work /etc
mount -t tmpfs tmpfs /usr/local/bin
mount -t tmpfs tmpfs /var/lib
cp "$FOLDER/bin/cuttlebone" /usr/local/bin/
cp "$FOLDER/lib/systemd/system/$UNIT.service" /run/systemd/system/
for target in default sysinit basic sockets timers paths local-fs network network-online shutdown; do
    rm -f "/etc/systemd/system/$target.target"
    printf '[Unit]\nDescription=nothing\nDefaultDependencies=no\n' > "/etc/systemd/system/$target.target"
done
mkdir /etc/cuttlebone
printf '%s' "$CONFIG" > /etc/cuttlebone/node.toml
mount -t tmpfs tmpfs /tmp
mount --bind /dev/null /dev/console
exec env -i container=other PATH="$PATH" /lib/systemd/systemd --system --unit=default.target --log-target=null
"#;

/// What runs when all of that has ended: the control groups are the only thing that does not go by itself.
const AFTER: &str = r#"
mount -t cgroup2 cgroup2 /mnt && find "/mnt/$GROUP" -depth -type d -exec rmdir {} \;
"#;

/// A systemd and everything that it runs, until this is dropped.
struct Init {
    outside: Child,
    pid: String,
}

impl Init {
    /// `None` where we may not have namespaces, where there is no systemd, and where there is one that runs already: two
    /// would share the machine's control groups.
    fn start(folder: &Path) -> Result<Option<Self>> {
        let namespaces = ["--pid", "--fork", "--kill-child", "--mount", "--uts", "--ipc", "--mount-proc"];
        let possible = [&namespaces[..], &["true"]].concat();
        let (there, runs) =
            (Path::new("/lib/systemd/systemd").exists(), Path::new("/run/systemd/system").exists());
        if !there || runs || !run::answers("unshare", &possible) {
            return Ok(None);
        }
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", "unshare"]).args(namespaces).args(["sh", "-c", FIRST]);
        command.env("FOLDER", fs::canonicalize(folder)?).env("CONFIG", CONFIG).env("UNIT", UNIT);
        command.env("GROUP", group()).env("BEFORE", BEFORE);
        command.env("PATH", super::checks::PATH);
        let outside = command.stdin(Stdio::null()).spawn().context("cannot start unshare")?;
        let id = outside.id();
        let mut init = Self { outside, pid: String::new() };
        let answers = init.wait_for("systemd answers", |init| {
            ensure!(init.outside.try_wait()?.is_none(), "what has to run before systemd failed");
            let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"))?;
            init.pid = children.trim().into();
            Ok(!init.pid.is_empty() && init.systemctl(&["show", "--property=Version"])?.status.success())
        });
        // A container may give namespaces and no control groups.
        if let Err(error) = &answers {
            eprintln!("{error:#}");
        }
        Ok(answers.is_ok().then_some(init))
    }

    fn inside(&self, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.pid, "--mount", "--pid", "--ipc", "--uts", "--cgroup"]).args(words);
        command.env_clear().env("PATH", super::checks::PATH);
        command
    }

    fn systemctl(&self, words: &[&str]) -> Result<Output> {
        self.inside(&[&["systemctl"], words].concat()).output().context("cannot start nsenter")
    }

    /// Has systemd do something with the unit; whether it did.
    fn does(&self, verb: &str) -> Result<bool> {
        Ok(self.systemctl(&[verb, UNIT])?.status.success())
    }

    /// What systemd says of the unit.
    fn property(&self, name: &str) -> Result<String> {
        let output = self.systemctl(&["show", "--value", "--property", name, UNIT])?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().into())
    }

    fn expect(&self, properties: &[(&str, &str)]) -> Result<()> {
        for (name, expected) in properties {
            let found = self.property(name)?;
            ensure!(found == *expected, "{name} is {found}, not {expected}");
        }
        Ok(())
    }

    fn wait_for(&mut self, what: &str, mut holds: impl FnMut(&mut Self) -> Result<bool>) -> Result<()> {
        const LOOKS: u32 = 600;
        for _ in 0..LOOKS {
            if holds(self)? {
                return Ok(());
            }
            pause();
        }
        bail!("{what}: not within a minute")
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "between two looks at a process that tells nobody when it is ready"
)]
fn pause() {
    std::thread::sleep(core::time::Duration::from_millis(100));
}

/// The control group.
fn group() -> String {
    format!("cuttlebone-unit-{}", std::process::id())
}

impl Drop for Init {
    fn drop(&mut self) {
        // Its end is that of everything in its namespaces.
        let _ = self.outside.kill();
        let _ = self.outside.wait();
        let mut after = Command::new("unshare");
        after.args(["--mount", "sh", "-c", AFTER]).env("GROUP", group());
        // What is left then is empty, and named after us.
        let _ = after.stderr(Stdio::null()).status();
    }
}

/// The unit of a node does what an operator expects of it.
pub(super) fn node_unit_works(folder: &Path) -> Result<()> {
    let Some(mut init) = Init::start(folder)? else {
        eprintln!(
            "unit {UNIT} not tried: that takes namespaces, control groups, and a systemd that does not run yet"
        );
        return Ok(());
    };
    let did = |verb: &str, did| if did { Ok(()) } else { Err(anyhow::anyhow!("systemctl {verb} failed")) };
    did("start", init.does("start")?)?;
    init.expect(&[("ActiveState", "active"), ("StatusText", "serving"), ("WatchdogUSec", "1min")])?;
    let main = init.property("MainPID")?;
    let status = run::output(&mut init.inside(&["cat", &format!("/proc/{main}/status")]))?;
    let line = |name: &str| status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    let user = line("Uid:").split_whitespace().nth(1).unwrap_or("0");
    ensure!(
        user != "0" && line("CapEff:").ends_with("0000000000000000"),
        "it runs as a user with privileges"
    );
    let server = "unix:/run/cuttlebone/http";
    let shown = run::output(&mut init.inside(&["cuttlebone", "node", "status", "--server", server]))?;
    ensure!(shown.starts_with("unit serving"), "{shown}");

    did("reload", init.does("reload")?)?;
    init.expect(&[("ActiveState", "active"), ("SubState", "running"), ("MainPID", &main)])?;
    run::output(&mut init.inside(&["kill", "-KILL", &main]))?;
    init.wait_for("it is started again after a kill", |init| {
        Ok(init.property("NRestarts")? == "1" && init.property("StatusText")? == "serving")
    })?;
    did("stop", init.does("stop")?)?;
    init.expect(&[("ActiveState", "inactive"), ("Result", "success")])?;

    let nonsense = "printf '[node]\\nnmae = \"x\"\\n' > /etc/cuttlebone/node.toml";
    run::output(&mut init.inside(&["sh", "-c", nonsense]))?;
    ensure!(!init.does("start")?, "a configuration that makes no sense was started");
    // And not tried again.
    init.expect(&[("ActiveState", "failed"), ("ExecMainStatus", "2"), ("NRestarts", "0")])?;
    eprintln!("unit {UNIT} under {}: started, reloaded, killed, stopped, refused", version()?);
    Ok(())
}

fn version() -> Result<String> {
    let printed = run::output(Command::new("systemctl").arg("--version"))?;
    Ok(printed.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
}
