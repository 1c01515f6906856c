//! A mount table behind HTTP, a publisher that keeps a name in it, and somebody who asks: all in one process.
//!
//! `cargo run -p cuttlebone-http --example names`

use core::time::Duration;

use cuttlebone_http::mounts::{HttpTables, MountClient, Mounts, Principals};
use cuttlebone_http::{Client, Server, TokioClock};
use cuttlebone_machine::Instant;
use cuttlebone_mounttable::{Kind, Limits, Principal, Resolver, SharedTable, Table};
use cuttlebone_publisher::{Clock, publisher};

/// The runtime's clock as a publisher asks it.
#[derive(Clone, Copy)]
struct RuntimeClock(TokioClock);

impl Clock for RuntimeClock {
    fn now(&self) -> Instant {
        cuttlebone_tokens::Clock::now(&self.0)
    }

    async fn sleep_until(&self, at: Instant) {
        cuttlebone_tokens::Clock::until(&self.0, at).await;
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn core::error::Error>> {
    let (owner, clock) = (Principal::new("owner"), RuntimeClock(TokioClock::new()));
    let table = SharedTable::new(Table::new(Limits::private(), owner.clone()), move || clock.now());
    let server = Server::bind(&"127.0.0.1:0".parse()?, cuttlebone_http::Config::default()).await?;
    let client = MountClient::new(Client::new(server.address(), None));
    println!("a table on {}", server.address());
    tokio::spawn(server.serve(Mounts::new(table, Principals::owner(owner)), core::future::pending()));

    let config = cuttlebone_publisher::Config::default();
    let (publisher, driver) = publisher(config, vec![client.clone()], clock, 1)?;
    let driver = tokio::spawn(driver.run());
    drop(publisher.add_server(&"10.0.0.1:7000".parse()?)?);
    println!("{:?}", publisher.add_name(&"cell7/store".parse()?, Kind::Server)?.await);

    let resolver = Resolver::new(vec![client], HttpTables::new());
    let found = resolver.resolve(&"cell7/store/osdmap/12".parse()?).await?;
    println!("{} at {}", found.suffix, found.servers[0].server);

    publisher.stop(clock.now() + Duration::from_secs(5));
    println!("{} left behind", publisher.closed().await.left.len());
    driver.await?;
    if let Err(failure) = resolver.resolve(&"cell7/store".parse()?).await {
        println!("{failure}");
    }
    Ok(())
}
