//! The same random requests to the real etcd and to three machines: the same answers, the same refusals and the same streams of watchers.
//!
//! `RM_SEED` repeats a run, `RM_STEPS` says how many steps it has. Ids of the cluster, of members and terms are left aside, how much
//! is left of a lease, and what etcd 3.4 does that 3.6 does not: that is left out of the steps, with the reason beside it.

mod answers;
mod comparison;
mod requests;
mod steps;
mod streams;

use crate::comparison::Comparison;

/// How many steps a run has by default.
const STEPS: usize = 2_500;

/// The seed by default.
const SEED: u64 = 1;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|error| panic!("{name}={text:?} is no number: {error}")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_requests_have_the_same_answers_refusals_and_streams_of_watchers_as_etcds() {
    let steps = number("RM_STEPS").map_or(STEPS, |steps| steps as usize);
    let seed = number("RM_SEED").unwrap_or(SEED);
    let seen = Comparison::start(seed).await.run(steps).await;
    println!("RM_SEED={seed}: the same in {steps} steps: {seen:#?}");
    if steps >= STEPS {
        seen.assert_all();
    }
}
