//! `rmctl defrag`: gives the space back that compactions have left in the files of the machines' states.

use crate::client::{Endpoint, Endpoints};
use crate::error::Result;
use crate::everywhere::Everywhere;
use crate::output::{human_bytes, print};
use crate::proto::{DefragmentRequest, StatusRequest};

/// The bytes of a machine's file before and after.
struct Sizes {
    before: i64,
    after: i64,
}

/// Defragments every endpoint, one after the other, so that no two of them have their disks busy at once.
///
/// # Errors
/// Some endpoint did not do it; the others did.
pub(crate) async fn run(endpoints: &Endpoints) -> Result<()> {
    let mut answers = Vec::new();
    for endpoint in &endpoints.list {
        let answer = defragment(endpoints, endpoint).await;
        if let Ok(Sizes { before, after }) = &answer {
            let human = |bytes: &i64| human_bytes(u64::try_from(*bytes).unwrap_or(0));
            let text = format!("{endpoint} {} -> {}", human(before), human(after));
            print(text.as_bytes())?;
        }
        answers.push((endpoint.clone(), answer));
    }
    Everywhere::of("defrag", answers).verdict()
}

async fn defragment(endpoints: &Endpoints, endpoint: &Endpoint) -> Result<Sizes> {
    let link = endpoints.connect_patiently(endpoint).await?;
    let mut maintenance = link.maintenance();
    let status = maintenance.status(StatusRequest {}).await;
    let before = status.map_err(link.failed("defrag"))?.into_inner().db_size;
    let done = maintenance.defragment(DefragmentRequest {}).await;
    done.map_err(link.failed("defrag"))?;
    let status = maintenance.status(StatusRequest {}).await;
    let after = status.map_err(link.failed("defrag"))?.into_inner().db_size;
    Ok(Sizes { before, after })
}
