//! Who asks for something that takes long: it goes on through what passes, and as who its user is by then.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rm_actors::port::{Command, Port, Refusal};
use tonic::Extensions;

use crate::arrival::{Kept, Staying};
use crate::recognition::{Caller, signed};

/// The pause after what passes, before it is tried again.
pub(crate) const PAUSE: Duration = Duration::from_millis(100);

/// Whoever sent a request, in this machine.
#[derive(Clone)]
pub(crate) struct Visitor {
    /// On its behalf.
    pub(crate) port: Port,
    caller: Caller,
    /// What of its request is held, for as long as anybody goes on for it.
    _kept: Option<(Kept, Arc<Staying>)>,
}

impl Visitor {
    /// # Errors
    /// So much is held of others' requests who stay that there is no room for this one's.
    pub(crate) fn new(port: &Port, extensions: &Extensions) -> Result<Visitor, Refusal> {
        let kept = match extensions.get::<Kept>() {
            Some(kept) => Some((kept.clone(), Arc::new(kept.stay()?))),
            None => None,
        };
        let caller = Caller::new(port, extensions);
        let port = signed(port, extensions);
        // Who it is does not matter where nobody needs permissions, but they may be asked for before it gets what it wants.
        let by = port.signature().or_else(|| caller.certified());
        Ok(Visitor {
            port: port.signed(by),
            caller,
            _kept: kept,
        })
    }

    /// Pauses where what was refused may be granted in a while. Where users, roles or permissions have changed since the visitor was
    /// recognised it is recognised anew.
    ///
    /// # Errors
    /// The refusal, where it does not pass; that its token stands for nobody any more.
    pub(crate) async fn pause(&mut self, refusal: Refusal) -> Result<(), Refusal> {
        let is_outdated = refusal.is_outdated();
        if !is_outdated && !passes(&refusal) {
            return Err(refusal);
        }
        tokio::time::sleep(PAUSE).await;
        if is_outdated {
            self.port = self.caller.signed().await?;
        }
        Ok(())
    }

    /// Takes back what it did, again and again as long as that fails for reasons that pass, and for at most so long. Its token may have
    /// ended since: who it was is known, and the command must do nothing but take back.
    pub(crate) async fn take_back(&self, command: Command, time: Duration) {
        let began = Instant::now();
        loop {
            let by = self.port.signature();
            let by = by.map(|by| self.port.known(&by.user));
            let outcome = self.port.signed(by).wind_up(command.clone()).await;
            let is_due_again =
                outcome.is_err_and(|refusal| refusal.is_outdated() || passes(&refusal));
            if !is_due_again || began.elapsed() >= time {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Whether what was refused may be granted in a while.
fn passes(refusal: &Refusal) -> bool {
    match refusal {
        Refusal::NoLeader
        | Refusal::TooManyRequests
        | Refusal::NoRoomForReply { .. }
        | Refusal::TimedOut
        | Refusal::LeaderLost
        | Refusal::NoSpace
        | Refusal::Restarted => true,
        Refusal::TooLarge
        | Refusal::Behind
        | Refusal::Stalled
        | Refusal::Stopped
        | Refusal::Request(_)
        | Refusal::Damaged(_)
        | Refusal::Change(_)
        | Refusal::AddressTaken(_)
        | Refusal::Operator(_) => false,
    }
}
