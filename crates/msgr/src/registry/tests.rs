use cuttlebone_wire::{EntityAddr, Features};

use super::*;

fn addrs(nonce: u32) -> EntityAddrs {
    let addr: EntityAddr = "v2:10.0.0.2:3300/0".parse().unwrap();
    EntityAddr { nonce, ..addr }.into()
}

fn ident(nonce: u32, cookie: u64, global_seq: u64) -> Opening {
    let target: EntityAddr = "v2:10.0.0.1:3300/0".parse().unwrap();
    let ident = ClientIdent::between(addrs(nonce), target, 0, Features::PACIFIC);
    Opening::New(ClientIdent { global_seq, cookie, ..ident })
}

fn reconnect(nonce: u32, client_cookie: u64, global_seq: u64, connect_seq: u64) -> Opening {
    Opening::Resumed(Reconnect {
        addrs: addrs(nonce),
        client_cookie,
        server_cookie: 0,
        global_seq,
        connect_seq,
        msg_seq: 0,
    })
}

/// A registry with one session of client cookie 7, at global_seq 10 and connect_seq 5, and its key.
fn with_one() -> (Registry, SessionKey) {
    let mut registry = Registry::new(2);
    let Decision::Fresh { key, replaces: None } = registry.decide(&ident(1, 7, 1), Policy::Lossless) else {
        panic!("a first session is fresh");
    };
    assert_eq!(registry.decide(&reconnect(1, 7, 10, 5), Policy::Lossless), Decision::Resume(key));
    registry.settled(key);
    (registry, key)
}

#[test]
fn the_rows_of_a_reconnect_are_decided_in_their_order() {
    let reset = Decision::Reply(OpeningReply::Reset { full: true });
    let cases = [
        (reconnect(2, 7, 99, 99), reset.clone()),
        (reconnect(1, 8, 99, 99), reset),
        (reconnect(1, 7, 9, 99), Decision::Reply(OpeningReply::RetryGlobal(10))),
        (reconnect(1, 7, 11, 4), Decision::Reply(OpeningReply::Retry(5))),
    ];
    for (opening, expected) in cases {
        assert_eq!(with_one().0.decide(&opening, Policy::Lossless), expected, "{opening:?}");
    }
    for (global_seq, connect_seq) in [(10, 5), (11, 5), (10, 6)] {
        let (mut registry, key) = with_one();
        let opening = reconnect(1, 7, global_seq, connect_seq);
        assert_eq!(registry.decide(&opening, Policy::Lossless), Decision::Resume(key));
    }
}

#[test]
fn while_a_session_is_being_replaced_others_have_to_wait() {
    let (mut registry, key) = with_one();
    assert_eq!(registry.decide(&reconnect(1, 7, 20, 6), Policy::Lossless), Decision::Resume(key));
    let again = registry.decide(&reconnect(1, 7, 21, 7), Policy::Lossless);
    assert_eq!(again, Decision::Reply(OpeningReply::RetryGlobal(20)));
    let anew = registry.decide(&ident(1, 9, 21), Policy::Lossless);
    assert_eq!(anew, Decision::ReplyAndClose(OpeningReply::Wait));
    registry.settled(key);
    assert_eq!(registry.decide(&reconnect(1, 7, 21, 7), Policy::Lossless), Decision::Resume(key));
}

#[test]
fn a_client_that_started_anew_replaces_its_session_and_an_echo_of_its_past_does_not() {
    let (mut registry, old) = with_one();
    assert_eq!(registry.decide(&ident(1, 8, 9), Policy::Lossless), Decision::Close);
    let Decision::Fresh { key, replaces } = registry.decide(&ident(1, 8, 11), Policy::Lossless) else {
        panic!("a new cookie is a new session");
    };
    assert_eq!(replaces, Some(old));
    // The old session ends after the new one has begun; it must not take it along.
    registry.remove(old);
    assert_eq!(registry.decide(&reconnect(1, 8, 12, 1), Policy::Lossless), Decision::Resume(key));
}

#[test]
fn a_client_that_never_saw_its_grant_gets_it_again() {
    let (mut registry, key) = with_one();
    assert_eq!(registry.decide(&ident(1, 7, 11), Policy::Lossless), Decision::Regrant(key));
}

#[test]
fn lossy_clients_are_not_registered_and_lossless_ones_up_to_the_limit() {
    let (mut registry, _) = with_one();
    for _ in 0..10 {
        let decision = registry.decide(&ident(1, 0, 1), Policy::Lossy);
        assert!(matches!(decision, Decision::Fresh { replaces: None, .. }));
    }
    assert_eq!(registry.len(), 1);
    assert!(matches!(registry.decide(&ident(2, 1, 1), Policy::Lossless), Decision::Fresh { .. }));
    assert_eq!(registry.decide(&ident(3, 1, 1), Policy::Lossless), Decision::Close);
}
