//! What clients of this machine want of the lessor that leads: collected, asked in batches, and asked again until there is an answer.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rm_raft::MachineId;
use rm_wire::{LeaseStanding, LessorBody, LessorMessage};

use crate::leasing::LeaseLeft;
use crate::message::Answer;
use crate::port::Refusal;

/// The most leases of one question to another machine.
pub(crate) const BATCH_MAX: usize = 4_096;

/// What a client wants of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    Renew,
    Look,
}

/// What a client wants, of which lease.
pub(crate) struct Question {
    pub(crate) wish: Wish,
    pub(crate) id: i64,
    pub(crate) deadline: Instant,
    pub(crate) answer: Answer<Option<LeaseLeft>>,
}

/// The questions of this machine's clients. The port bounds their number.
pub(crate) struct Asking {
    waiting: Vec<Question>,
    /// Those that were not answered to any purpose: for them it is too early to ask again.
    resting: Vec<Question>,
    asked: HashMap<u64, Batch>,
    /// The number of the last batch. Those of earlier lives, and processes, are others.
    number: u64,
}

struct Batch {
    to: MachineId,
    questions: Vec<Question>,
    /// From then on it counts as lost.
    lost_at: Instant,
}

impl Asking {
    /// Numbers its batches from this number on.
    pub(crate) fn new(number: u64) -> Asking {
        Asking {
            waiting: Vec::new(),
            resting: Vec::new(),
            asked: HashMap::new(),
            number,
        }
    }

    /// One more question.
    pub(crate) fn add(&mut self, question: Question) {
        self.waiting.push(question);
    }

    /// The questions to the machine that leads, in batches.
    pub(crate) fn batches(
        &mut self,
        to: MachineId,
        now: Instant,
        patience: Duration,
    ) -> Vec<LessorMessage> {
        let waiting = std::mem::take(&mut self.waiting).into_iter();
        let (renew, look): (Vec<_>, Vec<_>) =
            waiting.partition(|question| question.wish == Wish::Renew);
        let mut batches = Vec::new();
        for (wish, questions) in [(Wish::Renew, renew), (Wish::Look, look)] {
            let mut questions = questions.into_iter().peekable();
            while questions.peek().is_some() {
                let questions: Vec<Question> = questions.by_ref().take(BATCH_MAX).collect();
                let ids = questions.iter().map(|question| question.id).collect();
                self.number += 1;
                batches.push(LessorMessage {
                    number: self.number,
                    body: match wish {
                        Wish::Renew => LessorBody::Renew(ids),
                        Wish::Look => LessorBody::Look(ids),
                    },
                });
                let batch = Batch {
                    to,
                    questions,
                    lost_at: now + patience,
                };
                self.asked.insert(self.number, batch);
            }
        }
        batches
    }

    /// The machine that was asked has answered. What has no answer yet rests.
    pub(crate) fn answered(&mut self, number: u64, standings: &[LeaseStanding]) {
        let Some(batch) = self.asked.remove(&number) else {
            return; // was given up, or is another life's
        };
        let missing = std::iter::repeat(&LeaseStanding::Unsettled);
        let standings = standings.iter().chain(missing);
        for (question, standing) in batch.questions.into_iter().zip(standings) {
            let left = match *standing {
                LeaseStanding::None => None,
                LeaseStanding::Held { ttl, left_ms } => Some(LeaseLeft {
                    ttl,
                    left: Duration::from_millis(left_ms),
                }),
                LeaseStanding::Unsettled => {
                    self.resting.push(question);
                    continue;
                }
            };
            // A client that has gone away needs no answer.
            let _ = question.answer.send(Ok(left));
        }
    }

    /// Another machine than before may lead: what was asked of others is asked again.
    pub(crate) fn leader_is(&mut self, leader: Option<MachineId>) {
        let others = |batch: &Batch| Some(batch.to) != leader;
        self.give_up(others);
    }

    /// Some time has passed: what rested is asked again, and what is lost.
    pub(crate) fn wake(&mut self, now: Instant) {
        self.waiting.append(&mut self.resting);
        self.give_up(|batch| batch.lost_at <= now);
        let is_wanted =
            |question: &Question| question.deadline > now && !question.answer.is_closed();
        self.waiting.retain(is_wanted);
    }

    /// A machine that stops asks nobody again.
    pub(crate) fn refuse(&mut self) {
        for question in self.waiting.drain(..) {
            // A client that has gone away needs no answer.
            let _ = question.answer.send(Err(Refusal::Stopped));
        }
    }

