use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};

use cuttlebone_auth::{Client, MethodId, Request};
use cuttlebone_machine::{Entropy, Instant};
use cuttlebone_msgr::{
    AuthFrame, AuthMethod, ClientIdent, Handshake, Hello, Mode, OpeningReply, Policy, Signatures, Start,
};
use cuttlebone_wire::{AddrKind, EntityAddr, EntityAddrs, Features};

use crate::{Backoff, DialConfig, Error, Identity, Ready};

/// What the dialling side knows that outlives its connections, apart from the session.
pub(crate) struct Dialler {
    pub(crate) config: DialConfig,
    auth: Client,
    pub(crate) entropy: Box<dyn Entropy + Send>,
    pub(crate) backoff: Backoff,
    /// Our address as the first peer saw it; a session is known by it, so it never changes again.
    learned: Option<EntityAddrs>,
    /// What the peer said when it granted the session.
    peer: Peer,
    /// When to give up, unless a session is open by then.
    pub(crate) give_up_at: Instant,
}

#[derive(Clone, Default)]
struct Peer {
    addrs: EntityAddrs,
    gid: i64,
    features: Features,
}

impl Dialler {
    pub(crate) fn new(config: DialConfig, entropy: Box<dyn Entropy + Send>, now: Instant) -> Self {
        Self {
            auth: config.auth(),
            entropy,
            backoff: Backoff::new(config.timing.retry_first, config.timing.retry_max),
            learned: None,
            peer: Peer::default(),
            give_up_at: now + config.timing.give_up_after,
            config,
        }
    }

    /// Checks who answered, learns how it sees us, and sends the first request.
    pub(crate) fn on_hello(&mut self, hello: &Hello, handshake: &mut Handshake) -> Result<(), Error> {
        let (expected, found) = (self.config.peer, hello.entity_type);
        if found != expected {
            return Err(cuttlebone_msgr::Error::PeerType { expected, found }.into());
        }
        if self.learned.is_none() {
            let seen = hello.peer_addr.socket_addr();
            let ip = seen.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |seen| seen.ip());
            let addr = EntityAddr::new(AddrKind::ANY, SocketAddr::new(ip, 0), self.config.nonce);
            self.learned = Some(addr.into());
        }
        let request = self.auth.start()?;
        Ok(handshake.send_auth(&request_frame(request))?)
    }

    pub(crate) fn on_auth(&mut self, frame: AuthFrame, handshake: &mut Handshake) -> Result<(), Error> {
        match frame {
            AuthFrame::BadMethod { method, result, allowed, modes: _ } => {
                let allowed: Vec<_> = allowed.iter().map(|method| MethodId(method.0)).collect();
                let request = self.auth.on_bad_method(MethodId(method.0), result, &allowed)?;
                handshake.send_auth(&request_frame(request))?;
            }
            AuthFrame::ReplyMore(question) => {
                let answer = self.auth.on_more(&question)?;
                handshake.send_auth(&AuthFrame::RequestMore(answer))?;
            }
            AuthFrame::Done { global_id, mode, payload } => {
                if mode != Mode::CRC {
                    return Err(Error::Mode(mode.0));
                }
                let key = self.auth.on_done(global_id, &payload)?;
                let ours = key.signature(handshake.received());
                let theirs = key.signature(handshake.sent());
                handshake.sign(Signatures { ours, theirs })?;
            }
            AuthFrame::Request { .. } | AuthFrame::RequestMore(_) => {
                return Err(Error::Misuse("a handshake let a client's frame through to a client"));
            }
        }
        Ok(())
    }

    /// How to ask for a session.
    pub(crate) fn ident(&self) -> ClientIdent {
        let gid = match self.config.identity {
            Identity::Client { .. } => self.auth.claim().global_id.cast_signed(),
            // We are no member of the map, so we have no rank.
            Identity::Monitor { .. } => -1,
        };
        let addrs = self.learned.clone().unwrap_or_default();
        ClientIdent::between(addrs, self.config.target.clone(), gid, self.config.features)
    }

    /// What to tell the user of the session that `reply` opened.
    pub(crate) fn on_open(&mut self, reply: &OpeningReply, start: Start, policy: Policy) -> Ready {
        if let OpeningReply::Granted(server) = reply {
            let features = server.supported & self.config.features;
            self.peer = Peer { addrs: server.addrs.clone(), gid: server.gid, features };
        }
        let Peer { addrs, gid, features } = self.peer.clone();
        Ready {
            peer_type: self.config.peer,
            peer_name: None,
            peer_addrs: addrs,
            peer_gid: gid,
            features,
            global_id: self.auth.claim().global_id,
            policy,
            start,
        }
    }
}

fn request_frame(request: Request) -> AuthFrame {
    let Request { method, payload } = request;
    AuthFrame::Request { method: AuthMethod(method.0), modes: vec![Mode::CRC], payload }
}
