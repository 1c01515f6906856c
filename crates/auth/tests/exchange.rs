//! Both sides of authentication, captured bytes, and the objects of real releases.

use bytes::Bytes;
use cuttlebone_auth::{
    AcceptStep, Accepted, Answer, Claim, Client, ClientMethod, Error, Form, Hello, MAuth, MAuthReply,
    MethodId, NoneClient, NoneServer, Refusal, Server, ServerMethod, SessionKey,
};
use cuttlebone_wire::{Decode, Encode, EntityName, EntityType, Features, Reader};
use proptest::prelude::*;

fn claim(form: Form, name: &str, global_id: u64) -> Claim {
    Claim { form, name: name.parse().expect("a name"), global_id }
}

/// A method with one question, as CephX will have.
#[derive(Debug)]
struct Riddle;

const RIDDLE: MethodId = MethodId(99);

impl ClientMethod for Riddle {
    fn id(&self) -> MethodId {
        RIDDLE
    }
    fn begin(&mut self, _claim: &Claim) -> Bytes {
        Bytes::from_static(b"begin")
    }
    fn more(&mut self, question: &Bytes) -> Result<Bytes, Error> {
        Ok(question.iter().rev().copied().collect())
    }
    fn done(&mut self, payload: &Bytes) -> Result<SessionKey, Error> {
        if payload == "well done" { Ok(SessionKey::None) } else { Err(Error::Unexpected("no praise")) }
    }
}

impl ServerMethod for Riddle {
    fn id(&self) -> MethodId {
        RIDDLE
    }
    fn begin(&mut self, _claim: &Claim, rest: &mut Reader<'_>) -> Result<AcceptStep, Refusal> {
        let rest = rest.bytes(rest.remaining(), "rest").map_err(|_| Refusal::DENIED)?;
        if rest == "begin" { Ok(AcceptStep::Ask(Bytes::from_static(b"abc"))) } else { Err(Refusal::DENIED) }
    }
    fn more(&mut self, answer: &Bytes) -> Result<AcceptStep, Refusal> {
        let payload = Bytes::from_static(b"well done");
        if answer == "cba" {
            Ok(AcceptStep::Done { payload, key: SessionKey::None })
        } else {
            Err(Refusal::DENIED)
        }
    }
}

#[test]
fn the_requests_of_auth_none_have_the_captured_bytes() {
    let request = claim(Form::Monitor, "client.admin", 0).to_request(&Bytes::new());
    assert_eq!(&request[..], b"\x0a\x08\0\0\0\x05\0\0\0admin\0\0\0\0\0\0\0\0");
    let authorizer = claim(Form::Authorizer, "mon.a", 0).to_request(&Bytes::new());
    assert_eq!(&authorizer[..], b"\x01\x01\0\0\0\x01\0\0\0a\0\0\0\0\0\0\0\0");
}

#[test]
fn the_messages_of_messenger_v1_have_the_captured_bytes() {
    let client = Client::none(claim(Form::Monitor, "client.admin", 0));
    let first = client.hello(0).to_bytes(Features::PACIFIC);
    let captured =
        b"\0\0\0\0\0\0\0\0\xff\xff\0\0\0\0\0\0\0\0\0\0\0\0\x1e\0\0\0\x01\x01\0\0\0\x01\0\0\0\x08\0\0\0\
        \x05\0\0\0admin\0\0\0\0\0\0\0\0\0\0\0\0";
    assert_eq!(&first[..], captured);
    let captured = b"\x01\0\0\0\0\0\0\0\x8c\x10\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let reply = MAuthReply::decode(&Bytes::from_static(captured)).unwrap();
    assert_eq!((reply.protocol, reply.result, reply.global_id), (MethodId::NONE, 0, 0x108c));
    assert_eq!(&reply.to_bytes(Features::PACIFIC)[..], captured);
}