    fn give_up(&mut self, is_lost: impl Fn(&Batch) -> bool) {
        let lost: Vec<u64> = self
            .asked
            .iter()
            .filter(|(_, batch)| is_lost(batch))
            .map(|(number, _)| *number)
            .collect();
        for number in lost {
            let batch = self.asked.remove(&number);
            self.waiting
                .extend(batch.into_iter().flat_map(|batch| batch.questions));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;
    use tokio::sync::oneshot::error::TryRecvError;

    const PATIENCE: Duration = Duration::from_secs(1);
    const LEADER: MachineId = MachineId(2);

    type Client = oneshot::Receiver<Result<Option<LeaseLeft>, Refusal>>;

    fn ask(asking: &mut Asking, wish: Wish, id: i64, now: Instant) -> Client {
        let (answer, client) = oneshot::channel();
        asking.add(Question {
            wish,
            id,
            deadline: now + 5 * PATIENCE,
            answer,
        });
        client
    }

    fn held() -> LeaseStanding {
        LeaseStanding::Held {
            ttl: 5,
            left_ms: 4_000,
        }
    }

    #[test]
    fn questions_go_in_batches_of_their_kind_and_have_their_own_answers() {
        let now = Instant::now();
        let mut asking = Asking::new(7);
        let mut clients: Vec<Client> = [(Wish::Renew, 1), (Wish::Look, 2), (Wish::Renew, 3)]
            .map(|(wish, id)| ask(&mut asking, wish, id, now))
            .into();
        let batches = asking.batches(LEADER, now, PATIENCE);
        let renew = LessorMessage {
            number: 8,
            body: LessorBody::Renew(vec![1, 3]),
        };
        let look = LessorMessage {
            number: 9,
            body: LessorBody::Look(vec![2]),
        };
        assert_eq!(batches, [renew, look]);
        assert_eq!(asking.batches(LEADER, now, PATIENCE), []);
        asking.answered(8, &[LeaseStanding::None, held()]);
        assert_eq!(clients[0].try_recv(), Ok(Ok(None)));
        let left = LeaseLeft {
            ttl: 5,
            left: Duration::from_secs(4),
        };
        assert_eq!(clients[2].try_recv(), Ok(Ok(Some(left))));
        assert_eq!(clients[1].try_recv(), Err(TryRecvError::Empty));
    }

    #[test]
    fn what_is_lost_or_undecided_or_asked_of_the_wrong_machine_is_asked_again() {
        let now = Instant::now();
        let mut asking = Asking::new(0);
        let mut client = ask(&mut asking, Wish::Renew, 1, now);
        let again = |asking: &mut Asking, is_asked: bool| {
            let batches = asking.batches(LEADER, now, PATIENCE);
            assert_eq!(batches.len(), usize::from(is_asked));
        };
        again(&mut asking, true);
        asking.wake(now);
        again(&mut asking, false);
        asking.wake(now + PATIENCE);
        again(&mut asking, true);
        asking.answered(1, &[held()]); // comes too late
        assert_eq!(client.try_recv(), Err(TryRecvError::Empty));
        asking.answered(2, &[LeaseStanding::Unsettled]);
        again(&mut asking, false);
        asking.wake(now);
        again(&mut asking, true);
        asking.answered(3, &[]); // it cannot say
        asking.wake(now);
        again(&mut asking, true);
        asking.leader_is(Some(LEADER));
        again(&mut asking, false);
        asking.leader_is(None);
        again(&mut asking, true);
        asking.answered(5, &[LeaseStanding::None]);
        assert_eq!(client.try_recv(), Ok(Ok(None)));
    }

    #[test]
    fn a_stop_refuses_what_waits_and_lets_what_is_asked_be_answered() {
        let now = Instant::now();
        let mut asking = Asking::new(0);
        let mut asked = ask(&mut asking, Wish::Look, 1, now);
        asking.batches(LEADER, now, PATIENCE);
        let mut waits = ask(&mut asking, Wish::Renew, 2, now);
        asking.refuse();
        assert_eq!(waits.try_recv(), Ok(Err(Refusal::Stopped)));
        asking.answered(1, &[LeaseStanding::None]);
        assert_eq!(asked.try_recv(), Ok(Ok(None)));
    }

    #[test]
    fn nobody_is_asked_for_clients_that_are_gone_or_out_of_time() {
        let now = Instant::now();
        let mut asking = Asking::new(0);
        drop(ask(&mut asking, Wish::Look, 1, now));
        asking.wake(now);
        let _client = ask(&mut asking, Wish::Look, 2, now);
        asking.wake(now + 5 * PATIENCE);
        assert_eq!(asking.batches(LEADER, now, PATIENCE), []);
    }
}
