//! Waits until the domain has admitted this machine.

use std::time::{Duration, Instant};

use rm_actors::Admission;
use rm_api::{Certificates, JoinError};
use rm_config::Effective;

/// The pause between two questions.
const PAUSE: Duration = Duration::from_secs(1);
/// How often to say what is waited for.
const TELL_PAUSE: Duration = Duration::from_secs(10);

/// Asks the other machines of the config until one says by which number this machine was admitted.
///
/// # Errors
/// What no waiting changes.
pub(crate) async fn wait_for_admission(
    config: &Effective,
    certificates: &Certificates,
) -> Result<Admission, JoinError> {
    let name = &config.local().name;
    let neighbours = config.neighbours();
    let members: Vec<String> = neighbours.iter().map(|it| it.client.to_string()).collect();
    let mut told_at: Option<Instant> = None;
    loop {
        let asked =
            rm_api::find_admission(&config.config.domain, name, &members, certificates).await;
        match asked {
            Err(error) if error.may_pass() => {
                if told_at.is_none_or(|at| at.elapsed() >= TELL_PAUSE) {
                    eprintln!("raft-machine: waiting to join: {error}");
                    told_at = Some(Instant::now());
                }
            }
            decided => return decided,
        }
        tokio::time::sleep(PAUSE).await;
    }
}
