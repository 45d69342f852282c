//! The metrics of the actors, as the supervisor knows them.

use rm_actors::port::Port;

use crate::web::exposition::Page;

pub(super) fn write(page: &mut Page, port: &Port) {
    let actors = port.actors();
    let mut running = page.gauge("raft_machine_actor_running", "Whether the actor runs.");
    for actor in &actors {
        let runs = i32::from(actor.state == "running");
        running.sample(&[("actor", &actor.name), ("group", &actor.group)], runs);
    }
    let mut incarnation = page.gauge(
        "raft_machine_actor_incarnation",
        "The number of the actor's present life.",
    );
    for actor in &actors {
        incarnation.sample(&[("actor", &actor.name)], actor.incarnation);
    }
    let mut restarts = page.counter(
        "raft_machine_actor_restarts_total",
        "How often the actor was started again.",
    );
    for actor in &actors {
        restarts.sample(&[("actor", &actor.name)], actor.restarts);
    }
    let mut failures = page.counter(
        "raft_machine_actor_failures_total",
        "How often the actor failed itself; the other restarts were for a neighbour's failure.",
    );
    for actor in &actors {
        failures.sample(&[("actor", &actor.name)], actor.failures);
    }
    let mut mailbox = page.gauge(
        "raft_machine_actor_mailbox",
        "Messages that wait for the actor.",
    );
    for actor in &actors {
        mailbox.sample(&[("actor", &actor.name)], actor.mailbox);
    }
    let mut handled = page.counter(
        "raft_machine_actor_messages_handled_total",
        "Messages that the actor has handled, in all its lives.",
    );
    for actor in &actors {
        handled.sample(&[("actor", &actor.name)], actor.handled);
    }
}
