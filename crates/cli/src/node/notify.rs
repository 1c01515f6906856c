use std::env;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The service manager's ear, if there is one.
///
/// Source: `systemd/systemd:man/sd_notify.xml`: datagrams of `KEY=value` lines to the socket in `NOTIFY_SOCKET`, whose name
/// is abstract if it begins with `@`.
#[derive(Debug, Default)]
pub(super) struct Manager(Option<(UnixDatagram, SocketAddr)>);

impl Manager {
    pub(super) fn from_environment() -> Self {
        Self(env::var("NOTIFY_SOCKET").ok().and_then(|name| Self::find(&name)))
    }

    fn find(name: &str) -> Option<(UnixDatagram, SocketAddr)> {
        let address = match name.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name).ok()?,
            None => SocketAddr::from_pathname(name).ok()?,
        };
        Some((UnixDatagram::unbound().ok()?, address))
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

    pub(super) fn stopping(&self) {
        self.say("STOPPING=1\nSTATUS=stopping\n");
    }

    fn say(&self, lines: &str) {
        if let Some((socket, address)) = &self.0 {
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
        let manager = Manager(Manager::find(path.to_str().unwrap()));
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
        manager.stopping();
        assert!(heard().starts_with("STOPPING=1\n"));
    }
}
