//! Whether the target is as the source at a revision: every key, its value and its lease, and the leases themselves.

use crate::migrate::difference::{Compared, Comparison, Difference};
use crate::migrate::error::Result;
use crate::migrate::findings::Findings;
use crate::migrate::leases::Leases;
use crate::migrate::progress::Progress;

/// What was found.
pub(crate) struct Verified {
    /// What differs.
    pub(crate) findings: Findings,
    /// What was compared.
    pub(crate) compared: Compared,
    /// How many leases were.
    pub(crate) leases: u64,
    /// How many keys differ for no other reason than that their leases have ended at the source since.
    pub(crate) ended: u64,
}

/// Goes through both. Nothing may be written at the target meanwhile.
///
/// # Errors
/// The source has compacted the revision, or a cluster refuses.
pub(crate) async fn verify(
    mut comparison: Comparison<'_>,
    leases: &Leases<'_>,
    progress: &Progress,
) -> Result<Verified> {
    let mut findings = Findings::default();
    let mut ended = 0;
    while let Some(difference) = comparison.next().await? {
        match has_ended(&difference, leases).await? {
            true => ended += 1,
            false => findings.note(difference.line()),
        }
        progress.passed(comparison.compared.keys);
    }
    let (count, lines) = leases.differences().await?;
    lines.into_iter().for_each(|line| findings.note(line));
    Ok(Verified {
        findings,
        compared: comparison.compared,
        leases: count,
        ended,
    })
}

/// Whether the key hangs on a lease that has ended at the source: it is gone there by now, and here it is or will be.
async fn has_ended(difference: &Difference, leases: &Leases<'_>) -> Result<bool> {
    match difference {
        Difference::Missing(pair) if pair.lease != 0 => leases.has_ended(pair.lease).await,
        _ => Ok(false),
    }
}
