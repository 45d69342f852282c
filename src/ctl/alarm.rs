//! `rmctl alarm`: the alarms that stand, and their end.

use clap::Subcommand;
use serde::Serialize;

use crate::client::{Endpoints, Link};
use crate::error::Result;
use crate::output::{Format, grid, print_json, print_table};
use crate::proto::{AlarmAction, AlarmMember, AlarmRequest, AlarmType, MembersRequest};

/// What can be done with alarms.
#[derive(Subcommand, Clone, Debug)]
pub(crate) enum AlarmCommand {
    /// Show the alarms that stand, whichever machine is asked
    List,
    /// Disarm all that stand, once what they were raised for is mended
    Disarm,
}

/// An alarm as it is shown.
#[derive(Serialize)]
struct Shown {
    /// The machine's name; none if it is no member.
    machine: Option<String>,
    id: String,
    alarm: &'static str,
}

/// Lists alarms, or disarms all and lists those that it has disarmed.
///
/// # Errors
/// No machine answers, or it refuses.
pub(crate) async fn run(
    endpoints: &Endpoints,
    format: Format,
    command: AlarmCommand,
) -> Result<()> {
    let link = endpoints.any().await?;
    let mut alarms = ask(&link, AlarmAction::Get, 0, AlarmType::None).await?;
    if let AlarmCommand::Disarm = command {
        let mut disarmed = Vec::new();
        for alarm in alarms {
            let (machine, kind) = (alarm.member_id, alarm.alarm());
            disarmed.extend(ask(&link, AlarmAction::Deactivate, machine, kind).await?);
        }
        alarms = disarmed;
    }
    show(&link, format, &alarms).await
}

async fn ask(
    link: &Link,
    action: AlarmAction,
    member_id: u64,
    alarm: AlarmType,
) -> Result<Vec<AlarmMember>> {
    let request = AlarmRequest {
        action: action.into(),
        member_id,
        alarm: alarm.into(),
    };
    let answer = link.maintenance().alarm(request).await;
    Ok(answer.map_err(link.failed("alarm"))?.into_inner().alarms)
}

async fn show(link: &Link, format: Format, alarms: &[AlarmMember]) -> Result<()> {
    let members = link.admin().members(MembersRequest {}).await;
    let members = members.map_err(link.failed("alarm"))?.into_inner().machines;
    let shown = alarms.iter().map(|alarm| {
        let member = members.iter().find(|each| each.id == alarm.member_id);
        Shown {
            machine: member.map(|member| member.name.clone()),
            id: format!("{:016x}", alarm.member_id),
            alarm: alarm.alarm().as_str_name(),
        }
    });
    let shown: Vec<Shown> = shown.collect();
    if format == Format::Json {
        return print_json(&shown);
    }
    let mut table = grid(["machine", "id", "alarm"]);
    for Shown { machine, id, alarm } in shown {
        let machine = machine.unwrap_or_else(|| "no member".to_owned());
        table.add_row([machine, id, alarm.to_owned()]);
    }
    print_table(table, format)
}
