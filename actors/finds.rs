//! The leader writes into the log on which data each member was found, so that no machine forgets it with its process: a member
//! that comes back on other data has forgotten its votes, and must not be taken for the one that it was.

use std::time::{Duration, Instant};

use rm_raft::{Change, Input, Raft, RequestId, Role, Step};

use crate::machine::Shared;
use crate::members::About;

/// How often to look.
const PAUSE: Duration = Duration::from_secs(1);

/// What the leader has looked for.
#[derive(Default)]
pub(crate) struct Finds {
    looked_at: Option<Instant>,
}

impl Finds {
    /// The change that notes what was found since, if this machine leads and there is any.
    pub(crate) fn wish(&mut self, shared: &Shared, raft: &Raft) -> Option<Input> {
        let is_due = self.looked_at.is_none_or(|at| at.elapsed() >= PAUSE);
        if !is_due || shared.board.raft().role != Role::Leader {
            return None;
        }
        self.looked_at = Some(Instant::now());
        let configuration = &raft.configured().configuration;
        let found = shared.resources.data_ids.known();
        let members = shared.members.present();
        let unknown = members
            .iter()
            .filter(|each| each.data_id.is_none() && configuration.contains(each.machine));
        let steps: Vec<Step> = unknown
            .filter_map(|member| {
                let data_id = if member.machine == shared.local() {
                    shared.resources.wire_identity.data_id
                } else {
                    *found.get(&member.machine)?
                };
                let mut about = About::of(member);
                about.data_id = Some(data_id.0);
                Some(Step::Update(member.machine, about.encode()))
            })
            .collect();
        if steps.is_empty() {
            return None;
        }
        let request = RequestId {
            machine: shared.local(),
            number: shared.resources.next_request_number(),
        };
        // A refusal finds nobody who waits; the next look asks again.
        let change = Change {
            steps,
            ..Change::default()
        };
        Some(Input::Change { request, change })
    }
}
