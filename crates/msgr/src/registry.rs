use alloc::collections::BTreeMap;

use cuttlebone_wire::EntityAddrs;

use crate::{ClientIdent, Opening, OpeningReply, Policy, Reconnect};

/// Names one session of a [`Registry`]; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionKey(u64);

/// What a [`Registry`] knows of a lossless session, wherever the session itself lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "exactly what the decisions depend on")]
pub struct Entry {
    /// Names the session.
    pub key: SessionKey,
    /// The client's cookie.
    pub client_cookie: u64,
    /// The client's count of attempts, as last seen.
    pub peer_global_seq: u64,
    /// How often the client reconnected the session.
    pub connect_seq: u64,
    /// A newer connection has been handed over, and the session has not taken it yet.
    pub replacing: bool,
}

/// What to do with an opening.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "whoever accepts has to carry out every one of them")]
pub enum Decision {
    /// Send this; the client may try again on the same connection.
    Reply(OpeningReply),
    /// Send this and close.
    ReplyAndClose(OpeningReply),
    /// Close without a word.
    Close,
    /// Grant a new session, and end the one that it replaces.
    Fresh {
        /// The new session's name.
        key: SessionKey,
        /// What the client had before and has forgotten.
        replaces: Option<SessionKey>,
    },
    /// Hand the connection to this session, which grants itself anew: the client never saw the first grant.
    Regrant(SessionKey),
    /// Hand the connection to this session, which goes on.
    Resume(SessionKey),
}

/// The lossless sessions of one accepting entity, by the addresses of their clients.
///
/// We never dial those who dial us, so the rows of the table that settle simultaneous dialling cannot arise: no
/// entry is without a server cookie, and nobody wins or loses a race.
///
/// Source: `ceph/ceph:src/msg/async/ProtocolV2.cc`, `handle_reconnect`, `handle_existing_connection`; the answers
/// seen from 16.2.15.
#[derive(Clone, Debug)]
pub struct Registry {
    entries: BTreeMap<EntityAddrs, Entry>,
    keys: u64,
    sessions_max: usize,
}

impl Registry {
    /// An empty registry for at most `sessions_max` lossless sessions.
    pub const fn new(sessions_max: usize) -> Self {
        Self { entries: BTreeMap::new(), keys: 0, sessions_max }
    }

    /// How many lossless sessions there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Decides on an opening, and notes what it decided.
    pub fn decide(&mut self, opening: &Opening, policy: Policy) -> Decision {
        match opening {
            Opening::New(ident) => match policy {
                Policy::Lossy => Decision::Fresh { key: self.key(), replaces: None },
                Policy::Lossless => self.on_ident(ident),
            },
            Opening::Resumed(reconnect) => self.on_reconnect(reconnect),
        }
    }

    /// The session has taken the connection that was handed to it.
    pub fn settled(&mut self, key: SessionKey) {
        if let Some(entry) = self.entries.values_mut().find(|entry| entry.key == key) {
            entry.replacing = false;
        }
    }

    /// The session is over.
    pub fn remove(&mut self, key: SessionKey) {
        self.entries.retain(|_, entry| entry.key != key);
    }

    fn key(&mut self) -> SessionKey {
        self.keys = self.keys.saturating_add(1);
        SessionKey(self.keys)
    }

    fn on_reconnect(&mut self, client: &Reconnect) -> Decision {
        let Some(entry) = self.entries.get_mut(&client.addrs) else {
            return Decision::Reply(OpeningReply::Reset { full: true });
        };
        if entry.replacing {
            return Decision::Reply(OpeningReply::RetryGlobal(entry.peer_global_seq));
        }
        if entry.client_cookie != client.client_cookie {
            return Decision::Reply(OpeningReply::Reset { full: true });
        }
        if entry.peer_global_seq > client.global_seq {
            return Decision::Reply(OpeningReply::RetryGlobal(entry.peer_global_seq));
        }
        if entry.connect_seq > client.connect_seq {
            return Decision::Reply(OpeningReply::Retry(entry.connect_seq));
        }
        entry.peer_global_seq = client.global_seq;
        entry.connect_seq = client.connect_seq;
        entry.replacing = true;
        Decision::Resume(entry.key)
    }

    fn on_ident(&mut self, client: &ClientIdent) -> Decision {
        let key = self.key();
        let mut replaces = None;
        if let Some(entry) = self.entries.get_mut(&client.addrs) {
            if entry.replacing {
                return Decision::ReplyAndClose(OpeningReply::Wait);
            }
            if entry.peer_global_seq > client.global_seq {
                return Decision::Close;
            }
            if entry.client_cookie == client.cookie {
                entry.peer_global_seq = client.global_seq;
                entry.connect_seq = 0;
                entry.replacing = true;
                return Decision::Regrant(entry.key);
            }
            replaces = Some(entry.key);
        } else if self.entries.len() >= self.sessions_max {
            return Decision::Close;
        }
        let entry = Entry {
            key,
            client_cookie: client.cookie,
            peer_global_seq: client.global_seq,
            connect_seq: 0,
            replacing: false,
        };
        self.entries.insert(client.addrs.clone(), entry);
        Decision::Fresh { key, replaces }
    }
}

#[cfg(test)]
mod tests;