#[test]
fn a_client_without_a_number_is_given_one_and_claims_it_again() {
    let mut client = Client::none(claim(Form::Monitor, "client.admin", 0));
    for spare in [4100, 4200] {
        let mut server = Server::none(EntityType::CLIENT, spare);
        let request = client.start().unwrap();
        let Answer::Done { payload, accepted } = server.on_request(request.method, &request.payload) else {
            panic!("AUTH_NONE is through at once");
        };
        assert_eq!(accepted.global_id, 4100);
        client.on_done(accepted.global_id, &payload).unwrap();
    }
    assert_eq!(client.claim().global_id, 4100);
}

#[test]
fn an_authorizer_is_taken_at_its_word_and_its_number_too() {
    let mut client = Client::none(claim(Form::Authorizer, "client.admin", 4107));
    let request = client.start().unwrap();
    let answer = Server::none(EntityType::CLIENT, 1).on_request(request.method, &request.payload);
    let expected = Accepted {
        name: EntityName::new(EntityType::CLIENT, "admin"),
        global_id: 4107,
        form: Form::Authorizer,
        key: SessionKey::None,
    };
    assert_eq!(answer, Answer::Done { payload: Bytes::new(), accepted: expected });
    client.on_done(0, &Bytes::new()).unwrap();
    assert_eq!(client.claim().global_id, 4107, "a service echoes, it does not give");
}

#[test]
fn nobody_passes_under_a_name_of_another_kind_than_was_announced() {
    for (announced, name, holds) in [
        (EntityType::MON, "mon.a", true),
        (EntityType::MON, "client.admin", false),
        (EntityType::CLIENT, "mon.a", false),
        (EntityType::CLIENT, "osd.0", false),
        (EntityType::OSD, "osd.0", true),
    ] {
        for form in [Form::Authorizer, Form::Monitor] {
            let request = claim(form, name, 1).to_request(&Bytes::new());
            let answer = Server::none(announced, 1).on_request(MethodId::NONE, &request);
            let refused = Answer::BadMethod {
                method: MethodId::NONE,
                refusal: Refusal::DENIED,
                allowed: vec![MethodId::NONE],
            };
            assert_eq!(answer != refused, holds, "{name} as {announced}");
        }
    }
}

#[test]
fn a_refused_method_is_followed_by_an_allowed_one() {
    let mut client = Client::new(
        claim(Form::Monitor, "client.admin", 0),
        vec![Box::new(Riddle), Box::new(NoneClient::default())],
    );
    let mut server = Server::none(EntityType::CLIENT, 7);
    let first = client.start().unwrap();
    assert_eq!(first.method, RIDDLE);
    let Answer::BadMethod { method, refusal, allowed } = server.on_request(first.method, &first.payload)
    else {
        panic!("the server knows no riddles");
    };
    assert_eq!(refusal, Refusal::UNSUPPORTED);
    let second = client.on_bad_method(method, refusal.0, &allowed).unwrap();
    assert_eq!(second.method, MethodId::NONE);
    assert!(matches!(server.on_request(second.method, &second.payload), Answer::Done { .. }));
    // And on the next connection from the start.
    assert_eq!(client.start().unwrap().method, RIDDLE);
}

#[test]
fn no_common_method_and_wrong_credentials_are_told_apart() {
    let mut client = Client::none(claim(Form::Monitor, "client.admin", 0));
    client.start().unwrap();
    let error = client.on_bad_method(MethodId::NONE, -95, &[MethodId::CEPHX]).unwrap_err();
    assert!(matches!(&error, Error::NoCommonMethod { allowed, .. } if allowed == &[MethodId::CEPHX]));
    assert_eq!(error.to_string(), "the peer allows only [cephx], and we can offer [none]");
    client.start().unwrap();
    let error = client.on_bad_method(MethodId::NONE, -13, &[MethodId::NONE]).unwrap_err();
    assert_eq!(error, Error::Refused { method: MethodId::NONE, errno: 13 });
    client.start().unwrap();
    assert!(client.on_bad_method(MethodId::NONE, i32::MIN, &[MethodId::NONE]).is_err());
}

