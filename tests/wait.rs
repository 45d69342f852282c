//! Waiting for a condition, never for a time, and how long a scenario runs.

use std::time::{Duration, Instant};

/// How long any condition may take on a slow, busy host.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The pause between two looks at a condition.
const PAUSE: Duration = Duration::from_millis(10);

/// Asks until the answer is `Ok`, and gives it back.
///
/// # Panics
///
/// When [`PATIENCE`] is over, with `what` and the last `Err`.
pub async fn until<T>(what: &str, ask: impl AsyncFnMut() -> Result<T, String>) -> T {
    until_within(PATIENCE, what, ask).await
}

/// As [`until`], with a limit of its own.
///
/// # Panics
///
/// When the limit is over, with `what` and the last `Err`.
pub async fn until_within<T>(
    limit: Duration,
    what: &str,
    mut ask: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let start = Instant::now();
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(reason) => assert!(
                start.elapsed() < limit,
                "waited {limit:?} in vain until {what}; at last: {reason}"
            ),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// How often a scenario repeats its fault: `RM_ROUNDS` when it is set, else what suits a quick run.
///
/// # Panics
///
/// When `RM_ROUNDS` is no number.
pub fn rounds(quick: usize) -> usize {
    match std::env::var("RM_ROUNDS") {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|error| panic!("RM_ROUNDS={text:?} is no number: {error}")),
        Err(_) => quick,
    }
}
