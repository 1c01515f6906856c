//! Keeps a name in etcd until it is interrupted: `cargo run -p cuttlebone-mounttable-etcd --example publish -- 127.0.0.1:2379`

use core::time::Duration;

use cuttlebone_machine::Instant;
use cuttlebone_mounttable::{Kind, Namespace};
use cuttlebone_mounttable_etcd::{Config, EtcdNamespace};
use cuttlebone_publisher::{Clock, publisher};

/// The runtime's clock as a publisher asks it.
#[derive(Clone, Copy)]
struct RuntimeClock(tokio::time::Instant);

impl Clock for RuntimeClock {
    fn now(&self) -> Instant {
        Instant::ZERO + self.0.elapsed()
    }

    async fn sleep_until(&self, at: Instant) {
        tokio::time::sleep_until(self.0 + at.since(Instant::ZERO)).await;
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn core::error::Error>> {
    let endpoint = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:2379".into());
    let etcd = EtcdNamespace::connect(&Config::new([endpoint.as_str()])).await?;
    let reader = EtcdNamespace::connect(&Config::new([endpoint.as_str()])).await?;
    let clock = RuntimeClock(tokio::time::Instant::now());
    let (publisher, driver) = publisher(cuttlebone_publisher::Config::default(), vec![etcd], clock, 1)?;
    let driver = tokio::spawn(driver.run());

    drop(publisher.add_server(&"10.0.0.1:7000".parse()?)?);
    println!("{:?}", publisher.add_name(&"cell7/store".parse()?, Kind::Server)?.await);
    println!("{:?}", reader.resolve("cell7/store/osdmap/12".parse()?).await?);
    tokio::signal::ctrl_c().await?;

    publisher.stop(clock.now() + Duration::from_secs(5));
    println!("{} left behind", publisher.closed().await.left.len());
    driver.await?;
    Ok(())
}
