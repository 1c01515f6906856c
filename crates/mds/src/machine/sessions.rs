use alloc::string::String;
use alloc::vec::Vec;
use core::mem;

use cuttlebone_machine::Instant;
use cuttlebone_wire::{Body, DecodeError, FeatureSet, Message};

use super::session::{Behind, Line, Session, State};
use super::{Client, Error, Event, LinkId, LinkNews, LossCause, Nonsense, Output, SessionNews};
use crate::message::{
    ClientCaps, ClientLease, ClientQuota, ClientReply, ClientRequestForward, ClientSession, ClientSnap,
    SessionOp, SessionRequest,
};
use crate::{MdsState, MetricSpec, Rank, feature};

/// What we claim, and keep to: see `docs/protocols/mds.md`.
const FEATURES: [u16; 16] = [
    0,
    1,
    2,
    3,
    4,
    feature::JEWEL,
    feature::KRAKEN,
    feature::LUMINOUS,
    feature::MIMIC,
    feature::REPLY_ENCODING,
    feature::LAZY_CAP_WANTED,
    feature::MULTI_RECONNECT,
    feature::DELEG_INO,
    feature::ALTERNATE_NAME,
    feature::NOTIFY_SESSION_STATE,
    feature::OP_GETVXATTR,
];

impl Client {
    /// Sees to it that there will be a session with a rank.
    pub(super) fn want_session(&mut self, now: Instant, rank: Rank) {
        if !self.sessions.contains_key(&rank) {
            self.last_recon = self.last_recon.wrapping_add(1);
            let mut session = Session::new(rank, self.last_recon, &self.config.limits);
            session.addrs = self.ranks.addrs(rank).cloned().unwrap_or_default();
            self.sessions.insert(rank, session);
        }
        self.progress(now, rank);
    }

    /// Does what the state of a session, the map and the link allow.
    pub(super) fn progress(&mut self, now: Instant, rank: Rank) {
        let Some(session) = self.sessions.get(&rank) else { return };
        let serves = self.ranks.state(rank);
        match session.state {
            // A rank that is stopping answers no opening.
            State::Wanted if serves == MdsState::ACTIVE => self.open_session(now, rank),
            State::Down if serves >= MdsState::RECONNECT => self.reconnect(now, rank),
            State::Open => self.pump(now, rank),
            State::Wanted
            | State::Down
            | State::Opening
            | State::Reconnecting
            | State::Closing
            | State::Rejected(_) => {}
        }
    }

    /// Whether requests can go to a rank now.
    pub(super) fn takes_requests(&self, rank: Rank) -> bool {
        self.ranks.is_serving(rank)
            && self.sessions.get(&rank).is_some_and(|session| {
                session.state == State::Open && matches!(session.link, Line::Ready(..))
            })
    }

