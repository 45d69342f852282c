//! How the Applier tells the Watcher what happens: a part of the history for each question, so that no more is ever under way.

use std::sync::Arc;

use actix::Context;

use crate::applier::Applier;
use crate::message::{Follow, Happened};

/// How many bytes of changes are told at a time.
const PART_BYTES: usize = 1 << 20;

impl Applier {
    /// The Watcher asks for what happens from now on, or from a revision on.
    pub(crate) fn follow(&mut self, question: Follow, context: &mut Context<Self>) {
        // It is asked more than once, since an Applier may have died with the question; and a Watcher that hung may yet ask.
        let waiting = self.question.map(|question| question.ask);
        if self.answered >= Some(question.ask) || waiting > Some(question.ask) {
            return;
        }
        self.question = Some(question);
        self.tell_what_happened(context);
    }

    /// Answers the Watcher's question, if anything has happened.
    pub(crate) fn tell_what_happened(&mut self, context: &mut Context<Self>) {
        let (Some(keyspace), Some(question)) = (&self.keyspace, self.question) else {
            return;
        };
        let checkpointed = keyspace.checkpointed_revision();
        let from = question.from.unwrap_or(checkpointed + 1);
        // The first question is answered at once: the answer says where the history goes on.
        if question.from.is_some() && keyspace.revision() < from {
            return;
        }
        match keyspace.history(from, PART_BYTES) {
            Ok(history) => {
                self.question = None;
                self.answered = Some(question.ask);
                self.machine.shared.slots.watcher.tell(Happened {
                    ask: question.ask,
                    from: history.from,
                    next: history.next,
                    events: history.events.into_iter().map(Arc::new).collect(),
                    checkpointed,
                });
            }
            Err(error) => self.recover(error.into(), context),
        }
    }
}
