//! The signals that end an agent, or have another process take its place.
//!
//! What must hold: the first of them counts, and from then on none ends the process by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

/// What signals have ordered.
#[derive(Clone, Debug)]
pub struct Orders {
    /// Becomes true at the first SIGTERM, SIGINT or SIGUSR1.
    pub stop: watch::Receiver<bool>,
    replace: Arc<AtomicBool>,
}

impl Orders {
    /// Whether another process takes the place of this one: SIGUSR1 says so.
    pub fn replace(&self) -> bool {
        self.replace.load(Ordering::SeqCst)
    }
}

/// Follows the signals that end a process.
///
/// # Errors
///
/// When the handlers cannot be installed.
pub fn stop_on_signals() -> std::io::Result<Orders> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut replaced = signal(SignalKind::user_defined1())?;
    let (sender, stop) = watch::channel(false);
    let replace = Arc::new(AtomicBool::new(false));
    let orders = Orders { stop, replace: replace.clone() };
    tokio::spawn(async move {
        // Cancel-safe: all arms only wait for a signal, and nothing else drops them.
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = replaced.recv() => replace.store(true, Ordering::SeqCst),
        }
        sender.send_replace(true);
        // The sender is kept: its end would be a stop order of its own.
        sender.closed().await;
    });
    Ok(orders)
}
