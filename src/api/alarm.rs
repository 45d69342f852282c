//! etcd's alarms: listed, raised and disarmed.

use rm_actors::port::{Alarm, AlarmKind, Identity, Port, Report};
use rm_proto::etcdserverpb as pb;
use rm_proto::etcdserverpb::AlarmType;
use rm_proto::etcdserverpb::alarm_request::AlarmAction;
use tonic::Status;

use crate::error::{refused, unknown_value};

/// Does what a request asks for: the alarms that it is about.
pub(crate) async fn alarm(
    port: &Port,
    request: &pb::AlarmRequest,
) -> Result<Vec<pb::AlarmMember>, Status> {
    let action = AlarmAction::try_from(request.action)
        .map_err(|_| unknown_value("action on an alarm", request.action))?;
    let wanted = AlarmType::try_from(request.alarm)
        .map_err(|_| unknown_value("kind of an alarm", request.alarm))?;
    let named = |kind| Alarm {
        machine: request.member_id,
        kind,
    };
    let changed = match (action, kind(wanted)) {
        (AlarmAction::Get, _) => {
            port.barrier().await.map_err(refused)?;
            return Ok(alarms(port.identity(), &port.report(), wanted));
        }
        (AlarmAction::Activate, Some(kind)) => port.raise(named(kind)).await,
        (AlarmAction::Deactivate, Some(kind)) => port.disarm(named(kind)).await,
        // There is nothing to do, and etcd refuses neither.
        (AlarmAction::Activate | AlarmAction::Deactivate, None) => Ok(Vec::new()),
    };
    let changed = changed.map_err(refused)?;
    Ok(changed.into_iter().map(told).collect())
}

/// The alarms that stand, of one kind or of all ([`AlarmType::None`]), and the full disk of the machine that is asked.
pub(crate) fn alarms(
    identity: &Identity,
    report: &Report,
    wanted: AlarmType,
) -> Vec<pb::AlarmMember> {
    let mut standing = report.alarms.clone();
    let own = Alarm {
        machine: identity.machine.0,
        kind: AlarmKind::NoSpace,
    };
    if report.no_space && !standing.contains(&own) {
        standing.push(own);
    }
    let told = standing.into_iter().map(told);
    told.filter(|alarm| [alarm.alarm(), AlarmType::None].contains(&wanted))
        .collect()
}

fn kind(wanted: AlarmType) -> Option<AlarmKind> {
    match wanted {
        AlarmType::None => None,
        AlarmType::Nospace => Some(AlarmKind::NoSpace),
        AlarmType::Corrupt => Some(AlarmKind::Corrupt),
    }
}

fn told(alarm: Alarm) -> pb::AlarmMember {
    let kind = match alarm.kind {
        AlarmKind::NoSpace => AlarmType::Nospace,
        AlarmKind::Corrupt => AlarmType::Corrupt,
    };
    pb::AlarmMember {
        member_id: alarm.machine,
        alarm: kind.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::maintenance::tests::{identity, report};

    #[test]
    fn a_full_disk_is_an_alarm_for_whoever_asks_for_it_or_for_all() {
        let mut full = report(None, true);
        let own = pb::AlarmMember {
            member_id: 7,
            alarm: 1,
        };
        assert_eq!(alarms(&identity(), &full, AlarmType::None), [own]);
        assert_eq!(alarms(&identity(), &full, AlarmType::Nospace), [own]);
        assert_eq!(alarms(&identity(), &full, AlarmType::Corrupt), []);
        full.alarms.push(Alarm {
            machine: 7,
            kind: AlarmKind::NoSpace,
        });
        assert_eq!(alarms(&identity(), &full, AlarmType::None), [own], "once");
    }

    #[test]
    fn an_alarm_of_any_machine_is_told_by_all() {
        let mut report = report(None, false);
        report.alarms.push(Alarm {
            machine: 9,
            kind: AlarmKind::Corrupt,
        });
        let told = pb::AlarmMember {
            member_id: 9,
            alarm: 2,
        };
        assert_eq!(alarms(&identity(), &report, AlarmType::None), [told]);
        assert_eq!(alarms(&identity(), &report, AlarmType::Corrupt), [told]);
        assert_eq!(alarms(&identity(), &report, AlarmType::Nospace), []);
    }
}
