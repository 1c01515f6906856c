use bytes::Bytes;
use cuttlebone_auth::{Answer, Claim, Client, Form, Hello, MAuth, MAuthReply, MethodId, Server};
use cuttlebone_wire::{Decode, Encode, EntityName, EntityType, Features, Reader};

fn client() -> Client {
    let name = EntityName::new(EntityType::CLIENT, "admin");
    Client::none(Claim { form: Form::Monitor, name, global_id: 0 })
}

/// Every payload of authentication, read and written again, and given to both sides.
pub(crate) fn payload(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    if let Ok(auth) = MAuth::decode(&bytes) {
        let again = auth.to_bytes(Features::PACIFIC);
        assert_eq!(MAuth::decode(&again).as_ref(), Ok(&auth));
        let (reply, accepted) = Server::none(EntityType::CLIENT, 7).on_hello(&auth);
        assert_eq!(accepted.is_some(), reply.result == 0);
    }
    if let Ok(reply) = MAuthReply::decode(&bytes) {
        let again = reply.to_bytes(Features::PACIFIC);
        assert_eq!(MAuthReply::decode(&again).as_ref(), Ok(&reply));
        assert_eq!(client().on_reply(&reply).is_ok(), reply.result == 0 && reply.protocol == MethodId::NONE);
    }
    if let Ok(hello) = Hello::decode(&mut Reader::new(&bytes)) {
        let again = hello.to_bytes(Features::PACIFIC);
        assert_eq!(Hello::decode(&mut Reader::new(&again)), Ok(hello));
    }
    if let Answer::Done { accepted, .. } = Server::none(EntityType::MON, 7).on_request(MethodId::NONE, &bytes)
    {
        assert_eq!(accepted.name.kind, EntityType::MON, "nobody passes under another kind's name");
    }
}
