//! How often the actors of a machine were restarted: what a test sees that wants none to be.

use std::collections::BTreeMap;

use crate::client::Client;
use crate::wait::until;

/// By the name of the actor.
pub type Restarts = BTreeMap<String, u64>;

/// Those of a machine since its process began.
///
/// # Panics
///
/// When it does not answer in time.
pub async fn restarts(client: &Client, machine: usize) -> Restarts {
    let actors = client.actors(machine).await.into_iter();
    actors.map(|it| (it.name, it.restarts)).collect()
}

/// Stops an actor, and waits until it and all that are restarted with it run again.
///
/// # Panics
///
/// When the machine refuses, or they do not in time.
pub async fn restart(client: &Client, machine: usize, actor: &str) {
    let before = restarts(client, machine).await;
    let stopped = client.kill_actor(machine, actor, "stop").await;
    stopped.expect("faults are allowed");
    until("the actor runs again", async || {
        let now = client.actors(machine).await;
        let of_it = now.iter().find(|it| it.name == actor);
        let is_new = of_it.is_some_and(|it| Some(&it.restarts) > before.get(actor));
        let all_run = now.iter().all(|it| it.state == "running");
        (is_new && all_run).then_some(()).ok_or(format!("{now:?}"))
    })
    .await;
}
