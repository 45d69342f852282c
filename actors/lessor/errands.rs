//! What the lessor has done for it while it counts: entries written, leases read and looked up.

use actix::{ActorFutureExt, AsyncContext, Context};
use rm_kv::{Command, Lease, Query, ReplyBody};
use slog::{debug, info};

use super::Lessor;
use super::looking::{Found, Looking};
use super::reign::{Fate, Proposal, Sequel, Want};
use crate::port::{Consistency, Port, Refusal};

impl Lessor {
    /// Does what the reign wants next.
    pub(super) fn go_on(&mut self, context: &mut Context<Self>) {
        let now_ms = self.now_ms();
        let reign = self.counting.reign_mut();
        if let Some(want) = reign.and_then(|reign| reign.wants(now_ms)) {
            self.carry_out(want, context);
        }
    }

    /// Has noted what the reign wants noted.
    pub(super) fn note(&mut self, context: &mut Context<Self>) {
        let now_ms = self.now_ms();
        let reign = self.counting.reign_mut();
        if let Some(want) = reign.and_then(|reign| reign.wants_noted(now_ms)) {
            self.carry_out(want, context);
        }
    }

    fn carry_out(&mut self, want: Want, context: &mut Context<Self>) {
        match want {
            Want::Propose(proposal) => self.propose(proposal, context),
            Want::Read { after, count } => self.read(after, count, context),
        }
    }

    /// Proposes, and goes on with what became of it if the reign lasts.
    fn propose(&mut self, proposal: Proposal, context: &mut Context<Self>) {
        let Some(reign) = self.counting.reign().map(|reign| reign.number) else {
            return;
        };
        let proposed = propose(self.port.clone(), proposal.command());
        let proposed = actix::fut::wrap_future::<_, Self>(proposed);
        context.spawn(proposed.map(move |fate, this, context| {
            let now_ms = this.now_ms();
            if let Some(reign) = this.present(reign) {
                let sequel = reign.decided(&proposal, &fate, now_ms);
                this.follow_up(sequel, context);
            }
        }));
    }

    fn read(&mut self, after: Option<i64>, count: usize, context: &mut Context<Self>) {
        let Some(reign) = self.counting.reign().map(|reign| reign.number) else {
            return;
        };
        let page = actix::fut::wrap_future::<_, Self>(page(self.port.clone(), after, count));
        context.spawn(page.map(move |leases, this, context| {
            this.machine.life.progresses();
            let now_ms = this.now_ms();
            if let Some(reign) = this.present(reign) {
                let sequel = reign.take_in(leases.as_deref(), now_ms);
                this.tell_whether_it_counts();
                this.follow_up(sequel, context);
            }
        }));
    }

    fn tell_whether_it_counts(&self) {
        if let Some(reign) = self.counting.reign().filter(|reign| reign.is_counting()) {
            let (leases, term) = (reign.book.len(), reign.term.0);
            info!(self.machine.log, "counts the time of leases"; "leases" => leases, "term" => term);
        }
    }

    fn follow_up(&mut self, sequel: Sequel, context: &mut Context<Self>) {
        match sequel {
            Sequel::Onward { ended } => {
                if ended > 0 {
                    debug!(self.machine.log, "leases have ended"; "count" => ended);
                    let meters = &self.machine.shared.board.meters;
                    meters.leases_expired.add(ended as u64);
                }
                self.go_on(context);
            }
            Sequel::Rests => {}
            Sequel::Over => self.begin_anew(),
        }
    }
}

async fn propose(port: Port, command: Command) -> Fate {
    match port.propose(command).await {
        Ok(reply) => Fate::Applied(reply.body),
        Err(Refusal::NoSpace | Refusal::TooManyRequests | Refusal::Stopped) => Fate::Refused,
        Err(_) => Fate::Unknown,
    }
}

/// The next leases, as this machine has applied them.
async fn page(port: Port, after: Option<i64>, limit: usize) -> Option<Vec<Lease>> {
    let query = Query::Leases { after, limit };
    let reply = port.query(query, Consistency::Serializable).await.ok()?;
    match reply.body {
        ReplyBody::Leases(leases) => Some(leases),
        _ => None,
    }
}

/// Which of these leases are there, once a quorum has confirmed who leads; none if that is not known.
pub(super) async fn look_up(port: Port, looking: &Looking) -> Option<Found> {
    let known = Query::KnownLeases(looking.asked());
    let reply = port.query(known, Consistency::Quorum).await.ok()?;
    let ReplyBody::Leases(leases) = reply.body else {
        return None;
    };
    let Some(note) = looking.notes_to_take_back(&leases) else {
        return Some(Found::settled(leases));
    };
    match port.propose(note).await.map(|reply| reply.body) {
        Ok(ReplyBody::LeasesCounted(Some(_))) => Some(Found::settled(leases)),
        Ok(_) => None,
        Err(_) => Some(Found::unsettled(leases)),
    }
}
