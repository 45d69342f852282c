//! A counter in the place of the key space: the example of `docs/state-machine.md`, whose code this is.

mod counter;
mod domain;
mod driver;
mod page;

use bytes::Bytes;
use rm_kv::{Command, Keyspace, Put, Query, Range, ReplyBody, StateMachine};
use rm_raft::MachineId;

use counter::{Add, Counter, CounterError, Get, TooLarge};
use domain::Domain;
use driver::Outcome;

const ONE: MachineId = MachineId(1);
const TWO: MachineId = MachineId(2);
const THREE: MachineId = MachineId(3);

/// Three machines, one of which leads.
fn three() -> Outcome<Domain<Counter>> {
    let mut domain = Domain::new(3)?;
    domain.run_until(|domain| domain.leader().is_some())?;
    domain.settle()?;
    Ok(domain)
}

fn add(domain: &mut Domain<Counter>, id: MachineId, number: i64) -> Outcome<Result<i64, TooLarge>> {
    domain.command(id, Add(number).encode())
}

#[test]
fn every_machine_counts_what_any_was_told() -> Outcome<()> {
    let mut domain = three()?;
    assert_eq!(add(&mut domain, ONE, 1)?, Ok(1));
    assert_eq!(add(&mut domain, TWO, 2)?, Ok(3));
    assert_eq!(add(&mut domain, THREE, 3)?, Ok(6));
    for id in [ONE, TWO, THREE] {
        assert_eq!(domain.query(id, Get)?, Ok(6));
    }
    Ok(())
}

#[test]
fn a_command_that_is_refused_is_applied_and_changes_nothing() -> Outcome<()> {
    let mut domain = three()?;
    assert_eq!(add(&mut domain, ONE, i64::MAX)?, Ok(i64::MAX));
    assert_eq!(add(&mut domain, ONE, 1)?, Err(TooLarge));
    assert_eq!(add(&mut domain, ONE, -1)?, Ok(i64::MAX - 1));
    for id in [ONE, TWO, THREE] {
        assert_eq!(domain.query(id, Get)?, Ok(i64::MAX - 1));
    }
    Ok(())
}

#[test]
fn after_a_crash_each_command_counts_once() -> Outcome<()> {
    let mut domain = three()?;
    add(&mut domain, ONE, 10)??;
    let first = domain.settle()?;
    domain.checkpoint(TWO)?;
    add(&mut domain, ONE, 5)??;
    domain.settle()?;
    domain.crash(TWO);
    domain.start(TWO)?;
    // The checkpoint holds the first command; only the log holds the second.
    assert_eq!(domain.machine(TWO)?.state_machine.applied().index, first);
    assert_eq!(domain.query(TWO, Get)?, Ok(15));
    // What was applied is not applied again, whoever asks for it.
    let counter = &mut domain.machine(TWO)?.state_machine;
    let applied = counter.applied();
    let again = counter.apply(applied, Some(&Add(5).encode()), false);
    assert!(matches!(again, Err(CounterError::OutOfOrder(entry)) if entry == applied));
    Ok(())
}

#[test]
fn a_machine_that_was_away_for_long_goes_on_from_a_snapshot() -> Outcome<()> {
    let mut domain = three()?;
    let leader = domain.leader().ok_or("nobody leads")?;
    let away = if leader == ONE { TWO } else { ONE };
    let had = domain.settle()?;
    domain.crash(away);
    for number in 1..=20 {
        add(&mut domain, leader, number)??;
    }
    domain.settle()?;
    for id in [ONE, TWO, THREE] {
        if id != away {
            domain.checkpoint(id)?;
        }
    }
    // What it says after a crash is what is on disk.
    domain.crash(leader);
    domain.start(leader)?;
    let base = domain.machine(leader)?.core.status().base;
    assert!(base.index > had, "what the other lacks is compacted");
    domain.start(away)?;
    domain.settle()?;
    // It holds nothing that the leader had compacted, and has it counted all the same.
    assert!(domain.machine(away)?.core.status().base.index >= base.index);
    assert_eq!(domain.query(away, Get)?, Ok(210));
    // From here it goes on as any other, after the next crash too.
    assert_eq!(add(&mut domain, away, 1)?, Ok(211));
    domain.crash(away);
    domain.start(away)?;
    assert_eq!(domain.query(away, Get)?, Ok(211));
    Ok(())
}

#[test]
fn the_key_space_fits_in_the_same_place() -> Outcome<()> {
    let mut domain: Domain<Keyspace> = Domain::new(3)?;
    domain.run_until(|domain| domain.leader().is_some())?;
    domain.settle()?;
    let key = Bytes::from_static(b"greeting");
    let put = Put {
        key: key.clone(),
        value: Bytes::from_static(b"hello"),
        ..Put::default()
    };
    domain.command(ONE, Command::Put(put).encode())??;
    let range = Range {
        key,
        ..Range::default()
    };
    let reply = domain.query(THREE, Query::Range(range))??;
    assert!(matches!(reply.body, ReplyBody::Range(reply) if reply.kvs[0].value == "hello"));
    Ok(())
}
