//! What the demonstration sees of its machines: asked anew at each look, kept where nobody answers.

use futures::future::join_all;

use crate::actor;
use crate::client::Endpoints;
use crate::cluster::Member;
use crate::info::{self, State};
use crate::screen::Machine;

/// The machines as they were at the last look.
pub(crate) struct Observer {
    /// Where they are, in the order of the config, and how long a look may wait.
    pub(crate) endpoints: Endpoints,
    /// In the same order; none before the first look that was answered.
    pub(crate) machines: Vec<Machine>,
}

impl Observer {
    /// Knows nothing yet.
    pub(crate) fn new(endpoints: Endpoints) -> Self {
        Observer {
            endpoints,
            machines: Vec::new(),
        }
    }

    /// Asks every machine how it is.
    pub(crate) async fn look(&mut self, members: &[Member]) {
        let Ok(rows) = info::collect(&self.endpoints).await else {
            // Nobody answers: what was seen stays, but for the state.
            for machine in &mut self.machines {
                machine.row.state = State::Silent {
                    error: "no answer".to_owned(),
                };
            }
            return;
        };
        let asked = self.endpoints.list.iter();
        let actors = join_all(asked.map(|endpoint| actor::ask(&self.endpoints, endpoint))).await;
        self.machines = rows
            .into_iter()
            .zip(actors)
            .zip(members)
            .map(|((row, actors), member)| Machine {
                row,
                process: member.process(),
                actors: actors.unwrap_or_default(),
            })
            .collect();
    }

    /// The place of the machine that leads, as it says itself. Of two, the one of the newer term: the other was replaced
    /// and has not noticed yet.
    pub(crate) fn leader(&self) -> Option<usize> {
        let leading =
            self.machines
                .iter()
                .enumerate()
                .filter_map(|(number, machine)| match &machine.row.state {
                    State::Reached(state) if state.leads() => Some((state.term, number)),
                    _ => None,
                });
        leading.max().map(|(_, number)| number)
    }

    /// Every actor that answered: the place of its machine, and its name.
    pub(crate) fn actors(&self) -> Vec<(usize, String)> {
        let machines = self.machines.iter().enumerate();
        machines
            .flat_map(|(number, machine)| {
                let actors = machine.actors.iter();
                actors.map(move |actor| (number, actor.name.clone()))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::fake::Fake;

    #[tokio::test]
    async fn a_look_without_an_answer_keeps_the_machines_but_not_their_leader() {
        let fake = Fake::start();
        let mut observer = Observer::new(Endpoints::plain(
            vec![fake.endpoint()],
            Duration::from_secs(5),
        ));
        let members = [Member::absent("RM.01", fake.endpoint())];
        observer.look(&members).await;
        assert_eq!(observer.leader(), Some(0));
        assert_eq!(observer.actors(), [(0, "timer".to_owned())]);
        fake.refuse("etcdserver: no leader");
        observer.look(&members).await;
        assert_eq!(observer.leader(), None);
        assert_eq!(observer.machines.len(), 1);
    }
}
