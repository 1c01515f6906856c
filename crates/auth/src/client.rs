use alloc::boxed::Box;
use alloc::vec::Vec;

use bytes::Bytes;
use cuttlebone_wire::{Encode, Features};

use crate::{
    Claim, ClientMethod, Error, Hello, MAuth, MAuthReply, MethodId, NoneClient, Refusal, SessionKey,
};

/// Most questions of a server in one exchange; CephX asks two.
const ROUNDS_MAX: u8 = 16;

/// What to ask a server first.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "what the frame carries")]
pub struct Request {
    /// The method.
    pub method: MethodId,
    /// The claim, and what the method adds.
    pub payload: Bytes,
}

/// The side that asks. It outlives connections, so that a number given once is claimed again.
#[derive(Debug)]
pub struct Client {
    claim: Claim,
    /// Best first.
    methods: Vec<Box<dyn ClientMethod>>,
    current: usize,
    refused: Vec<MethodId>,
    rounds: u8,
}

impl Client {
    /// A client that has AUTH_NONE only.
    pub fn none(claim: Claim) -> Self {
        let none: Box<dyn ClientMethod> = Box::new(NoneClient);
        Self::new(claim, Vec::from([none]))
    }

    /// A client with these methods, best first.
    pub const fn new(claim: Claim, methods: Vec<Box<dyn ClientMethod>>) -> Self {
        Self { claim, methods, current: 0, refused: Vec::new(), rounds: 0 }
    }

    /// Who it says it is; the global id in it is the one last given.
    pub const fn claim(&self) -> &Claim {
        &self.claim
    }

    fn offered(&self) -> Vec<MethodId> {
        self.methods.iter().map(|method| method.id()).collect()
    }

    /// Starts over on a new connection.
    ///
    /// # Errors
    ///
    /// [`Error::NoCommonMethod`] if it has no method at all.
    pub fn start(&mut self) -> Result<Request, Error> {
        self.refused.clear();
        self.request(0, &[])
    }

    fn request(&mut self, index: usize, allowed: &[MethodId]) -> Result<Request, Error> {
        self.rounds = 0;
        self.current = index;
        let offered = self.offered();
        match self.methods.get_mut(index) {
            Some(method) => {
                let rest = method.begin(&self.claim);
                Ok(Request { method: method.id(), payload: self.claim.to_request(&rest) })
            }
            None => Err(Error::NoCommonMethod { allowed: allowed.to_vec(), offered }),
        }
    }

    /// The server refused: tries the next method that both have and that was not tried on this connection.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if the server takes the method and not us, [`Error::NoCommonMethod`] if nothing is left.
    pub fn on_bad_method(
        &mut self,
        refused: MethodId,
        result: i32,
        allowed: &[MethodId],
    ) -> Result<Request, Error> {
        self.refused.push(refused);
        if allowed.contains(&refused) && Refusal(result) != Refusal::UNSUPPORTED {
            return Err(Error::Refused { method: refused, errno: result.saturating_neg() });
        }
        let next = self
            .methods
            .iter()
            .position(|method| allowed.contains(&method.id()) && !self.refused.contains(&method.id()));
        self.request(next.unwrap_or(usize::MAX), allowed)
    }

    /// Answers a question of the server.
    ///
    /// # Errors
    ///
    /// [`Error::TooManyRounds`], and what the method says.
    pub fn on_more(&mut self, question: &Bytes) -> Result<Bytes, Error> {
        if self.rounds >= ROUNDS_MAX {
            return Err(Error::TooManyRounds(self.rounds));
        }
        self.rounds = self.rounds.saturating_add(1);
        match self.methods.get_mut(self.current) {
            Some(method) => method.more(question),
            None => Err(Error::Unexpected("a question before any request")),
        }
    }

    /// The server is satisfied; a monitor's number is kept for the next time.
    ///
    /// # Errors
    ///
    /// What the method says.
    pub fn on_done(&mut self, global_id: u64, payload: &Bytes) -> Result<SessionKey, Error> {
        let Some(method) = self.methods.get_mut(self.current) else {
            return Err(Error::Unexpected("an end before any request"));
        };
        let key = method.done(payload)?;
        if self.claim.form == crate::Form::Monitor {
            self.claim.global_id = global_id;
        }
        Ok(key)
    }

    /// The first MAuth of messenger v1, which lists the methods for the monitor to choose.
    pub fn hello(&self, monmap_epoch: u32) -> MAuth {
        let hello =
            Hello { methods: self.offered(), name: self.claim.name.clone(), global_id: self.claim.global_id };
        MAuth::new(MethodId::UNKNOWN, hello.to_bytes(Features::PACIFIC), monmap_epoch)
    }

    /// Takes the answer to [`hello`](Self::hello), with which AUTH_NONE is through.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] and [`Error::NoCommonMethod`] for a result other than 0, and what the method says.
    pub fn on_reply(&mut self, reply: &MAuthReply) -> Result<SessionKey, Error> {
        if reply.result != 0 && reply.protocol == MethodId::UNKNOWN {
            return Err(Error::NoCommonMethod { allowed: Vec::new(), offered: self.offered() });
        }
        if reply.result != 0 {
            return Err(Error::Refused { method: reply.protocol, errno: reply.result.saturating_neg() });
        }
        let chosen = self.methods.iter().position(|method| method.id() == reply.protocol);
        let Some(chosen) = chosen else {
            return Err(Error::Unexpected("a method that was not offered"));
        };
        self.current = chosen;
        self.on_done(reply.global_id, &reply.payload)
    }
}
