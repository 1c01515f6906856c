use bytes::Bytes;
use cuttlebone_wire::Reader;

use crate::{AcceptStep, Claim, ClientMethod, Error, MethodId, Refusal, ServerMethod, SessionKey};

/// AUTH_NONE, asking: the claim is all there is.
///
/// Source: `ceph/ceph:src/auth/none/AuthNoneClientHandler.h`; seen in 16.2.15.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct NoneClient;

impl ClientMethod for NoneClient {
    fn id(&self) -> MethodId {
        MethodId::NONE
    }

    fn begin(&mut self, _claim: &Claim) -> Bytes {
        Bytes::new()
    }

    fn more(&mut self, _question: &Bytes) -> Result<Bytes, Error> {
        Err(Error::Unexpected("a question, although AUTH_NONE has none"))
    }

    fn done(&mut self, _payload: &Bytes) -> Result<SessionKey, Error> {
        Ok(SessionKey::None)
    }
}

/// AUTH_NONE, asked: every well-formed claim holds.
///
/// Source: `ceph/ceph:src/auth/none/AuthNoneServiceHandler.h`, `AuthNoneAuthorizeHandler.cc`; seen in 16.2.15.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct NoneServer;

impl ServerMethod for NoneServer {
    fn id(&self) -> MethodId {
        MethodId::NONE
    }

    fn begin(&mut self, _claim: &Claim, _rest: &mut Reader<'_>) -> Result<AcceptStep, Refusal> {
        Ok(AcceptStep::Done { payload: Bytes::new(), key: SessionKey::None })
    }

    fn more(&mut self, _answer: &Bytes) -> Result<AcceptStep, Refusal> {
        Err(Refusal::DENIED)
    }
}
