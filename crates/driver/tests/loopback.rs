//! The driver on real sockets: both ends are ours, the network between them is sometimes the test.

use core::net::SocketAddr;
use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use std::sync::Arc;

use bytes::Bytes;
use cuttlebone_driver::{Connection, DriverLimits, Listener, Peers, dial, nonce};
use cuttlebone_link::{AcceptConfig, DialConfig, Error, Event, Policy, Start, Timing};
use cuttlebone_wire::{EntityAddr, Message, MessageType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

async fn listen(limits: DriverLimits) -> (Peers, SocketAddr) {
    let listener = Listener::bind(loopback()).await.expect("a port");
    let at = listener.local_addr().expect("an address");
    let (peers, driver) = listener.serve(AcceptConfig::monitor(EntityAddr::v2(at)), limits);
    tokio::spawn(driver);
    (peers, at)
}

fn spawn(config: DialConfig, at: SocketAddr) -> Connection {
    let (connection, driver) = dial(config, at, DriverLimits::default());
    tokio::spawn(driver);
    connection
}

fn monitor(at: SocketAddr) -> DialConfig {
    DialConfig::monitor("x", EntityAddr::v2(at), nonce())
}

fn message(tid: u64, bytes: usize) -> Message {
    Message { kind: MessageType(69), tid, front: Bytes::from(vec![1; bytes]), ..Message::default() }
}

/// The next message; whatever else a lossless link tells is passed over.
async fn tid(connection: &mut Connection) -> u64 {
    loop {
        match connection.recv().await.expect("the link lives") {
            Event::Message(message) => return message.tid,
            Event::Ready(_) | Event::Lost(_) => {}
            other => panic!("unexpected {other:?}"),
        }
    }
}

/// Passes bytes on to `target` and breaks every connection whenever `cut` changes.
async fn proxy(target: SocketAddr, cut: watch::Receiver<usize>) -> SocketAddr {
    let listener = TcpListener::bind(loopback()).await.expect("a port");
    let at = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut cut = cut.clone();
            cut.mark_unchanged();
            tokio::spawn(async move {
                let Ok(mut server) = TcpStream::connect(target).await else { return };
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                    _ = cut.changed() => {}
                }
            });
        }
    });
    at
}

#[tokio::test]
async fn messages_of_every_size_arrive_in_both_directions() {
    let (mut peers, at) = listen(DriverLimits::default()).await;
    let client = spawn(monitor(at), at);
    let server = peers.accept().await.expect("a peer");
    let sizes = [0, 1, 1000, 40_000, 1 << 20, 5 << 20, 0, 33_000];
    let ends = [client, server].map(|end| {
        tokio::spawn(async move {
            let (outbox, mut inbox) = end.split();
            let sending = tokio::spawn(async move {
                for (tid, bytes) in (0..).zip(sizes) {
                    outbox.send(message(tid, bytes)).await.expect("an open link");
                }
                outbox
            });
            let mut got = Vec::new();
            while got.len() < sizes.len() {
                if let Event::Message(message) = inbox.recv().await.expect("the link lives") {
                    got.push(message.front.len());
                }
            }
            drop(sending.await);
            (got, inbox)
        })
    });
    let mut inboxes = Vec::new();
    for end in ends {
        let (got, inbox) = end.await.expect("no panic");
        assert_eq!(got, sizes);
        inboxes.push(inbox);
    }
}

#[tokio::test]
async fn a_session_survives_its_connections_and_its_user_gets_no_second_one() {
    let (mut peers, at) = listen(DriverLimits::default()).await;
    let (cut, on_cut) = watch::channel(0);
    let through = proxy(at, on_cut).await;
    let mut client = spawn(monitor(at), through);
    let mut server = peers.accept().await.expect("a peer");
    let mut resumed = 0;
    for round in 0..20_u64 {
        client.send(message(round, 70_000)).await.expect("an open link");
        server.send(message(round, 50_000)).await.expect("an open link");
        cut.send_modify(|cuts| *cuts += 1);
        assert_eq!(tid(&mut server).await, round);
        loop {
            match client.recv().await.expect("the link lives") {
                Event::Message(message) => {
                    assert_eq!(message.tid, round);
                    break;
                }
                Event::Ready(ready) => resumed += usize::from(ready.start == Start::Resumed),
                Event::Lost(_) => {}
                other => panic!("unexpected {other:?}"),
            }
        }
    }
    assert!(resumed > 0, "no connection was ever lost");
    let another = tokio::time::timeout(Duration::ZERO, peers.accept()).await;
    assert!(another.is_err(), "a resumed session is not a new peer");
}

