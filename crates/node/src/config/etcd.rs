//! etcd, where names are announced and epochs are kept if the file says so.

use core::fmt;
use core::str::FromStr;
use std::path::PathBuf;

#[cfg(feature = "etcd-tls")]
use cuttlebone_mounttable_etcd::{Certificate, Identity, TlsOptions};

use super::document::Document;

/// `[etcd]`: where it is, and what it wants to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EtcdConfig {
    /// `etcd.endpoints`: members, each with its scheme.
    pub endpoints: Vec<String>,
    /// `etcd.ca_file`: who has signed the members' certificates; without it whoever the system trusts.
    pub ca_file: Option<PathBuf>,
    /// `etcd.cert_file` and `etcd.key_file`: what the members are shown.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// A member of etcd.
struct Endpoint(String);

/// Why a text is none.
#[derive(Debug)]
struct NoEndpoint;

impl fmt::Display for NoEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a member of etcd")
    }
}

impl FromStr for Endpoint {
    type Err = NoEndpoint;

    fn from_str(text: &str) -> Result<Self, NoEndpoint> {
        let (scheme, place) = text.split_once("://").unwrap_or(("http", text));
        let (host, port) = place.rsplit_once(':').ok_or(NoEndpoint)?;
        let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "._-:[]".contains(letter);
        let fits = ["http", "https"].contains(&scheme) && !host.is_empty() && host.chars().all(is_plain);
        if !fits || port.parse::<u16>().is_err() {
            return Err(NoEndpoint);
        }
        Ok(Self(format!("{scheme}://{place}")))
    }
}

const HINT: &str = "a list of members, as in [\"https://10.0.0.1:2379\"]";

pub(super) fn etcd(document: &mut Document) -> Option<EtcdConfig> {
    if !document.has("etcd") {
        return None;
    }
    let endpoints: Option<Vec<Endpoint>> = document.list("etcd.endpoints", HINT);
    let ca_file = document.text("etcd.ca_file").map(PathBuf::from);
    let cert_file = document.text("etcd.cert_file").map(PathBuf::from);
    let key_file = document.text("etcd.key_file").map(PathBuf::from);
    match &endpoints {
        None => document.missing("etcd.endpoints", HINT),
        Some(_) if !cfg!(feature = "etcd") => {
            let hint = "cargo install cuttlebone-cli --features etcd";
            document.refuse("etcd.endpoints", "this program was built without etcd", hint);
        }
        Some(endpoints) => with_tls(document, endpoints, &[&ca_file, &cert_file, &key_file]),
    }
    if cert_file.is_some() != key_file.is_some() {
        let (has, lacks) = if key_file.is_none() {
            ("etcd.cert_file", "set etcd.key_file")
        } else {
            ("etcd.key_file", "set etcd.cert_file")
        };
        document.refuse(has, "a certificate and its key go together", lacks);
    }
    let endpoints = endpoints?.into_iter().map(|Endpoint(endpoint)| endpoint).collect();
    Some(EtcdConfig { endpoints, ca_file, identity: cert_file.zip(key_file) })
}

/// Files are of use only where every member is spoken to over TLS, which not every build can.
fn with_tls(document: &mut Document, endpoints: &[Endpoint], files: &[&Option<PathBuf>; 3]) {
    let is_tls = |Endpoint(endpoint): &Endpoint| endpoint.starts_with("https://");
    if endpoints.iter().any(is_tls) && !cfg!(feature = "etcd-tls") {
        let hint = "cargo install cuttlebone-cli --features etcd-tls";
        document.refuse("etcd.endpoints", "this program was built without TLS to etcd", hint);
    }
    let has_files = files.iter().any(|file| file.is_some());
    if has_files && !endpoints.iter().all(is_tls) {
        let what = "certificates are of no use over http";
        document.refuse("etcd.endpoints", what, "begin every member with https://");
    }
}

#[cfg(feature = "etcd")]
impl EtcdConfig {
    /// For names below `prefix`.
    pub(super) fn names(&self, prefix: &str) -> Result<cuttlebone_mounttable_etcd::Config, String> {
        let config = cuttlebone_mounttable_etcd::Config::new(self.endpoints.clone()).with_root(prefix);
        #[cfg(feature = "etcd-tls")]
        if let Some(tls) = self.tls()? {
            return Ok(config.with_tls(tls));
        }
        Ok(config)
    }

    /// For epochs under `key`.
    pub(super) fn epochs(&self, key: &str) -> Result<cuttlebone_tokens_etcd::Config, String> {
        let config = cuttlebone_tokens_etcd::Config::new(self.endpoints.clone()).with_key(key);
        #[cfg(feature = "etcd-tls")]
        if let Some(tls) = self.tls()? {
            return Ok(config.with_tls(tls));
        }
        Ok(config)
    }

    #[cfg(feature = "etcd-tls")]
    fn tls(&self) -> Result<Option<TlsOptions>, String> {
        if !self.endpoints.iter().any(|endpoint| endpoint.starts_with("https://")) {
            return Ok(None);
        }
        let read =
            |file: &PathBuf| std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()));
        let mut tls = TlsOptions::new();
        if let Some(file) = &self.ca_file {
            tls = tls.ca_certificate(Certificate::from_pem(read(file)?));
        }
        if let Some((cert, key)) = &self.identity {
            tls = tls.identity(Identity::from_pem(read(cert)?, read(key)?));
        }
        Ok(Some(tls))
    }
}
