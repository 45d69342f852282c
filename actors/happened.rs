//! How the Applier tells the Watcher what happens: a part of the history for each question, so that no more is ever under way.

use std::sync::Arc;

use actix::Context;

use crate::applier::Applier;
use crate::message::{Ask, Follow, Happened};

/// How many bytes of changes are told at a time.
const PART_BYTES: usize = 1 << 20;

impl Applier {
    /// The Watcher asks for what happens from now on, or from a revision on.
    pub(crate) fn follow(&mut self, question: Follow, context: &mut Context<Self>) {
        // It may be asked again, since the Applier before this one may have died with the question; and by a Watcher that was left
        // behind.
        let is_old = |last: Ask| last == question.ask || last.watcher > question.ask.watcher;
        if self.question.is_none() && self.answered.is_some_and(is_old) {
            return;
        }
        if self
            .question
            .is_some_and(|it| it.ask.watcher > question.ask.watcher)
        {
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
