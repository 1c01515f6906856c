//! What only this machine can tell: directories, files, ports.

use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use cuttlebone_http::{Address, Bearer};

use super::{Config, EpochsConfig, Fault};

/// The longest bearer token that is read, in bytes.
const BEARER_BYTES_MAX: u64 = 4096;

impl Config {
    /// Whether this machine has what the configuration names: directories that can be written or made, files that can be
    /// read, addresses that are free. Whatever is tried is let go again.
    ///
    /// # Errors
    ///
    /// Everything that is wrong.
    pub fn check(&self) -> Result<(), Vec<Fault>> {
        let mut faults = Vec::new();
        let mut say = |key: &str, what: String, hint: &str| {
            faults.push(Fault { at: self.place(key), key: key.into(), what, hint: hint.into() });
        };
        let bucket = self.bucket.as_ref().map(|bucket| &bucket.dir);
        let tokens = self.tokens.as_ref().and_then(|tokens| match &tokens.epochs {
            EpochsConfig::Dir(dir) => Some(dir),
            EpochsConfig::Etcd(_) => None,
        });
        for (key, dir) in [("copy.dir", self.copy.as_ref()), ("bucket.dir", bucket), ("tokens.dir", tokens)] {
            if let Some(dir) = dir
                && let Err((what, hint)) = can_keep(dir)
            {
                say(key, what, hint);
            }
        }
        if let Some(links) = &self.links
            && links.listen.port() != 0
            && let Err(error) = TcpListener::bind(links.listen)
        {
            say("links.listen", format!("{}: {error}", links.listen), in_use(&error));
        }
        if let Some(http) = &self.http {
            if let Some(file) = &http.bearer_file
                && let Err(what) = bearer(file)
            {
                say(
                    "http.bearer_file",
                    what,
                    "a file with a token of your choice, for your eyes only (mode 0600)",
                );
            }
            if let Err(error) = can_listen(&http.listen) {
                say("http.listen", format!("{}: {error}", http.listen), in_use(&error));
            }
        }
        if let Some(file) = self.publish.as_ref().and_then(|publish| publish.bearer_file.as_ref())
            && let Err(what) = bearer(file)
        {
            say("publish.bearer_file", what, "a file with what that table wants to be shown, mode 0600");
        }
        if let Some(etcd) = &self.etcd {
            let (cert, key) = etcd.identity.as_ref().map(|(cert, key)| (cert, key)).unzip();
            for (name, file) in
                [("etcd.ca_file", etcd.ca_file.as_ref()), ("etcd.cert_file", cert), ("etcd.key_file", key)]
            {
                if let Some(file) = file
                    && let Err(what) = pem(file)
                {
                    say(name, what, "a file in PEM, which the node's user can read");
                }
            }
        }
        // The loopback interface always has an address, so this only asks for a route.
        if let Some(origin) = self.follow
            && let Err(error) = UdpSocket::bind("0.0.0.0:0").and_then(|socket| socket.connect(origin))
            && origin.is_ipv4()
        {
            say("source.follow.origin", format!("{origin}: {error}"), "there is no way to it from here");
        }
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }
}

/// The bearer token in a file.
pub(super) fn bearer(file: &Path) -> Result<Bearer, String> {
    let meta = std::fs::metadata(file).map_err(|error| format!("{}: {error}", file.display()))?;
    if !meta.is_file() || meta.len() > BEARER_BYTES_MAX {
        return Err(format!("{}: not a file with a token", file.display()));
    }
    if meta.mode() & 0o077 != 0 {
        return Err(format!("{}: others can read it (mode {:o})", file.display(), meta.mode() & 0o777));
    }
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    Bearer::new(&text).ok_or_else(|| format!("{}: empty", file.display()))
}

/// Whether a file looks like certificates or a key.
fn pem(file: &Path) -> Result<(), String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    if text.contains("-----BEGIN ") { Ok(()) } else { Err(format!("{}: not in PEM", file.display())) }
}

/// Whether a directory is there and can be written, or can be made in its parent.
fn can_keep(dir: &Path) -> Result<(), (String, &'static str)> {
    let at = |error: io::Error| format!("{}: {error}", dir.display());
    match std::fs::metadata(dir) {
        Ok(meta) if !meta.is_dir() => {
            Err((format!("{}: not a directory", dir.display()), "give another path"))
        }
        Ok(_) => {
            tempfile_in(dir).map_err(|error| (at(error), "the node's user has to be able to write there"))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
            match parent.map_or_else(|| Ok(()), tempfile_in) {
                Ok(()) => Ok(()),
                Err(error) => Err((at(error), "its parent directory has to be there, and writable")),
            }
        }
        Err(error) => Err((at(error), "give a path that can be reached")),
    }
}

/// Writes a file that nobody else has, and removes it again.
fn tempfile_in(dir: &Path) -> io::Result<()> {
    let path = dir.join(format!(".cuttlebone-check-{}", std::process::id()));
    let made = std::fs::OpenOptions::new().write(true).create_new(true).open(&path);
    made.and_then(|_| std::fs::remove_file(&path))
}

fn can_listen(address: &Address) -> io::Result<()> {
    match address {
        Address::Tcp(text) if text.ends_with(":0") => Ok(()),
        Address::Tcp(text) => TcpListener::bind(text.as_str()).map(drop),
        Address::Unix(path) => {
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            if parent.is_some_and(|parent| !parent.is_dir()) {
                return Err(io::Error::from(io::ErrorKind::NotFound));
            }
            match std::os::unix::net::UnixStream::connect(path) {
                // Somebody answers there.
                Ok(_) => Err(io::Error::from(io::ErrorKind::AddrInUse)),
                Err(_) => Ok(()),
            }
        }
    }
}

fn in_use(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "another process listens there; is the node running already?",
        io::ErrorKind::AddrNotAvailable => "this machine does not have that address",
        io::ErrorKind::PermissionDenied => "ports below 1024 need a privilege",
        io::ErrorKind::NotFound => "its directory has to be there",
        _ => "choose another address",
    }
}
