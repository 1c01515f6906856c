//! Prints every path below a directory: `walk v2:127.0.0.1:3300 /`.

use cuttlebone_fs::{FileSystem, FsConfig, Place};
use cuttlebone_wire::EntityAddr;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn core::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(monitor), Some(root)) = (arguments.next(), arguments.next()) else {
        return Err("usage: walk MONITOR PATH, such as: walk v2:127.0.0.1:3300 /".into());
    };
    let monitor: EntityAddr = monitor.parse()?;
    let fs = FileSystem::mount(FsConfig::new([monitor.into()])).await?;
    let mut waiting = vec![Place::from(&root)];
    while let Some(place) = waiting.pop() {
        println!("{place}");
        let mut listing = fs.read_dir(&place);
        while let Some(entry) = listing.next().await {
            let entry = entry?;
            let below = place.join(&entry.name);
            if entry.metadata.is_dir() {
                waiting.push(below);
            } else {
                println!("{below}");
            }
        }
    }
    Ok(fs.unmount().await?)
}
