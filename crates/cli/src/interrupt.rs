use tokio::signal::unix::{SignalKind, signal};

/// How somebody asked us to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interrupt {
    /// SIGINT: a user at a terminal.
    Interrupt,
    /// SIGTERM: a service manager.
    Terminate,
}

/// Waits until somebody asks us to end.
///
/// # Cancel safety
///
/// Cancel safe.
pub(crate) async fn interrupted() -> Interrupt {
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        // Without handlers the signals end the process by themselves.
        return core::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => Interrupt::Interrupt,
        _ = terminate.recv() => Interrupt::Terminate,
    }
}