#[test]
fn a_method_with_questions_fits_without_changing_its_callers() {
    let mut client = Client::new(claim(Form::Monitor, "client.admin", 0), vec![Box::new(Riddle)]);
    let mut server =
        Server::new(vec![Box::new(NoneServer::default()), Box::new(Riddle)], EntityType::CLIENT, 7);
    let request = client.start().unwrap();
    let Answer::More(question) = server.on_request(request.method, &request.payload) else {
        panic!("a question")
    };
    let answer = client.on_more(&question).unwrap();
    let Answer::Done { payload, accepted } = server.on_more(&answer) else { panic!("an end") };
    assert_eq!(client.on_done(accepted.global_id, &payload), Ok(SessionKey::None));
    assert!(matches!(server.on_more(&Bytes::from_static(b"wrong")), Answer::BadMethod { .. }));
    assert!(matches!(server.on_more(&answer), Answer::BadMethod { .. }), "nothing is under way any more");
}

#[test]
fn a_server_that_asks_without_end_is_given_up() {
    let mut client = Client::new(claim(Form::Monitor, "client.admin", 0), vec![Box::new(Riddle)]);
    client.start().unwrap();
    let mut rounds = 0;
    while client.on_more(&Bytes::new()).is_ok() {
        rounds += 1;
        assert!(rounds < 100);
    }
    assert!(rounds > 2);
}

#[test]
fn messenger_v1_comes_to_the_same_end() {
    let mut client = Client::none(claim(Form::Monitor, "client.admin", 0));
    let first = MAuth::decode(&client.hello(3).to_message().front).unwrap();
    assert_eq!((first.protocol, first.monmap_epoch), (MethodId::UNKNOWN, Some(3)));
    let (reply, accepted) = Server::none(EntityType::CLIENT, 4107).on_hello(&first);
    assert_eq!(accepted.map(|accepted| accepted.global_id), Some(4107));
    let reply = MAuthReply::decode(&reply.to_message().front).unwrap();
    assert_eq!(client.on_reply(&reply), Ok(SessionKey::None));
    assert_eq!(client.claim().global_id, 4107);

    let (reply, accepted) =
        Server::new(vec![Box::new(Riddle)], EntityType::CLIENT, 1).on_hello(&client.hello(0));
    assert_eq!((reply.protocol, reply.result, accepted), (MethodId::UNKNOWN, -95, None));
    assert!(matches!(client.on_reply(&reply), Err(Error::NoCommonMethod { .. })));
    let (reply, _) = Server::none(EntityType::MON, 1).on_hello(&client.hello(0));
    assert_eq!(client.on_reply(&reply), Err(Error::Refused { method: MethodId::NONE, errno: 13 }));
}

proptest! {
    #[test]
    fn no_payload_makes_a_server_panic_or_believe(payload in prop::collection::vec(any::<u8>(), 0..100)) {
        let payload = Bytes::from(payload);
        let answer = Server::none(EntityType::CLIENT, 1).on_request(MethodId::NONE, &payload);
        if let Answer::Done { accepted, .. } = answer {
            prop_assert_eq!(accepted.name.kind, EntityType::CLIENT);
        }
        let _ = MAuth::decode(&payload);
        let _ = MAuthReply::decode(&payload);
    }

    #[test]
    fn messages_come_back_as_they_were_written(
        protocol: u32, result: i32, global_id: u64, text in "[a-z ]{0,40}", epoch: Option<u32>,
        payload in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let payload = Bytes::from(payload);
        let auth = MAuth { monmap_epoch: epoch, ..MAuth::new(MethodId(protocol), payload.clone(), 0) };
        prop_assert_eq!(MAuth::decode(&auth.to_bytes(Features::PACIFIC)), Ok(auth));
        let reply = MAuthReply { protocol: MethodId(protocol), result, global_id, payload, text };
        prop_assert_eq!(MAuthReply::decode(&reply.to_bytes(Features::PACIFIC)), Ok(reply));
        let hello = Hello {
            methods: vec![MethodId(protocol), MethodId::NONE],
            name: EntityName::new(EntityType::MON, "a"),
            global_id,
        };
        let bytes = hello.to_bytes(Features::PACIFIC);
        prop_assert_eq!(Hello::decode(&mut Reader::new(&bytes)), Ok(hello));
    }
}
