//! The Rust client `etcd-client`, above all with the calls that the other clients have not: etcd's services of locks and elections.
//!
//! ```text
//! rm-conformance script|faults FOLDER ADDRESS...
//! ```

mod faults;
mod keys;
mod leases;
mod lines;
mod machines;
mod told;
mod users;
mod watches;

use etcd_client::{Client, Error};

use crate::told::Told;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let (script, _folder) = (arguments.next(), arguments.next());
    let addresses: Vec<String> = arguments.collect();
    match script.as_deref() {
        Some("faults") => faults::faults(&addresses).await,
        _ => compare(&addresses).await,
    }
}

/// What the client is told of each service, a step each.
async fn compare(addresses: &[String]) -> Result<(), Error> {
    let mut clients = Vec::new();
    for address in addresses {
        clients.push(Client::connect([address], None).await?);
    }
    let mut told = Told::default();
    machines::introduce(&mut told, &mut clients).await?;
    let [one, two, three] = &mut clients[..] else {
        return Err(Error::InvalidArgs("three addresses are wanted".into()));
    };
    // Now a leader is asked, now a follower.
    told.scenario("keys");
    keys::keys(&mut told, two, three).await?;
    told.scenario("transactions");
    keys::transactions(&mut told, three).await?;
    told.scenario("watches");
    watches::watches(&mut told, two, one).await?;
    told.scenario("leases");
    leases::leases(&mut told, three, one).await?;
    told.scenario("locks");
    lines::locks(&mut told, two, three).await?;
    told.scenario("elections");
    lines::elections(&mut told, two, three).await?;
    told.scenario("users");
    users::users(&mut told, three, &addresses[1]).await?;
    told.scenario("machines");
    machines::machines(&mut told, one, two).await
}