#[tokio::test]
async fn closing_delivers_what_was_sent_before() {
    for config in [monitor, |at| DialConfig::client("admin", EntityAddr::v2(at), nonce())] {
        let (mut peers, at) = listen(DriverLimits::default()).await;
        let client = spawn(config(at), at);
        let mut server = peers.accept().await.expect("a peer");
        let taking = tokio::spawn(async move {
            let mut tids = Vec::new();
            while tids.len() < 100 {
                tids.push(tid(&mut server).await);
            }
            (tids, server)
        });
        for tid in 0..100 {
            client.send(message(tid, 20_000)).await.expect("an open link");
        }
        assert_eq!(client.close().await, Ok(()));
        let (tids, _server) = taking.await.expect("no panic");
        assert_eq!(tids, (0..100).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_user_who_does_not_listen_stops_the_peer_and_not_the_link() {
    let limits = DriverLimits { events_max: 2, ..DriverLimits::default() };
    let (mut peers, at) = listen(limits).await;
    let client = spawn(monitor(at), at);
    let mut server = peers.accept().await.expect("a peer");
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let (outbox, _inbox) = client.split();
    let sending = tokio::spawn(async move {
        for tid in 0..400 {
            outbox.send(message(tid, 1 << 20)).await.expect("an open link");
            count.fetch_add(1, Ordering::Relaxed);
        }
        outbox
    });
    // Nobody takes events at the server: the sender has to come to a halt long before everything is out.
    let mut before = usize::MAX;
    while before != sent.load(Ordering::Relaxed) {
        before = sent.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!((1..200).contains(&before), "{before} MiB went out to nobody");
    for round in 0..400 {
        assert_eq!(tid(&mut server).await, round);
    }
    drop(sending.await);
}

#[tokio::test]
async fn dropping_a_connection_closes_the_link_and_ends_its_driver() {
    let (mut peers, at) = listen(DriverLimits::default()).await;
    let (client, driver) =
        dial(DialConfig::client("admin", EntityAddr::v2(at), nonce()), at, DriverLimits::default());
    let driver = tokio::spawn(driver);
    let mut server = peers.accept().await.expect("a peer");
    assert!(matches!(server.recv().await, Some(Event::Ready(_))));
    drop(client);
    driver.await.expect("the driver ends");
    assert!(matches!(server.recv().await, Some(Event::Closed(Err(Error::Disconnected { .. })))));
    assert_eq!(server.recv().await, None);
}

#[tokio::test]
async fn receiving_can_be_cancelled_without_losing_an_event() {
    let (mut peers, at) = listen(DriverLimits::default()).await;
    let client = spawn(monitor(at), at);
    let mut server = peers.accept().await.expect("a peer");
    let sending = tokio::spawn(async move {
        for tid in 0..200 {
            client.send(message(tid, 10)).await.expect("an open link");
        }
        client
    });
    let mut got = Vec::new();
    while got.len() < 200 {
        // Polled once and dropped, again and again.
        tokio::select! {
            biased;
            tid = tid(&mut server) => got.push(tid),
            () = tokio::task::yield_now() => {}
        }
    }
    assert_eq!(got, (0..200).collect::<Vec<_>>());
    drop(sending.await);
}

#[tokio::test]
async fn a_lossy_link_tells_how_it_ended() {
    let (mut peers, at) = listen(DriverLimits::default()).await;
    let (cut, on_cut) = watch::channel(0);
    let through = proxy(at, on_cut).await;
    let mut client = spawn(DialConfig::client("admin", EntityAddr::v2(at), nonce()), through);
    let Some(Event::Ready(ready)) = client.recv().await else { panic!("no link") };
    assert_eq!(ready.policy, Policy::Lossy);
    let _server = peers.accept().await.expect("a peer");
    cut.send_modify(|cuts| *cuts += 1);
    let closed = client.recv().await;
    assert_eq!(closed, Some(Event::Closed(Err(Error::Disconnected { during: "the session is open" }))));
    assert_eq!(client.recv().await, None);
    assert!(client.send(message(0, 0)).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_stranger_who_says_nothing_is_hung_up_on_after_ten_seconds() {
    let (_peers, at) = listen(DriverLimits::default()).await;
    let mut stranger = TcpStream::connect(at).await.expect("a connection");
    let start = tokio::time::Instant::now();
    let mut banner = Vec::new();
    stranger.read_to_end(&mut banner).await.expect("the end");
    assert_eq!(banner.len(), 26, "our banner and nothing else");
    assert_eq!(start.elapsed().as_secs(), 10);
}

#[tokio::test]
async fn strangers_who_talk_nonsense_are_hung_up_on_and_others_are_served() {
    let (mut peers, at) = listen(DriverLimits::default()).await;
    for nonsense in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"ceph v027",
        b"ceph v2\n\x10\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        &[0xff; 64],
    ] {
        let mut stranger = TcpStream::connect(at).await.expect("a connection");
        stranger.write_all(nonsense).await.expect("room");
        let mut answer = Vec::new();
        // A reset instead of an end is as good: what we did not read was dropped with the socket.
        let _ = stranger.read_to_end(&mut answer).await;
        assert!(answer.len() <= 26, "nothing beyond the banner for {nonsense:?}");
    }
    let mut client = spawn(monitor(at), at);
    assert!(matches!(client.recv().await, Some(Event::Ready(_))));
    assert!(peers.accept().await.is_some());
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_their_turn() {
    let limits = DriverLimits { connections_max: 1, ..DriverLimits::default() };
    let (mut peers, at) = listen(limits).await;
    let mut first = spawn(monitor(at), at);
    assert!(matches!(first.recv().await, Some(Event::Ready(_))));
    let held = peers.accept().await.expect("a peer");
    let mut second = spawn(monitor(at), at);
    let early = tokio::time::timeout(Duration::from_millis(200), second.recv()).await;
    assert!(early.is_err(), "the limit is one");
    drop(held);
    drop(first);
    assert!(matches!(second.recv().await, Some(Event::Ready(_))));
}

#[tokio::test]
async fn an_unreachable_peer_is_one_typed_error() {
    let nobody = TcpListener::bind(loopback()).await.expect("a port").local_addr().expect("an address");
    let timing = Timing { give_up_after: Duration::ZERO, ..Timing::default() };
    let mut client = spawn(DialConfig { timing, ..monitor(nobody) }, nobody);
    assert_eq!(client.recv().await, Some(Event::Closed(Err(Error::Disconnected { during: "dialling" }))));
    assert_eq!(client.recv().await, None);
}

#[tokio::test]
async fn a_listener_that_nobody_asks_any_more_ends_with_its_last_link() {
    let listener = Listener::bind(loopback()).await.expect("a port");
    let at = listener.local_addr().expect("an address");
    let (mut peers, driver) =
        listener.serve(AcceptConfig::monitor(EntityAddr::v2(at)), DriverLimits::default());
    let driver = tokio::spawn(driver);
    let mut client = spawn(DialConfig::client("admin", EntityAddr::v2(at), nonce()), at);
    let server = peers.accept().await.expect("a peer");
    drop(peers);
    // The open link goes on, and nobody new gets in.
    server.send(message(1, 10)).await.expect("an open link");
    assert_eq!(tid(&mut client).await, 1);
    assert!(!driver.is_finished());
    drop(server);
    driver.await.expect("the listener ends");
    assert!(TcpStream::connect(at).await.is_err());
}
