//! `rmctl transfer`: leadership from one machine to another.

use clap::Args;
use tonic::Status;

use crate::client::{Endpoints, Link};
use crate::error::{Error, Result};
use crate::output::print;
use crate::proto::{InfoRequest, InfoResponse, Machine, TransferRequest};

/// What `transfer` may be told.
#[derive(Args, Clone, Debug)]
pub(crate) struct TransferFlags {
    /// The machine that is to lead, by its name in the config [default: the one that is fittest]
    name: Option<String>,
}

/// Finds the leader through the first endpoint that answers, has it hand over, and prints who leads.
///
/// # Errors
/// No leader is known or can be reached, there is no such machine, or it did not come to lead in time.
pub(crate) async fn run(endpoints: &Endpoints, flags: TransferFlags) -> Result<()> {
    let asked = endpoints.any().await?;
    let info = asked.admin().info(InfoRequest {}).await;
    let info = info.map_err(asked.failed("transfer"))?.into_inner();
    let to = match &flags.name {
        Some(name) => target(&info, name)?.id,
        None => 0,
    };
    if info.leader == 0 {
        let status = Status::unavailable("no leader is known that could hand over");
        return Err(asked.failed("transfer")(status));
    }
    let leader = connect_to_leader(endpoints, asked, &info).await?;
    let answer = leader.admin().transfer(TransferRequest { to }).await;
    let now = answer.map_err(leader.failed("transfer"))?.into_inner();
    let name = machine(&info, now.leader).map_or("a machine that is not listed", |it| &it.name);
    print(format!("{name} leads").as_bytes())
}

fn machine(info: &InfoResponse, id: u64) -> Option<&Machine> {
    info.machines.iter().find(|machine| machine.id == id)
}

fn target<'a>(info: &'a InfoResponse, name: &str) -> Result<&'a Machine> {
    let found = info.machines.iter().find(|machine| machine.name == name);
    found.ok_or_else(|| {
        let names: Vec<_> = info.machines.iter().map(|it| it.name.as_str()).collect();
        Error::Usage(format!(
            "there is no machine {name:?}: the machines are {}",
            names.join(", ")
        ))
    })
}

async fn connect_to_leader(
    endpoints: &Endpoints,
    asked: Link,
    info: &InfoResponse,
) -> Result<Link> {
    match machine(info, info.leader) {
        Some(leader) if leader.id != info.machine_id => {
            let client = leader.client.parse();
            let client = client.map_err(|_| {
                Error::Usage(format!(
                    "the client address {:?} of the leader is none",
                    leader.client
                ))
            })?;
            endpoints.connect(&client).await
        }
        // The asked machine leads, or will say itself that it does not.
        _ => Ok(asked),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::fake::Fake;

    #[tokio::test]
    async fn the_leader_is_asked_whichever_machine_the_endpoint_is() {
        let fake = Fake::start();
        fake.name_machines(&[fake.endpoint().to_string(), "127.0.0.1:1".to_owned()]);
        let endpoints = Endpoints::plain(vec![fake.endpoint()], Duration::from_secs(5));
        for (name, id) in [(Some("RM.02".to_owned()), 2), (None, 0)] {
            run(&endpoints, TransferFlags { name })
                .await
                .expect("a transfer");
            assert_eq!(fake.transfers().pop(), Some(id));
        }
        let name = Some("RM.09".to_owned());
        let error = run(&endpoints, TransferFlags { name }).await;
        let error = error.expect_err("no such machine");
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("RM.01, RM.02"));
    }
}
