//! Every key, its type and its range.

use core::time::Duration;
use std::collections::BTreeMap;
use std::path::PathBuf;

use cuttlebone_bucket::BucketLimits;
use cuttlebone_checkpoint::Limits as LogLimits;
use cuttlebone_http::Address;
use cuttlebone_mounttable::{Name, Server};
use cuttlebone_wire::EntityAddr;

use super::document::Document;
use super::etcd::etcd;
use super::{
    BucketConfig, Config, EpochsConfig, HttpConfig, Links, MdsConfig, MonSyncConfig, PublishConfig,
    TokensConfig,
};
use crate::Deadlines;
use crate::mds::MdsLimits;

/// Every key there is, in the order of docs/node.md.
pub(super) const KEYS: &[&str] = &[
    "node.name",
    "links.listen",
    "links.advertise",
    "links.replicas",
    "links.provide",
    "links.backfills_max",
    "links.copies_max",
    "copy.dir",
    "bucket.dir",
    "bucket.resident_bytes_max",
    "bucket.log_bytes_max",
    "bucket.checkpoint_items_max",
    "source.monsync.monitors",
    "source.monsync.every_ms",
    "source.monsync.rate_bytes_max",
    "source.monsync.vbucket",
    "source.mds.monitors",
    "source.mds.fs",
    "source.mds.root",
    "source.mds.every_ms",
    "source.mds.walk_every_s",
    "source.mds.rate_entries_max",
    "source.mds.watched_max",
    "source.mds.inodes_max",
    "source.mds.vbucket",
    "source.follow.origin",
    "http.listen",
    "http.bearer_file",
    "http.lease_s",
    "http.connections_max",
    "tokens.dir",
    "tokens.etcd_key",
    "tokens.drain_s",
    "etcd.endpoints",
    "etcd.ca_file",
    "etcd.cert_file",
    "etcd.key_file",
    "publish.names",
    "publish.table",
    "publish.etcd_prefix",
    "publish.bearer_file",
    "publish.server",
    "publish.period_s",
    "stop.names_s",
    "stop.tokens_s",
    "stop.sources_s",
    "stop.flush_s",
    "stop.services_s",
    "log.level",
];

