//! Those who wait for the end of a transfer of leadership.

use rm_raft::{MachineId, TransferOutcome};
use tokio::sync::oneshot;

use crate::message::Transferred;

/// The most that wait at a time.
const WAITERS_MAX: usize = 64;

/// Whoever asked for a transfer, with the target that was named.
#[derive(Default)]
pub(crate) struct Transfers(Vec<(Option<MachineId>, oneshot::Sender<Transferred>)>);

impl Transfers {
    /// Lets one more wait; false if too many do, or if nobody waits for the answer any more.
    pub(crate) fn wait(
        &mut self,
        to: Option<MachineId>,
        answer: oneshot::Sender<Transferred>,
    ) -> bool {
        self.0.retain(|(_, answer)| !answer.is_closed());
        let fits = self.0.len() < WAITERS_MAX && !answer.is_closed();
        if fits {
            self.0.push((to, answer));
        }
        fits
    }

    /// Tells those whom it concerns how a transfer ended. Who named no target goes on waiting when another takes its place.
    pub(crate) fn answer(&mut self, transferred: Transferred) {
        let replaced = transferred.outcome == TransferOutcome::Replaced;
        let concerns = |to: &Option<MachineId>| match to {
            None => !replaced,
            Some(_) => *to == transferred.to,
        };
        for (_, answer) in self.0.extract_if(.., |(to, _)| concerns(to)) {
            // Whoever asked may have gone away.
            let _ = answer.send(transferred);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_named_a_target_hears_of_it_and_who_named_none_of_the_last() {
        let mut transfers = Transfers::default();
        let (second, third) = (Some(MachineId(2)), Some(MachineId(3)));
        let mut waiters = Vec::new();
        for to in [second, None, third] {
            let (answer, waiter) = oneshot::channel();
            assert!(transfers.wait(to, answer));
            waiters.push(waiter);
        }
        let outcome = TransferOutcome::Replaced;
        transfers.answer(Transferred {
            to: second,
            outcome,
        });
        assert!(waiters[0].try_recv().is_ok());
        assert!(waiters[1].try_recv().is_err());
        let outcome = TransferOutcome::Done;
        transfers.answer(Transferred { to: third, outcome });
        for waiter in &mut waiters[1..] {
            let heard = waiter.try_recv().expect("an outcome");
            assert_eq!((heard.to, heard.outcome), (third, outcome));
        }
    }
}
