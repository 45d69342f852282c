//! `rmctl member`: who takes part in the domain, and changes of that.

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::client::{Endpoint, Endpoints, Link};
use crate::error::{Error, Result};
use crate::output::{Format, grid, print, print_json, print_table};
use crate::proto::{
    AddMember, Change, ChangeMembersRequest, Machine, MembersRequest, ReplaceMember, UpdateMember,
};

/// What can be done with members.
#[derive(Subcommand, Clone, Debug)]
pub(crate) enum MemberCommand {
    /// Show who takes part
    List,
    /// Admit a machine; then start it with --join
    Add {
        /// Its name in its config
        name: String,
        #[command(flatten)]
        addresses: Addresses,
        /// Let it vote at once [default: it learns until it is promoted]
        #[arg(long)]
        voter: bool,
        #[command(flatten)]
        force: Force,
    },
    /// Let a machine take part no more: it stops
    Remove {
        /// Its name
        name: String,
        #[command(flatten)]
        force: Force,
    },
    /// Let a learner vote, once it has caught up
    Promote {
        /// Its name
        name: String,
        #[command(flatten)]
        force: Force,
    },
    /// Let a voter be a learner
    Demote {
        /// Its name
        name: String,
        #[command(flatten)]
        force: Force,
    },
    /// Tell all where a machine is reached from now on
    Update {
        /// Its name
        name: String,
        /// Where peers reach it, host:port
        #[arg(long, required_unless_present = "client")]
        peer: Option<Endpoint>,
        /// Where clients reach it, host:port
        #[arg(long)]
        client: Option<Endpoint>,
    },
    /// Put a new machine in the place of one that is lost, in one step; then start it with --join
    Replace {
        /// The name of the one that leaves
        old: String,
        /// The name of the one that comes; it may be the same
        new: String,
        #[command(flatten)]
        addresses: Addresses,
        #[command(flatten)]
        force: Force,
    },
}

/// Where a new machine is reached.
#[derive(Args, Clone, Debug)]
pub(crate) struct Addresses {
    /// Where peers reach it, host:port
    #[arg(long)]
    peer: Endpoint,
    /// Where clients reach it, host:port
    #[arg(long)]
    client: Endpoint,
}

/// Whether a risk is taken.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Force {
    /// Do it even if a learner is not caught up, or too few of the new voters were heard
    #[arg(long)]
    force: bool,
}

/// One member as `-o json` prints it.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    id: u64,
    standing: String,
    peer: String,
    client: String,
}

/// Carries the command out through the first endpoint that answers, waits until the change is complete, and prints the members.
///
/// # Errors
/// There is no such machine, or the change is refused, with the reason.
pub(crate) async fn run(
    endpoints: &Endpoints,
    format: Format,
    command: MemberCommand,
) -> Result<()> {
    let link = endpoints.any().await?;
    let members = members(&link).await?;
    let find = |name: &str| find(&members, name);
    let (change, force) = match command {
        MemberCommand::List => return show(members, format),
        MemberCommand::Add {
            name,
            addresses,
            voter,
            force,
        } => (Change::Add(newcomer(name, &addresses, voter)), force.force),
        MemberCommand::Remove { name, force } => (Change::Remove(find(&name)?), force.force),
        MemberCommand::Promote { name, force } => (Change::Promote(find(&name)?), force.force),
        MemberCommand::Demote { name, force } => (Change::Demote(find(&name)?), force.force),
        MemberCommand::Update { name, peer, client } => {
            let text =
                |address: Option<Endpoint>| address.map_or(String::new(), |it| it.to_string());
            let update = UpdateMember {
                id: find(&name)?,
                peer: text(peer),
                client: text(client),
            };
            (Change::Update(update), false)
        }
        MemberCommand::Replace {
            old,
            new,
            addresses,
            force,
        } => {
            let replace = ReplaceMember {
                old: find(&old)?,
                new: Some(newcomer(new, &addresses, true)),
            };
            (Change::Replace(replace), force.force)
        }
    };
    let request = ChangeMembersRequest {
        change: Some(change),
        force,
    };
    let answer = link.admin().change_members(request).await;
    let answer = answer.map_err(link.failed("the change of members"))?;
    show(answer.into_inner().machines, format)
}

async fn members(link: &Link) -> Result<Vec<Machine>> {
    let answer = link.admin().members(MembersRequest {}).await;
    Ok(answer
        .map_err(link.failed("members"))?
        .into_inner()
        .machines)
}

fn find(members: &[Machine], name: &str) -> Result<u64> {
    // While a machine is replaced by one of its name both are listed, and the one that leaves cannot be changed any more.
    let mut stay = members.iter().filter(|it| it.standing != "leaving");
    let found = stay.find(|member| member.name == name);
    found.map(|member| member.id).ok_or_else(|| {
        let names: Vec<_> = members.iter().map(|it| it.name.as_str()).collect();
        Error::Usage(format!(
            "there is no member {name:?}: the members are {}",
            names.join(", ")
        ))
    })
}

fn newcomer(name: String, addresses: &Addresses, voter: bool) -> AddMember {
    AddMember {
        name,
        peer: addresses.peer.to_string(),
        client: addresses.client.to_string(),
        voter,
    }
}

fn show(members: Vec<Machine>, format: Format) -> Result<()> {
    let rows: Vec<Row> = members
        .into_iter()
        .map(|member| Row {
            name: member.name,
            id: member.id,
            standing: member.standing,
            peer: member.peer,
            client: member.client,
        })
        .collect();
    match format {
        Format::Json => print_json(&rows),
        Format::Text => {
            let names: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
            print(names.join("\n").as_bytes())
        }
        Format::Table => {
            let mut table = grid(["name", "id", "standing", "peer", "client"]);
            for row in rows {
                let id = format!("{:016x}", row.id);
                table.add_row([row.name, id, row.standing, row.peer, row.client]);
            }
            print_table(table, format)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::fake::Fake;

    #[tokio::test]
    async fn a_member_is_named_and_its_number_is_what_the_machine_is_told() {
        let fake = Fake::start();
        fake.name_machines(&[fake.endpoint().to_string(), "127.0.0.1:1".to_owned()]);
        let endpoints = Endpoints::plain(vec![fake.endpoint()], Duration::from_secs(5));
        let remove = |name: &str| MemberCommand::Remove {
            name: name.to_owned(),
            force: Force { force: true },
        };
        let removed = run(&endpoints, Format::Json, remove("RM.02")).await;
        removed.expect("a change");
        let asked = fake.changes().pop().expect("it was asked for");
        assert_eq!((asked.change, asked.force), (Some(Change::Remove(2)), true));
        let error = run(&endpoints, Format::Json, remove("RM.09")).await;
        let error = error.expect_err("no such member");
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("RM.01, RM.02"));
    }

    #[test]
    fn of_two_with_a_name_the_one_that_stays_is_meant() {
        let listed = |id: u64, standing: &str| Machine {
            id,
            name: "RM.02".to_owned(),
            standing: standing.to_owned(),
            ..Machine::default()
        };
        let both = [listed(2, "leaving"), listed(9, "voter")];
        assert_eq!(find(&both, "RM.02").expect("one of them"), 9);
        find(&both[..1], "RM.02").expect_err("it leaves");
    }
}
