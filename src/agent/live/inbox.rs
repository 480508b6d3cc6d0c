//! The way of a new configuration to a live host: one end puts it in, the loop takes it out between two rounds.
//!
//! What must hold: the newest configuration counts; whoever hands one over can wait until it is taken.

use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use crate::config::Config;

/// What came in: the newest counts.
#[derive(Debug)]
pub(super) enum Arrival {
    Fresh(Box<Config>),
    Refused(String),
}

#[derive(Debug, Default)]
struct Shared {
    newest: Mutex<Option<Arrival>>,
    arrived: Notify,
    taken: Notify,
}

/// Where a live host looks for a new configuration.
#[derive(Debug)]
pub struct Inbox(Arc<Shared>);

/// Where a new configuration is put.
#[derive(Debug)]
pub struct Outbox(Arc<Shared>);

/// Both ends of the way to a live host.
pub fn mailbox() -> (Outbox, Inbox) {
    let shared = Arc::new(Shared::default());
    (Outbox(shared.clone()), Inbox(shared))
}

impl Outbox {
    /// Hands over a configuration and waits until the host has taken it.
    pub async fn fresh(&self, config: Config) {
        self.put(Arrival::Fresh(Box::new(config)));
        self.0.taken.notified().await;
    }

    /// Tells why the new configuration is not taken.
    pub fn refused(&self, why: String) {
        self.put(Arrival::Refused(why));
    }

    fn put(&self, arrival: Arrival) {
        *self.0.newest.lock().expect("nobody panics while holding it") = Some(arrival);
        self.0.arrived.notify_one();
    }
}

impl Inbox {
    /// Waits until something has come. Cancel-safe.
    pub(super) async fn arrival(&self) {
        let waiting = || self.0.newest.lock().expect("nobody panics while holding it").is_some();
        while !waiting() {
            self.0.arrived.notified().await;
        }
    }

    pub(super) fn take(&self) -> Option<Arrival> {
        self.0.newest.lock().expect("nobody panics while holding it").take()
    }

    /// Tells whoever handed it over that the configuration is taken.
    pub(super) fn taken(&self) {
        self.0.taken.notify_one();
    }
}
