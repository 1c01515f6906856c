//! A connection whose client says any bytes, for fuzz targets.

use std::sync::Arc;

use axum::Extension;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Duration, timeout};

use crate::config::{Config, HEAD_TIMEOUT};
use crate::face::Face;
use crate::peer::Peer;
use crate::server::converse;
use crate::traffic::Traffic;

/// Bytes of the answers that are read.
const ANSWERS_MAX: u64 = 1 << 20;

/// What the service says to `sent`, until it says no more.
///
/// # Panics
///
/// If the service does.
pub fn conversation(face: &Face, sent: &[u8]) -> Vec<u8> {
    // Time stands still while there is something to do, so the time-out below means that there is nothing.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime without input and output needs nothing from the system");
    runtime.block_on(async {
        let router = face
            .clone()
            .router(&Arc::new(Config::default()), Arc::new(Traffic::new(0)))
            .layer(Extension(Peer::new(true)));
        let (client, server) = tokio::io::duplex(64 * 1024);
        let service = tokio::spawn(converse(server, router, HEAD_TIMEOUT));
        let (read, mut write) = tokio::io::split(client);
        let mut read = read.take(ANSWERS_MAX);
        let mut answers = Vec::new();
        let says = async {
            // The service may hang up before it has heard everything.
            let _hung_up = write.write_all(sent).await;
            core::future::pending::<()>().await;
        };
        let hears = async {
            while let Ok(Ok(1..)) = timeout(Duration::from_millis(1), read.read_buf(&mut answers)).await {}
        };
        tokio::select! {
            () = says => {}
            () = hears => {}
        }
        drop((read, write));
        service.await.expect("no answer panics");
        answers
    })
}
