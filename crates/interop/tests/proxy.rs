//! The proxy that makes the network bad.

use core::net::{Ipv4Addr, SocketAddr};
use core::time::Duration;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use anyhow::Result;
use cuttlebone_testkit::{Proxy, ProxyConfig};

/// A server that sends back what it gets.
fn echo() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let addr = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            thread::spawn(move || -> Result<()> {
                let mut piece = vec![0; 1 << 16];
                while let n @ 1.. = stream.read(&mut piece)? {
                    stream.write_all(&piece[..n])?;
                }
                Ok(())
            });
        }
    });
    Ok(addr)
}

#[test]
fn bytes_pass_in_order_and_the_end_passes_too() -> Result<()> {
    let proxy =
        Proxy::start(echo()?, ProxyConfig { delay: Duration::from_millis(5), ..ProxyConfig::default() })?;
    let mut stream = TcpStream::connect(proxy.addr())?;
    let sent: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let mut writing = stream.try_clone()?;
    let expected = sent.clone();
    let writer = thread::spawn(move || -> Result<()> {
        writing.write_all(&sent)?;
        Ok(writing.shutdown(std::net::Shutdown::Write)?)
    });
    let mut received = Vec::new();
    stream.read_to_end(&mut received)?;
    writer.join().expect("the writer does not panic")?;
    assert!(received == expected);
    assert_eq!(proxy.accepted(), 1);
    Ok(())
}

#[test]
fn a_connection_is_cut_after_its_bytes_and_a_stalled_one_delivers_later() -> Result<()> {
    let limit = ProxyConfig { cut_after_bytes: Some(1000), ..ProxyConfig::default() };
    let proxy = Proxy::start(echo()?, limit)?;
    let mut stream = TcpStream::connect(proxy.addr())?;
    stream.write_all(&[7; 5000])?;
    let mut received = Vec::new();
    // Cut in the middle: the end of the stream or a reset, depending on what was still on the way.
    let _ = stream.read_to_end(&mut received);
    assert_eq!(received, [7; 1000]);

    let proxy = Proxy::start(echo()?, ProxyConfig::default())?;
    let mut stream = TcpStream::connect(proxy.addr())?;
    proxy.stall(true);
    stream.write_all(b"hello")?;
    stream.set_read_timeout(Some(Duration::from_millis(50)))?;
    let mut hello = [0; 5];
    assert!(stream.read_exact(&mut hello).is_err());
    proxy.stall(false);
    stream.set_read_timeout(None)?;
    stream.read_exact(&mut hello)?;
    assert_eq!(&hello, b"hello");
    proxy.cut();
    assert!(matches!(stream.read(&mut hello), Ok(0) | Err(_)));
    Ok(())
}
