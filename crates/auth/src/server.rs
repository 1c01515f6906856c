use alloc::boxed::Box;
use alloc::string::ToString;
use alloc::vec::Vec;

use bytes::Bytes;
use cuttlebone_wire::{Decode, EntityName, EntityType, Reader};

use crate::{
    AcceptStep, Claim, Form, Hello, MAuth, MAuthReply, MethodId, NoneServer, Refusal, ServerMethod,
    SessionKey,
};

/// Whom a server has accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "what an exchange ends with")]
pub struct Accepted {
    /// Who it is.
    pub name: EntityName,
    /// Its number: given away by us, or as claimed.
    pub global_id: u64,
    /// To whom it spoke.
    pub form: Form,
    /// What both sides now share.
    pub key: SessionKey,
}

/// What to tell the client.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the three answers of the protocol")]
pub enum Answer {
    /// Ask this.
    More(Bytes),
    /// End with this.
    Done {
        /// What the method ends with.
        payload: Bytes,
        /// Who the client is.
        accepted: Accepted,
    },
    /// Refuse; the client may try another method.
    BadMethod {
        /// What was refused.
        method: MethodId,
        /// Why.
        refusal: Refusal,
        /// What is allowed.
        allowed: Vec<MethodId>,
    },
}

/// The side that is asked, for one connection.
///
/// A claim holds only if the entity type in the name is the one that the connection itself announced. 16.2 checks
/// that nowhere with AUTH_NONE, which lets one kind of entity pass for another.
#[derive(Debug)]
pub struct Server {
    methods: Vec<Box<dyn ServerMethod>>,
    /// What the peer's HELLO, or the sender of its messages, says it is.
    announced: EntityType,
    /// The number for a client that has none.
    spare_global_id: u64,
    current: Option<(usize, Claim)>,
}

impl Server {
    /// A server that has AUTH_NONE only, for a connection that announced itself as `announced`.
    pub fn none(announced: EntityType, spare_global_id: u64) -> Self {
        let none: Box<dyn ServerMethod> = Box::new(NoneServer);
        Self::new(Vec::from([none]), announced, spare_global_id)
    }

    /// A server with these methods.
    pub const fn new(
        methods: Vec<Box<dyn ServerMethod>>,
        announced: EntityType,
        spare_global_id: u64,
    ) -> Self {
        Self { methods, announced, spare_global_id, current: None }
    }

    /// The methods it allows.
    pub fn allowed(&self) -> Vec<MethodId> {
        self.methods.iter().map(|method| method.id()).collect()
    }

    fn refuse(&mut self, method: MethodId, refusal: Refusal) -> Answer {
        self.current = None;
        Answer::BadMethod { method, refusal, allowed: self.allowed() }
    }

    /// Takes the first request of messenger v2.
    pub fn on_request(&mut self, method: MethodId, payload: &Bytes) -> Answer {
        let Some(index) = self.methods.iter().position(|known| known.id() == method) else {
            return self.refuse(method, Refusal::UNSUPPORTED);
        };
        let mut r = Reader::new(payload);
        match Claim::read(&mut r) {
            Ok(claim) => self.begin(index, method, claim, &mut r),
            Err(_) => self.refuse(method, Refusal::DENIED),
        }
    }

    fn begin(&mut self, index: usize, method: MethodId, claim: Claim, r: &mut Reader<'_>) -> Answer {
        if claim.name.kind != self.announced {
            return self.refuse(method, Refusal::DENIED);
        }
        let Some(state) = self.methods.get_mut(index) else {
            return self.refuse(method, Refusal::UNSUPPORTED);
        };
        let step = state.begin(&claim, r);
        self.current = Some((index, claim));
        self.conclude(method, step)
    }

    /// Takes the answer to a question.
    pub fn on_more(&mut self, answer: &Bytes) -> Answer {
        let index = self.current.as_ref().map_or(usize::MAX, |(index, _)| *index);
        match self.methods.get_mut(index) {
            Some(state) => {
                let method = state.id();
                let step = state.more(answer);
                self.conclude(method, step)
            }
            None => self.refuse(MethodId::UNKNOWN, Refusal::DENIED),
        }
    }

    fn conclude(&mut self, method: MethodId, step: Result<AcceptStep, Refusal>) -> Answer {
        match (step, &self.current) {
            (Ok(AcceptStep::Ask(question)), Some(_)) => Answer::More(question),
            (Ok(AcceptStep::Done { payload, key }), Some((_, claim))) => {
                let fresh = claim.form == Form::Monitor && claim.global_id == 0;
                let accepted = Accepted {
                    name: claim.name.clone(),
                    global_id: if fresh { self.spare_global_id } else { claim.global_id },
                    form: claim.form,
                    key,
                };
                Answer::Done { payload, accepted }
            }
            (Err(refusal), _) => self.refuse(method, refusal),
            (Ok(_), None) => self.refuse(method, Refusal::DENIED),
        }
    }

    /// Takes the first MAuth of messenger v1, chooses a method, and gives the reply; and whom it accepted, if the
    /// exchange is over.
    pub fn on_hello(&mut self, first: &MAuth) -> (MAuthReply, Option<Accepted>) {
        let mut r = Reader::new(&first.payload);
        let Ok(hello) = Hello::decode(&mut r) else {
            return (reply(MethodId::UNKNOWN, Refusal::DENIED.0, 0, Bytes::new(), "malformed"), None);
        };
        let Some(index) = self.methods.iter().position(|known| hello.methods.contains(&known.id())) else {
            return (reply(MethodId::UNKNOWN, Refusal::UNSUPPORTED.0, 0, Bytes::new(), ""), None);
        };
        let method = self.methods.get(index).map_or(MethodId::UNKNOWN, |known| known.id());
        let claim = Claim { form: Form::Monitor, name: hello.name, global_id: hello.global_id };
        match self.begin(index, method, claim, &mut r) {
            Answer::More(question) => (reply(method, 0, 0, question, ""), None),
            Answer::Done { payload, accepted } => {
                (reply(method, 0, accepted.global_id, payload, ""), Some(accepted))
            }
            Answer::BadMethod { refusal, .. } => (reply(method, refusal.0, 0, Bytes::new(), "refused"), None),
        }
    }
}

fn reply(protocol: MethodId, result: i32, global_id: u64, payload: Bytes, text: &str) -> MAuthReply {
    MAuthReply { protocol, result, global_id, payload, text: text.to_string() }
}