    /// Where the session with a rank is in its life, for people.
    pub fn session_state(&self, rank: Rank) -> &'static str {
        self.sessions.get(&rank).map_or("closed", Session::state_name)
    }

    /// Whether the link to a rank is open; dials if there is none.
    pub(super) fn is_linked(&mut self, now: Instant, rank: Rank) -> bool {
        let Some(session) = self.sessions.get_mut(&rank) else { return false };
        match session.link {
            Line::Ready(..) => true,
            Line::Dialled(_) => false,
            Line::Pause(until) if now < until => false,
            Line::None | Line::Pause(_) => {
                self.last_link = self.last_link.wrapping_add(1);
                let link = LinkId(self.last_link);
                session.link = Line::Dialled(link);
                self.links.insert(link, rank);
                let addrs = session.addrs.clone();
                self.outputs.push_back(Output::Dial { link, rank, addrs });
                false
            }
        }
    }

    pub(super) fn drop_link(&mut self, rank: Rank) {
        let Some(session) = self.sessions.get_mut(&rank) else { return };
        if let Some(link) = mem::replace(&mut session.link, Line::None).id() {
            self.links.remove(&link);
            self.outputs.push_back(Output::Drop(link));
        }
    }

    /// Drops the link to a server that has done with it. A pause keeps one that closes whatever it opened from being
    /// dialled without end.
    fn pause_link(&mut self, now: Instant, rank: Rank) {
        self.drop_link(rank);
        if let Some(session) = self.sessions.get_mut(&rank) {
            session.link = Line::Pause(now + self.config.timing.redial_pause);
        }
    }

    fn open_session(&mut self, now: Instant, rank: Rank) {
        if !self.is_linked(now, rank) {
            return;
        }
        let Some(session) = self.sessions.get_mut(&rank) else { return };
        session.state = State::Opening;
        session.pushes = 0;
        let open = SessionRequest::Open {
            metadata: self.config.metadata.clone(),
            features: FeatureSet::from_bits(FEATURES),
            metric_spec: MetricSpec::default(),
        };
        self.send_session(rank, open);
    }

    pub(super) fn on_link(&mut self, now: Instant, rank: Rank, link: LinkId, news: LinkNews) {
        let Some(session) = self.sessions.get_mut(&rank) else { return };
        match news {
            LinkNews::Ready(features) => {
                session.link = Line::Ready(link, features);
                self.progress(now, rank);
            }
            LinkNews::Message(message) => self.on_message(now, rank, &message),
            LinkNews::Reset => {
                session.link = Line::Dialled(link);
                self.on_link_lost(now, rank, LossCause::Reset);
            }
            LinkNews::Closed => {
                self.links.remove(&link);
                session.link = Line::Pause(now + self.config.timing.redial_pause);
                self.on_link_lost(now, rank, LossCause::LinkClosed);
            }
        }
    }

    /// Messages in either direction are lost, and nobody will send them again.
    fn on_link_lost(&mut self, now: Instant, rank: Rank, cause: LossCause) {
        let Some(session) = self.sessions.get_mut(&rank) else { return };
        match session.state {
            State::Open | State::Closing => self.lose_session(now, rank, cause),
            State::Reconnecting => session.state = State::Down,
            State::Opening => {
                session.state = State::Wanted;
                if session.behind == Behind::Nothing {
                    session.behind = Behind::Session;
                }
            }
            State::Wanted | State::Down | State::Rejected(_) => {}
        }
        self.progress(now, rank);
    }

    fn on_message(&mut self, now: Instant, rank: Rank, message: &Message) {
        let is_push = [ClientCaps::KIND, ClientLease::KIND, ClientSnap::KIND, ClientQuota::KIND]
            .contains(&message.kind);
        if is_push && let Some(session) = self.sessions.get_mut(&rank) {
            // Counted before it is read: the server has counted it as well, whatever it says.
            session.pushes = session.pushes.wrapping_add(1);
        }
        match message.kind {
            kind if kind == ClientReply::KIND => self.on_reply(now, rank, message),
            kind if kind == ClientCaps::KIND => self.on_caps(now, rank, message),
            kind if kind == ClientLease::KIND => self.on_lease(rank, message),
            kind if kind == ClientSession::KIND => self.on_session(now, rank, message),
            kind if kind == ClientRequestForward::KIND => self.on_forward(now, rank, message),
            kind if kind == ClientSnap::KIND => self.on_snap(rank, message),
            kind if kind == ClientQuota::KIND => self.on_quota(rank, message),
            // Maps come from a monitor as well, and types that we do not know are no fault.
            _ => {}
        }
        if is_push {
            self.after_push(rank);
        }
    }

    fn on_session(&mut self, now: Instant, rank: Rank, message: &Message) {
        let message = match ClientSession::decode(message) {
            Ok((message, _)) => message,
            Err(error) => return self.malformed(rank, error),
        };
        let is_open = self.sessions.get(&rank).is_some_and(Session::is_open);
        match message.op {
            SessionOp::Open => self.on_open(now, rank, &message),
            SessionOp::Close => self.on_close(now, rank),
            SessionOp::Reject => self.on_reject(now, rank, &message),
            // What concerns an open session says nothing to us in any other.
            SessionOp::RenewCaps
            | SessionOp::Stale
            | SessionOp::RecallState
            | SessionOp::FlushMsg
            | SessionOp::ForceReadOnly
                if !is_open => {}
            SessionOp::RenewCaps => self.on_renewed(now, rank, message.seq),
            SessionOp::Stale => self.on_stale(now, rank),
            SessionOp::RecallState => self.on_recall(now, rank, message.max_caps),
            SessionOp::FlushMsg => {
                self.flush_releases(rank);
                self.send_session(rank, SessionRequest::FlushMsgAck { seq: message.seq });
            }
            SessionOp::ForceReadOnly => {
                if let Some(session) = self.sessions.get_mut(&rank) {
                    session.read_only = true;
                }
                self.session_event(rank, SessionNews::ReadOnly);
                self.pump(now, rank);
            }
            _ => self.unexpected(rank, "a message of a session that only clients send"),
        }
    }

    fn on_open(&mut self, now: Instant, rank: Rank, message: &ClientSession) {
        let Some(session) = self.sessions.get_mut(&rank) else { return };
        // The server had opened it before, and pushed: when another rank exported to it, or after a reset.
        session.pushes = session.pushes.max(message.seq);
        let is_reconnected = match session.state {
            State::Reconnecting => true,
            // In the last, by force, for an import.
            State::Opening | State::Wanted => false,
            State::Open | State::Closing | State::Down | State::Rejected(_) => return,
        };
        if !message.features.contains(feature::REPLY_ENCODING) {
            return self.refuse_session(now, rank, Error::TooOld { rank });
        }
        session.state = State::Open;
        if mem::replace(&mut session.behind, Behind::Nothing) == Behind::Wreck && !is_reconnected {
            return self.ask_to_close(rank);
        }
        session.was_open = true;
        session.features = message.features.clone();
        // The server may have opened it by force long ago, and this be the word of that, even when we have reconnected. Only
        // the answer to a question of ours tells since when it counts the time.
        if is_reconnected {
            let caps = self.cache.iter().filter(|(_, inode)| inode.cap(rank).is_some()).count();
            self.session_event(rank, SessionNews::Reconnected { caps });
        } else {
            self.session_event(rank, SessionNews::Opened);
        }
        self.renew(now, rank);
        self.pump(now, rank);
    }

    fn on_close(&mut self, now: Instant, rank: Rank) {
        let Some(session) = self.sessions.get(&rank) else { return };
        match session.state {
            State::Closing => self.on_closed(now, rank),
            State::Reconnecting => self.on_denied(now, rank),
            State::Open | State::Opening => {
                self.pause_link(now, rank);
                self.lose_session(now, rank, LossCause::Closed);
            }
            State::Wanted | State::Down | State::Rejected(_) => {}
        }
    }

    /// A restarted server does not want what we had with its predecessor.
    fn on_denied(&mut self, now: Instant, rank: Rank) {
        self.pause_link(now, rank);
        self.lose_session(now, rank, LossCause::ReconnectDenied);
    }

    fn on_reject(&mut self, now: Instant, rank: Rank, message: &ClientSession) {
        if message.is_blocklisted() {
            return self.on_blocklisted(now, rank);
        }
        let reason = String::from(message.error_string().unwrap_or("no reason given"));
        if self.sessions.get(&rank).is_some_and(|session| matches!(session.state, State::Reconnecting)) {
            // The answer of a server that does not even know that there was a session.
            return self.on_denied(now, rank);
        }
        self.session_event(rank, SessionNews::Rejected(reason.clone()));
        self.refuse_session(now, rank, Error::Rejected { rank, reason });
    }

    /// A server wants no session with us: what was there is lost, and what comes is refused until the rank moves.
    fn refuse_session(&mut self, now: Instant, rank: Rank, error: Error) {
        self.clean &= self.is_running();
        self.drop_link(rank);
        let Some(session) = self.sessions.get_mut(&rank) else { return };
        let had_state = session.has_state();
        session.state = State::Rejected(error);
        session.behind = Behind::Nothing;
        if had_state {
            self.lose_state(rank);
        }
        self.give_up_changes(rank);
        self.reroute(now, rank);
    }

    /// The end of this instance: no server will talk to it any more.
    fn on_blocklisted(&mut self, now: Instant, rank: Rank) {
        self.blocklisted = true;
        self.session_event(rank, SessionNews::Blocklisted);
        let ranks: Vec<Rank> = self.sessions.keys().copied().collect();
        for rank in ranks {
            self.refuse_session(now, rank, Error::Blocklisted);
        }
        let waiting = mem::take(&mut self.unplaced);
        self.place_again(now, waiting);
    }

    pub(super) fn malformed(&mut self, rank: Rank, error: DecodeError) {
        self.event(Event::Nonsense(rank, Nonsense::Malformed(error)));
    }

    pub(super) fn unexpected(&mut self, rank: Rank, what: &'static str) {
        self.event(Event::Nonsense(rank, Nonsense::Unexpected(what)));
    }
}
