//! Where an entry is in etcd: `<root>/<name>/@<epoch>.<owner>.<server>`, and what its value says.
//!
//! The owner is a part of the key, so that what an old incarnation does late meets its own key only. The `@` keeps the
//! servers of a name apart from the names below it: no element of a name begins with it, since it is escaped there.

use cuttlebone_mounttable::{Epoch, Kind, Live, Name, Server, escape_element, unescape_element};
use serde::{Deserialize, Serialize};

/// What an entry's value says, as JSON: others may read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Value {
    pub(crate) server: String,
    pub(crate) kind: String,
    pub(crate) epoch: u64,
}

/// An entry as it is read from a key and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: Name,
    pub(crate) server: Server,
    pub(crate) epoch: Epoch,
    pub(crate) owner: u64,
    pub(crate) kind: Kind,
}

impl Entry {
    pub(crate) fn key(&self, root: &str) -> String {
        let server = escape_element(self.server.as_str());
        format!("{}{:016x}.{:016x}.{server}", servers_prefix(root, &self.name), self.epoch.0, self.owner)
    }

    pub(crate) fn value(&self) -> Vec<u8> {
        let kind = kind_text(self.kind).to_owned();
        let value = Value { server: self.server.to_string(), kind, epoch: self.epoch.0 };
        serde_json::to_vec(&value).expect("a plain record is always JSON")
    }

    /// `None` for keys and values that something else has put there.
    pub(crate) fn read(root: &str, key: &[u8], value: &[u8]) -> Option<Self> {
        let mut entry = Self::read_key(root, key)?;
        let value: Value = serde_json::from_slice(value).ok()?;
        entry.kind = match value.kind.as_str() {
            "server" => Kind::Server,
            "leaf" => Kind::Leaf,
            "table" => Kind::Table,
            _ => return None,
        };
        Some(entry)
    }

    /// What the key alone says, which is all there is of a deleted one; the kind is not in it.
    pub(crate) fn read_key(root: &str, key: &[u8]) -> Option<Self> {
        let text = core::str::from_utf8(key).ok()?.strip_prefix(root)?.strip_prefix('/')?;
        let (path, last) = text.rsplit_once('/')?;
        let mut parts = last.strip_prefix('@')?.splitn(3, '.');
        let epoch = Epoch(u64::from_str_radix(parts.next()?, 16).ok()?);
        let owner = u64::from_str_radix(parts.next()?, 16).ok()?;
        let server = Server::parse(&unescape_element(parts.next()?)?).ok()?;
        let elements: Option<Vec<String>> = path.split('/').map(unescape_element).collect();
        let name = Name::parse(&elements?.join("/")).ok()?;
        Some(Self { name, server, epoch, owner, kind: Kind::Server })
    }

    pub(crate) fn live(&self) -> Live {
        // How long a lease has left would be one more question for each.
        Live::new(self.server.clone(), None, self.epoch)
    }
}

fn kind_text(kind: Kind) -> &'static str {
    match kind {
        Kind::Server => "server",
        Kind::Leaf => "leaf",
        Kind::Table => "table",
    }
}

/// The prefix of the keys of everything at or below `name`.
pub(crate) fn below_prefix(root: &str, name: &Name) -> String {
    let mut key = format!("{root}/");
    for element in name.elements() {
        key.push_str(&element_text(element));
        key.push('/');
    }
    key
}

/// The prefix of the keys of the servers on `name`.
pub(crate) fn servers_prefix(root: &str, name: &Name) -> String {
    below_prefix(root, name) + "@"
}

fn element_text(element: &str) -> String {
    let escaped = escape_element(element);
    match escaped.strip_prefix('@') {
        Some(rest) => format!("%40{rest}"),
        None => escaped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_and_names_do_not_run_into_servers() {
        for (name, server) in [("a", "h:1"), ("a/@b/c", "h:1/x/y"), ("50%/@", "[::1]:80"), ("a.b/%2F", "h:1")]
        {
            for kind in [Kind::Server, Kind::Leaf, Kind::Table] {
                let entry = Entry {
                    name: Name::parse(name).unwrap(),
                    server: Server::parse(server).unwrap(),
                    epoch: Epoch(7),
                    owner: u64::MAX,
                    kind,
                };
                let key = entry.key("root/x");
                assert_eq!(
                    Entry::read("root/x", key.as_bytes(), &entry.value()),
                    Some(entry.clone()),
                    "{key}"
                );
                assert!(key.starts_with(&servers_prefix("root/x", &entry.name)));
                assert_eq!(key.matches("/@").count(), 1, "{key}");
            }
        }
    }

    #[test]
    fn what_others_have_put_there_is_no_entry() {
        for key in
            ["", "root", "root/", "root/a", "root/a/@", "root/a/@1.2", "root/a/@x.y.h:1", "other/a/@1.2.h:1"]
        {
            assert_eq!(Entry::read_key("root", key.as_bytes()), None, "{key}");
        }
        assert_eq!(Entry::read("root", b"root/a/@1.2.h:1", b"not json"), None);
        assert!(Entry::read_key("root", b"root/a/@1.2.h:1").is_some());
        assert_eq!(Entry::read_key("root", b"root/\xff/@1.2.h:1"), None);
    }
}
