use core::time::Duration;

use cuttlebone_wire::EntityAddrs;

use crate::client::{Client, ClientConfig};

/// How long the question who leads may take; without an answer the order stays as it was given.
const QUORUM_TIMEOUT: Duration = Duration::from_secs(5);
/// What every monitor in a quorum answers by itself.
const QUORUM_STATUS: &str = r#"{"prefix":"quorum_status","format":"json"}"#;

/// The monitors with the leader last: a copy costs its provider time under its one lock, and the leader needs it most.
pub(crate) async fn peons_first(monitors: &[EntityAddrs], connect_timeout: Duration) -> Vec<EntityAddrs> {
    let mut ordered = monitors.to_vec();
    if monitors.len() > 1
        && let Some(leader) = leader(monitors, connect_timeout.min(QUORUM_TIMEOUT)).await
    {
        // Stable: peons stay in the order in which they were given.
        ordered.sort_by_key(|addrs| addrs.0.iter().any(|addr| leader.0.contains(addr)));
    }
    ordered
}

/// The leader's addresses, if a quorum says in time who that is.
async fn leader(monitors: &[EntityAddrs], within: Duration) -> Option<EntityAddrs> {
    let config = ClientConfig { monitors: monitors.to_vec(), id: "admin".into(), timeout: within };
    let mut client = Client::connect(&config).await.ok()?;
    let asked = async {
        let map = client.map().await.ok()?;
        let status = client.command(QUORUM_STATUS, "").await.ok()?;
        let leader = text_field(&status.output, "quorum_leader_name")?;
        Some(map.mons.get(&leader)?.addrs.clone())
    };
    // A monitor outside of any quorum keeps the question until it is in one.
    let leader = tokio::time::timeout(within, asked).await.ok().flatten();
    client.close().await;
    leader
}

/// A text field of a flat part of a JSON document.
fn text_field(json: &[u8], name: &str) -> Option<String> {
    let json: serde_json::Value = serde_json::from_slice(json).ok()?;
    Some(json.get(name)?.as_str()?.into())
}