pub(super) fn is_section(path: &str) -> bool {
    KEYS.iter().any(|key| key.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
}

/// Takes everything out of `document`. What is missing or wrong it has noted.
pub(super) fn config(document: &mut Document) -> Config {
    let config = Config {
        name: document.text("node.name").unwrap_or_else(|| "cuttlebone".into()),
        links: links(document),
        copy: copy(document),
        bucket: bucket(document),
        monsync: monsync(document),
        mds: mds(document),
        follow: follow(document),
        http: http(document),
        tokens: tokens(document),
        etcd: etcd(document),
        publish: publish(document),
        stop: stop(document),
        log_level: document.text("log.level").unwrap_or_else(|| "info".into()),
        values: BTreeMap::new(),
        places: BTreeMap::new(),
    };
    fits_together(&config, document);
    config
}

/// What no key says alone.
fn fits_together(config: &Config, document: &mut Document) {
    if config.name.is_empty() || config.name.len() > 100 || !config.name.chars().all(is_name) {
        document.refuse("node.name", "not a name", "1 to 100 letters, digits, dots, dashes and underscores");
    }
    if let Some(links) = &config.links {
        if links.listen.ip().is_unspecified() && links.advertise.is_none() {
            let hint = "set links.advertise to the addresses under which others dial";
            document.refuse("links.listen", "does not say under which address it is dialled", hint);
        }
        if links.provide && config.copy.is_none() {
            document.refuse("links.provide", "there is no copy to provide", "set copy.dir");
        }
        if links.replicas && config.bucket.is_none() {
            document.refuse("links.replicas", "there is no bucket to follow", "set bucket.dir");
        }
        if !links.replicas && !links.provide {
            let hint = "set links.replicas or links.provide";
            document.refuse("links.listen", "nobody would be served there", hint);
        }
    }
    if config.monsync.is_some() && config.copy.is_none() && config.bucket.is_none() {
        let hint = "set copy.dir, bucket.dir, or both";
        document.refuse("source.monsync.monitors", "there is nowhere to keep what they have", hint);
    }
    if let Some(mds) = &config.mds {
        if config.bucket.is_none() {
            document.refuse("source.mds.monitors", "there is nowhere to keep the tree", "set bucket.dir");
        }
        if config.follow.is_some() {
            let hint = "follow a node, or a tree";
            document.refuse("source.follow.origin", "the bucket has another source already", hint);
        }
        if config.bucket.is_some() && config.monsync.as_ref().is_some_and(|it| it.vbucket == mds.vbucket) {
            let hint = "give each source a vbucket of its own";
            document.refuse("source.mds.vbucket", "is source.monsync.vbucket, too", hint);
        }
    }
    if config.follow.is_some() && config.bucket.is_none() {
        document.refuse("source.follow.origin", "there is nowhere to keep what it has", "set bucket.dir");
    }
    if config.follow.is_some() && config.monsync.is_some() && config.bucket.is_some() && config.copy.is_none()
    {
        let hint = "follow a node, or the monitors";
        document.refuse("source.follow.origin", "the bucket has another source already", hint);
    }
    if let (Some(copy), Some(bucket)) = (&config.copy, &config.bucket)
        && *copy == bucket.dir
    {
        document.refuse("copy.dir", "is bucket.dir, too", "give each a directory of its own");
    }
    if let Some(publish) = &config.publish
        && publish.server.is_none()
        && config.links.is_none()
    {
        document.refuse(
            "publish.names",
            "there is no server to announce",
            "set publish.server or links.listen",
        );
    }
    etcd_fits(config, document);
    let sources = [config.monsync.is_some(), config.mds.is_some(), config.follow.is_some()];
    let parts = [sources.contains(&true), config.links.is_some(), config.http.is_some()];
    if !parts.contains(&true) {
        document.refuse("node.name", "there is nothing to do", "set a source, links.listen or http.listen");
    }
    if let Some(bucket) = &config.bucket
        && let Err(error) = bucket.limits.log.check()
    {
        document.refuse(
            "bucket.log_bytes_max",
            &error.to_string(),
            "docs/protocols/checkpoint.md has the limits",
        );
    }
}

/// Who uses etcd says where it is, and the other way round.
fn etcd_fits(config: &Config, document: &mut Document) {
    let names = config.publish.as_ref().and_then(|publish| publish.etcd_prefix.as_ref());
    let epochs = config.tokens.as_ref().and_then(|tokens| match &tokens.epochs {
        EpochsConfig::Etcd(key) => Some(key),
        EpochsConfig::Dir(_) => None,
    });
    for (key, value) in [("publish.etcd_prefix", names), ("tokens.etcd_key", epochs)] {
        let Some(value) = value else { continue };
        if value.is_empty() || value.starts_with('/') || value.ends_with('/') || value.len() > 1024 {
            let hint = "as in \"cuttlebone/mounts\", without slashes at its ends";
            document.refuse(key, "not a place in etcd", hint);
        }
        if config.etcd.is_none() {
            document.refuse(key, "it is not said where etcd is", "set etcd.endpoints");
        }
    }
    if config.etcd.is_some() && names.is_none() && epochs.is_none() {
        let hint = "set publish.etcd_prefix or tokens.etcd_key";
        document.refuse("etcd.endpoints", "nothing would be kept there", hint);
    }
}

fn is_name(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || "._-".contains(letter)
}

const SOCKET: &str = "an address and a port, as in 10.0.0.9:3300";
const PATH: &str = "a directory, as in \"/var/lib/cuttlebone/n1\"";

fn links(document: &mut Document) -> Option<Links> {
    if !document.has("links") {
        return None;
    }
    let listen = document.parsed("links.listen", SOCKET);
    let advertise = document
        .list::<EntityAddr>("links.advertise", "a list, as in [\"v2:10.0.0.9:3300/0\"]")
        .map(cuttlebone_wire::EntityAddrs);
    let replicas = document.flag("links.replicas", false);
    let provide = document.flag("links.provide", false);
    let backfills = document.number("links.backfills_max", 1..17, "replicas");
    let copies = document.number("links.copies_max", 1..1025, "monitors");
    if listen.is_none() {
        document.missing("links.listen", SOCKET);
    }
    let small =
        |number: Option<u64>, default| number.and_then(|it| u32::try_from(it).ok()).unwrap_or(default);
    let (backfills_max, copies_max) = (small(backfills, 2), small(copies, 4));
    Some(Links { listen: listen?, advertise, replicas, provide, backfills_max, copies_max })
}

fn copy(document: &mut Document) -> Option<PathBuf> {
    document.text("copy.dir").map(PathBuf::from)
}

fn bucket(document: &mut Document) -> Option<BucketConfig> {
    if !document.has("bucket") {
        return None;
    }
    let usual = BucketLimits::default();
    let dir = document.text("bucket.dir").map(PathBuf::from);
    let resident = document.number("bucket.resident_bytes_max", (1 << 20)..(1 << 44), "bytes");
    let log = document.number("bucket.log_bytes_max", (64 << 10)..(1 << 44), "bytes");
    let items = document.number("bucket.checkpoint_items_max", 10..1_000_001, "mutations");
    if dir.is_none() {
        document.missing("bucket.dir", PATH);
    }
    let memory_max = size(log, usual.log.memory_max);
    let log = LogLimits {
        memory_max,
        items_max: size(items, usual.log.items_max),
        checkpoint_bytes_max: usual.log.checkpoint_bytes_max.min(memory_max / 4),
        ..usual.log
    };
    let limits = BucketLimits { log, resident_bytes_max: size(resident, usual.resident_bytes_max), ..usual };
    Some(BucketConfig { dir: dir?, limits })
}

fn size(number: Option<u64>, default: usize) -> usize {
    number.and_then(|number| usize::try_from(number).ok()).unwrap_or(default)
}

fn monsync(document: &mut Document) -> Option<MonSyncConfig> {
    if !document.has("source.monsync") {
        return None;
    }
    let hint = "a list of addresses, as in [\"v2:10.0.0.1:3300/0\"]";
    let monitors = document.list("source.monsync.monitors", hint);
    let every = document.number("source.monsync.every_ms", 10..3_600_001, "milliseconds");
    let rate_bytes_max = document.number("source.monsync.rate_bytes_max", 1024..(1 << 44), "bytes a second");
    let vbucket = document.number("source.monsync.vbucket", 0..1024, "");
    if monitors.is_none() {
        document.missing("source.monsync.monitors", hint);
    }
    Some(MonSyncConfig {
        monitors: monitors?,
        every: Duration::from_millis(every.unwrap_or(500)),
        rate_bytes_max,
        vbucket: vbucket.and_then(|id| u16::try_from(id).ok()).unwrap_or(0),
    })
}

fn mds(document: &mut Document) -> Option<MdsConfig> {
    if !document.has("source.mds") {
        return None;
    }
    let hint = "a list of addresses, as in [\"v2:10.0.0.1:3300/0\"]";
    let usual = MdsLimits::default();
    let monitors = document.list("source.mds.monitors", hint);
    let fs = document.text("source.mds.fs");
    let root = document.text("source.mds.root").unwrap_or_else(|| "/".into());
    let every = document.number("source.mds.every_ms", 10..3_600_001, "milliseconds");
    let walk_every = document.number("source.mds.walk_every_s", 60..31_536_001, "seconds");
    let rate = document.number("source.mds.rate_entries_max", 1..1_000_001, "entries a second");
    let watched = document.number("source.mds.watched_max", 0..1001, "directories");
    let inodes = document.number("source.mds.inodes_max", 1..1_000_000_001, "inodes");
    let vbucket = document.number("source.mds.vbucket", 0..1024, "");
    if monitors.is_none() {
        document.missing("source.mds.monitors", hint);
    }
    if !root.starts_with('/') {
        document.refuse("source.mds.root", "not a path from the root", "as in \"/home\"");
    }
    let limits = MdsLimits {
        every: every.map_or(usual.every, Duration::from_millis),
        walk_every: walk_every.map_or(usual.walk_every, Duration::from_secs),
        entries_per_second: rate,
        watched_max: size(watched, usual.watched_max),
        inodes_max: size(inodes, usual.inodes_max),
        ..usual
    };
    let vbucket = vbucket.and_then(|id| u16::try_from(id).ok()).unwrap_or(0);
    Some(MdsConfig { monitors: monitors?, fs, root, vbucket, limits })
}

fn follow(document: &mut Document) -> Option<core::net::SocketAddr> {
    if !document.has("source.follow") {
        return None;
    }
    let origin = document.parsed("source.follow.origin", SOCKET);
    if origin.is_none() {
        document.missing("source.follow.origin", SOCKET);
    }
    origin
}

fn http(document: &mut Document) -> Option<HttpConfig> {
    if !document.has("http") {
        return None;
    }
    let hint = "HOST:PORT, or unix:PATH";
    let usual = cuttlebone_http::Config::default();
    let listen: Option<Address> = document.parsed("http.listen", hint);
    let bearer_file = document.text("http.bearer_file").map(PathBuf::from);
    let lease = document.number("http.lease_s", 1..3601, "seconds");
    let connections = document.number("http.connections_max", 1..100_001, "connections");
    if listen.is_none() {
        document.missing("http.listen", hint);
    }
    let listen = listen?;
    if !listen.is_local() && bearer_file.is_none() {
        let hint = "set http.bearer_file, or listen on 127.0.0.1 or on a Unix socket";
        document.refuse("http.listen", "other machines can reach it, and anybody could drive the node", hint);
    }
    Some(HttpConfig {
        listen,
        bearer_file,
        lease: lease.map_or(usual.lease, Duration::from_secs),
        connections_max: size(connections, usual.connections_max),
    })
}

fn tokens(document: &mut Document) -> Option<TokensConfig> {
    if !document.has("tokens") {
        return None;
    }
    let dir = document.text("tokens.dir").map(PathBuf::from);
    let key = document.text("tokens.etcd_key");
    let drain = document.number("tokens.drain_s", 1..86_401, "seconds");
    let epochs = match (dir, key) {
        (Some(dir), None) => EpochsConfig::Dir(dir),
        (None, Some(key)) => EpochsConfig::Etcd(key),
        (None, None) => {
            document.missing("tokens.dir", PATH);
            return None;
        }
        (Some(_), Some(_)) => {
            let hint = "set tokens.dir or tokens.etcd_key";
            document.refuse("tokens.etcd_key", "epochs are kept in one place", hint);
            return None;
        }
    };
    Some(TokensConfig { epochs, drain: Duration::from_secs(drain.unwrap_or(300)) })
}

fn publish(document: &mut Document) -> Option<PublishConfig> {
    if !document.has("publish") {
        return None;
    }
    let hint = "a list of names, as in [\"cell/store\"]";
    let names: Option<Vec<Name>> = document.list("publish.names", hint);
    let server: Option<Server> = document.parsed("publish.server", "as in \"10.0.0.9:3300\"");
    let table: Option<Address> = document.parsed("publish.table", "HOST:PORT, or unix:PATH");
    let etcd_prefix = document.text("publish.etcd_prefix");
    let bearer_file = document.text("publish.bearer_file").map(PathBuf::from);
    let period = document.number("publish.period_s", 1..86_401, "seconds");
    if names.is_none() {
        document.missing("publish.names", hint);
    }
    if etcd_prefix.is_some() && table.is_some() {
        let hint = "set publish.table or publish.etcd_prefix";
        document.refuse("publish.etcd_prefix", "names are announced in one place", hint);
    }
    let period = Duration::from_secs(period.unwrap_or(60));
    Some(PublishConfig { names: names?, table, etcd_prefix, bearer_file, server, period })
}

fn stop(document: &mut Document) -> Deadlines {
    let usual = Deadlines::default();
    let mut seconds =
        |key: &str, default| document.number(key, 1..3601, "seconds").map_or(default, Duration::from_secs);
    Deadlines {
        names: seconds("stop.names_s", usual.names),
        tokens: seconds("stop.tokens_s", usual.tokens),
        sources: seconds("stop.sources_s", usual.sources),
        flush: seconds("stop.flush_s", usual.flush),
        services: seconds("stop.services_s", usual.services),
    }
}
