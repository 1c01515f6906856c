use core::time::Duration;
use std::env;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The service manager's ear, if there is one.
///
/// Source: `systemd/systemd:man/sd_notify.xml`: datagrams of `KEY=value` lines to the socket in `NOTIFY_SOCKET`, whose name
/// is abstract if it begins with `@`.
#[derive(Debug, Default)]
pub(super) struct Manager {
    ear: Option<(UnixDatagram, SocketAddr)>,
    /// Whether it ends the node when that is silent for some time.
    watches: bool,
}

/// How much more than its own deadlines a node's end may take before the manager ends it.
const STOP_SLACK: Duration = Duration::from_secs(15);

impl Manager {
    /// Source: `systemd/systemd:man/sd_watchdog_enabled.xml` for `WATCHDOG_USEC` and `WATCHDOG_PID`.
    pub(super) fn from_environment() -> Self {
        let ear = env::var("NOTIFY_SOCKET").ok().and_then(|name| Self::find(&name));
        let ours = env::var("WATCHDOG_PID").map_or(true, |pid| pid == std::process::id().to_string());
        Self { ear, watches: ours && env::var_os("WATCHDOG_USEC").is_some() }
    }

    fn find(name: &str) -> Option<(UnixDatagram, SocketAddr)> {
        let address = match name.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name).ok()?,
            None => SocketAddr::from_pathname(name).ok()?,
        };
        let socket = UnixDatagram::unbound().ok()?;
        // A manager that does not read for so long does without.
        socket.set_write_timeout(Some(Duration::from_secs(1))).ok()?;
        Some((socket, address))
    }

    /// The node serves, and does this.
    pub(super) fn ready(&self, status: &str) {
        self.say(&format!("READY=1\nSTATUS={status}\n"));
    }

    /// The node does this.
    pub(super) fn status(&self, status: &str) {
        self.say(&format!("STATUS={status}\n"));
    }

    /// The configuration is being read anew; [`ready`](Self::ready) follows.
    pub(super) fn reloading(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={micros}\n"));
    }

    /// The node ends, which takes at most as long as its deadlines say.
    pub(super) fn stopping(&self, within: Duration) {
        let micros = within.saturating_add(STOP_SLACK).as_micros();
        self.say(&format!("STOPPING=1\nSTATUS=stopping\nEXTEND_TIMEOUT_USEC={micros}\n"));
    }

    /// The node works. To be said much more often than a watchdog's time, whatever that is: it costs a datagram.
    pub(super) fn alive(&self) {
        if self.watches {
            self.say("WATCHDOG=1\n");
        }
    }

    fn say(&self, lines: &str) {
        if let Some((socket, address)) = &self.ear {
            // A manager that does not listen is no reason not to work.
            let _ = socket.send_to_addr(lines.as_bytes(), address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manager_hears_every_state() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let ear = UnixDatagram::bind(&path).unwrap();
        let mut manager = Manager { ear: Manager::find(path.to_str().unwrap()), watches: false };
        let heard = || {
            let mut bytes = [0; 256];
            let len = ear.recv(&mut bytes).unwrap();
            String::from_utf8_lossy(&bytes[..len]).into_owned()
        };
        manager.status("catching up");
        assert_eq!(heard(), "STATUS=catching up\n");
        manager.ready("serving");
        assert_eq!(heard(), "READY=1\nSTATUS=serving\n");
        manager.reloading();
        assert!(heard().starts_with("RELOADING=1\nMONOTONIC_USEC="));
        manager.alive();
        manager.watches = true;
        manager.alive();
        assert_eq!(heard(), "WATCHDOG=1\n", "and that only where there is one");
        manager.stopping(Duration::from_secs(85));
        assert_eq!(heard(), "STOPPING=1\nSTATUS=stopping\nEXTEND_TIMEOUT_USEC=100000000\n");
    }
}
