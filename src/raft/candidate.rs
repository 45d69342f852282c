//! Standing for election: first asking whether it could be won (dissertation 9.6), then asking for votes (§5.2).

use std::collections::BTreeSet;

use crate::node::Node;
use crate::raft::Turn;
use crate::{Body, MachineId, Machines, Role, Time};

/// A machine that stands for election.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Candidate {
    ballot: Ballot,
    /// Who said yes. This machine itself says yes to a vote once its own vote is durable.
    granted: BTreeSet<MachineId>,
    /// When the election counts as lost.
    deadline: Time,
    /// When those who did not say yes are asked again: a request may be lost, and a refusal may be out of date.
    ask_at: Time,
    /// Whether another machine is known to stand in the same term.
    rivalled: bool,
}

/// What the candidate asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Ballot {
    /// Whether others would vote for it in the next term.
    PreVote,
    /// Their votes in the present term.
    Vote {
        /// This machine led until a moment ago, so that followers need not hold to that leader.
        leader_gave_way: bool,
    },
}

impl Candidate {
    /// Asks whether the next election could be won. Changes neither term nor vote.
    pub(crate) fn pre_vote(node: &mut Node) -> Candidate {
        let mut candidate = Candidate::new(node, Ballot::PreVote);
        candidate.granted.insert(node.config.local);
        candidate.ask(node);
        candidate
    }

    /// Moves to a new term, votes for itself, and asks for votes (§5.2).
    pub(crate) fn vote(node: &mut Node, leader_gave_way: bool) -> Candidate {
        node.enter_term(node.term.next());
        node.cast_vote(node.config.local);
        let mut candidate = Candidate::new(node, Ballot::Vote { leader_gave_way });
        candidate.ask(node);
        candidate
    }

    fn new(node: &mut Node, ballot: Ballot) -> Candidate {
        let timeout = node.draw_election_timeout();
        Candidate {
            ballot,
            granted: BTreeSet::new(),
            deadline: node.now.after(timeout),
            ask_at: node.now,
            rivalled: false,
        }
    }

    /// Which of the two roles it is.
    pub(crate) fn role(&self) -> Role {
        match self.ballot {
            Ballot::PreVote => Role::PreCandidate,
            Ballot::Vote { .. } => Role::Candidate,
        }
    }

    /// When time alone makes it act.
    pub(crate) fn next_deadline(&self) -> Time {
        self.deadline.min(self.ask_at)
    }

    /// Visits every moment that it keeps.
    pub(crate) fn each_moment(&mut self, visit: &mut dyn FnMut(&mut Time)) {
        visit(&mut self.deadline);
        visit(&mut self.ask_at);
    }

    /// Another machine answered a pre-vote request for the next term.
    pub(crate) fn pre_vote_answered(&mut self, node: &Node, from: MachineId) -> Turn {
        if self.ballot == Ballot::PreVote {
            self.granted.insert(from);
        }
        self.count(node)
    }

    /// Another machine gave its vote in the present term.
    pub(crate) fn vote_granted(&mut self, node: &Node, from: MachineId) -> Turn {
        if self.ballot != Ballot::PreVote {
            self.granted.insert(from);
        }
        self.count(node)
    }

    /// Another machine stands in the same term, so that the votes are split and perhaps neither wins: there is no use in
    /// waiting a whole election timeout for the next attempt.
    pub(crate) fn rivalled(&mut self, node: &mut Node) {
        if !self.rivalled {
            self.rivalled = true;
            let soon = node.draw_rival_timeout();
            self.deadline = self.deadline.min(node.now.after(soon));
        }
    }

    /// Storage made something durable: perhaps this machine's own vote, which counts only now.
    pub(crate) fn persisted(&mut self, node: &Node) -> Turn {
        if node.term_is_durable() {
            self.granted.insert(node.config.local);
        }
        self.count(node)
    }

    /// Time has passed.
    pub(crate) fn elapsed(&mut self, node: &mut Node) -> Turn {
        if node.now >= self.deadline {
            return Turn::PreCampaign;
        }
        if node.now >= self.ask_at {
            self.ask(node);
        }
        self.count(node)
    }

    /// Whether the answers suffice.
    pub(crate) fn count(&self, node: &Node) -> Turn {
        let won = node
            .quorum
            .agrees(|machine| self.granted.contains(&machine));
        match self.ballot {
            _ if !won => Turn::Stay,
            // While the disk has not even answered to the last election, no vote request of a new one could leave.
            Ballot::PreVote if !node.term_is_durable() => Turn::Stay,
            Ballot::PreVote => Turn::Campaign {
                leader_gave_way: false,
            },
            Ballot::Vote { .. } => Turn::Lead,
        }
    }

    /// Asks those who did not say yes.
    fn ask(&mut self, node: &mut Node) {
        self.ask_at = node.now.after(node.config.heartbeat_interval);
        let last = node.log.last();
        let others = node.others.iter().copied();
        let asked: Machines = others.filter(|id| !self.granted.contains(id)).collect();
        match self.ballot {
            Ballot::PreVote => {
                node.send_as(asked, node.term.next(), Body::PreVoteRequest { last });
            }
            // A request rests on the candidate's own term, vote and log: were it sent before they are durable, a crash
            // could bring the candidate back to campaign in the same term with a shorter log, and the answers to this
            // request would count for it.
            // While they are on their way to the disk, the requests are on their way with them.
            Ballot::Vote { .. } if !node.term_is_durable() && !node.will_persist() => {}
            Ballot::Vote { leader_gave_way } => {
                for machine in asked {
                    let body = Body::VoteRequest {
                        last,
                        leader_gave_way,
                    };
                    node.promise(machine, body);
                }
            }
        }
    }
}
