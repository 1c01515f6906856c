//! What it costs to pull a gigabyte of messages over loopback, beside a plain TCP sink that only reads.
//!
//! ```text
//! cargo run --release -p cuttlebone-driver --example bench_pull
//! ```
//!
//! The sending side runs in a process of its own, so that only the receiving side is counted.

use core::net::{Ipv4Addr, SocketAddr};
use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread;

use bytes::Bytes;
use cuttlebone_driver::{Clock, DriverLimits, Listener, dial, nonce};
use cuttlebone_link::{AcceptConfig, DialConfig, Event};
use cuttlebone_wire::{EntityAddr, Message, MessageType};

/// Messages of one run, and the bytes of each.
const MESSAGES: usize = 1024;
const MESSAGE_BYTES: usize = 1 << 20;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn core::error::Error>> {
    if env::args().nth(1).as_deref() == Some("serve") {
        return serve().await;
    }
    let mut server = Command::new(env::current_exe()?).arg("serve").stdout(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(server.stdout.take().ok_or("no output")?).lines();
    let link_at: SocketAddr = lines.next().ok_or("no address")??.parse()?;
    let sink_at: SocketAddr = lines.next().ok_or("no address")??.parse()?;
    for _ in 0..3 {
        measure("link", pull(link_at)).await?;
        measure("sink", async { sink(sink_at) }).await?;
    }
    println!("peak resident memory of this process: {}", peak_memory()?);
    server.kill()?;
    server.wait()?;
    Ok(())
}

/// Prints the seconds and the processor time of this process that `what` takes.
async fn measure(
    name: &str,
    what: impl Future<Output = Result<usize, Box<dyn core::error::Error>>>,
) -> Result<(), Box<dyn core::error::Error>> {
    let (clock, cpu) = (Clock::start(), cpu_seconds()?);
    let bytes = what.await?;
    let (wall, cpu) = (clock.now().as_nanos(), cpu_seconds()? - cpu);
    let wall = core::time::Duration::from_nanos(wall).as_secs_f64();
    println!("{name}: {bytes} bytes in {wall:.3} s, {cpu:.3} s of processor time");
    Ok(())
}

async fn pull(at: SocketAddr) -> Result<usize, Box<dyn core::error::Error>> {
    let config = DialConfig::monitor("bench", EntityAddr::v2(at), nonce());
    let (mut connection, driver) = dial(config, at, DriverLimits::default());
    let driver = tokio::spawn(driver);
    let (mut bytes, mut messages) = (0, 0);
    while messages < MESSAGES {
        match connection.recv().await.ok_or("the link has ended")? {
            Event::Message(message) => {
                bytes += message.front.len();
                messages += 1;
            }
            Event::Ready(_) => connection.send(Message::default()).await?,
            other => return Err(format!("{other:?}").into()),
        }
    }
    drop(connection);
    driver.await?;
    Ok(bytes)
}

fn sink(at: SocketAddr) -> Result<usize, Box<dyn core::error::Error>> {
    let mut stream = TcpStream::connect(at)?;
    let mut buffer = vec![0; MESSAGE_BYTES];
    let mut bytes = 0;
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(bytes),
            n => bytes += n,
        }
    }
}

async fn serve() -> Result<(), Box<dyn core::error::Error>> {
    let listener = Listener::bind((Ipv4Addr::LOCALHOST, 0).into()).await?;
    let at = listener.local_addr()?;
    let plain = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    println!("{at}\n{}", plain.local_addr()?);
    let payload = Bytes::from(vec![0x5a; MESSAGE_BYTES]);
    let raw = payload.clone();
    thread::spawn(move || {
        for stream in plain.incoming() {
            let Ok(mut stream) = stream else { return };
            for _ in 0..MESSAGES {
                if stream.write_all(&raw).is_err() {
                    break;
                }
            }
        }
    });
    let (mut peers, driver) =
        listener.serve(AcceptConfig::monitor(EntityAddr::v2(at)), DriverLimits::default());
    tokio::spawn(driver);
    while let Some(mut connection) = peers.accept().await {
        while !matches!(connection.recv().await, Some(Event::Message(_)) | None) {}
        for _ in 0..MESSAGES {
            let front = payload.clone();
            let message = Message { kind: MessageType(69), front, ..Message::default() };
            if connection.send(message).await.is_err() {
                break;
            }
        }
        tokio::spawn(async move { while connection.recv().await.is_some() {} });
    }
    Ok(())
}

/// Time that all threads of this process have spent on a processor.
fn cpu_seconds() -> Result<f64, Box<dyn core::error::Error>> {
    let mut nanos = 0_u64;
    for task in fs::read_dir("/proc/self/task")? {
        let stat = fs::read_to_string(task?.path().join("schedstat"))?;
        nanos += stat.split(' ').next().ok_or("no time")?.parse::<u64>()?;
    }
    Ok(core::time::Duration::from_nanos(nanos).as_secs_f64())
}

/// The kernel's own words.
fn peak_memory() -> Result<String, Box<dyn core::error::Error>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no such line")?;
    Ok(line.trim().into())
}
