//! Something that has come to pass, for whoever waits for it.

use tokio::sync::watch;

/// Raised or not.
pub(crate) struct Signal(watch::Sender<bool>);

impl Signal {
    /// Not raised.
    pub(crate) fn new() -> Signal {
        Signal(watch::Sender::new(false))
    }

    /// It has come to pass.
    pub(crate) fn raise(&self) {
        self.0.send_replace(true);
    }

    /// It is dealt with.
    pub(crate) fn lower(&self) {
        self.0.send_replace(false);
    }

    /// Whether it is raised.
    pub(crate) fn is_raised(&self) -> bool {
        *self.0.borrow()
    }

    /// Ready once it is raised.
    pub(crate) async fn raised(&self) {
        let mut receiver = self.0.subscribe();
        // The sender lives as long as this borrow of it.
        let _ = receiver.wait_for(|raised| *raised).await;
    }
}
