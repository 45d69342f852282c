//! A migration from the command line: from the two clusters to the report, and how an operator ends it.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::sleep;

use crate::client::Endpoints;
use crate::error::Error;
use crate::migrate::done::Done;
use crate::migrate::error::{MigrateError, Which};
use crate::migrate::flags::MigrateFlags;
use crate::migrate::interrupts::Interrupts;
use crate::migrate::leases::Leases;
use crate::migrate::migration::Migration;
use crate::migrate::ours::Ours;
use crate::migrate::progress::Progress;
use crate::migrate::scope::Scope;
use crate::migrate::side::Side;
use crate::migrate::signal::Signal;
use crate::migrate::writer::Writer;
use crate::output::Format;

/// How long writes that are under way are waited for, once an operator ends it.
const CLOSING_MAX: Duration = Duration::from_secs(5);

/// Does what the flags say.
pub(crate) async fn run(
    endpoints: &Endpoints,
    format: Format,
    flags: MigrateFlags,
) -> crate::error::Result<()> {
    let scope = Scope::new(&flags);
    let source = flags.source(endpoints.timeout)?;
    let mut interrupts = Interrupts::listen().map_err(Error::io("cannot listen for signals"))?;
    let connected = async {
        let patience = flags.patience;
        let source = Side::connect(Which::Source, source, patience, scope.source()).await?;
        let target = endpoints.clone();
        let target = Side::connect(Which::Target, target, patience, scope.target()).await?;
        Ok::<_, Error>((source, target))
    };
    let (source, target) = tokio::select! {
        connected = connected => connected?,
        () = interrupts.next() => return Err(MigrateError::Interrupted(Done::default()).into()),
    };
    let ours = Ours::new(flags.force);
    let leases = Leases::new(&source, &target, &scope, &ours);
    let migration = Migration {
        writer: Writer::new(&target, &leases, &ours, flags.max_txn_ops.into()),
        ours: &ours,
        scope: &scope,
        source: &source,
        target: &target,
        leases: &leases,
        flags: &flags,
        progress: Progress::new(),
        ending: Signal::new(),
        is_looked_at: Cell::new(false),
        copies: Cell::new(0),
        anew: Cell::new(0),
        written: Cell::new(0),
        followed: Cell::new(0),
        position: Cell::new(None),
    };
    let carried_out = tokio::select! {
        report = migration.carry_out() => report,
        kept = leases.keep() => kept.map(|never| match never {}),
        () = interrupted(&migration, &mut interrupts) => Err(MigrateError::Interrupted(migration.done())),
    };
    migration.progress.clear();
    let report = carried_out.map_err(|error| with_position(&migration, error))?;
    report.print(format)
}

/// Ready once the operator ends it: by the first Ctrl-C, or the second where the first has it catch up. What is being written is waited
/// for, so that it can be told, unless there is one more.
async fn interrupted(migration: &Migration<'_>, interrupts: &mut Interrupts) {
    loop {
        interrupts.next().await;
        if migration.position.get().is_none() || migration.ending.is_raised() {
            break;
        }
        let text = "catching up with the source; Ctrl-C again to end at once";
        migration.progress.note(text);
        migration.ending.raise();
    }
    tokio::select! {
        () = migration.writer.close() => {}
        () = interrupts.next() => {}
        () = sleep(CLOSING_MAX) => {}
    }
}

/// Says how far the target is where the source was lost, and what was done where it ends amid.
fn with_position(migration: &Migration<'_>, error: MigrateError) -> MigrateError {
    match migration.position.get() {
        Some(revision) if error.is_lost_source() => MigrateError::SourceLost {
            revision,
            reason: Box::new(error),
        },
        _ if error.is_met_amid() => MigrateError::Stopped {
            done: migration.done(),
            reason: Box::new(error),
        },
        _ => error,
    }
}
