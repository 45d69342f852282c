//! A migration from the command line: from the two clusters to the report, and how an operator ends it.

use std::cell::Cell;
use std::future::pending;

use tokio::signal::ctrl_c;

use crate::client::Endpoints;
use crate::migrate::error::{MigrateError, Which};
use crate::migrate::flags::MigrateFlags;
use crate::migrate::leases::Leases;
use crate::migrate::migration::Migration;
use crate::migrate::progress::Progress;
use crate::migrate::scope::Scope;
use crate::migrate::side::Side;
use crate::migrate::signal::Signal;
use crate::migrate::writer::Writer;
use crate::output::Format;

/// Does what the flags say.
pub(crate) async fn run(
    endpoints: &Endpoints,
    format: Format,
    flags: MigrateFlags,
) -> crate::error::Result<()> {
    let scope = Scope::new(&flags);
    let source = flags.source(endpoints.timeout)?;
    let patience = flags.patience;
    let source = Side::connect(Which::Source, source, patience, scope.source()).await?;
    let target = Side::connect(Which::Target, endpoints.clone(), patience, scope.target()).await?;
    let leases = Leases::new(&source, &target, &scope);
    let migration = Migration {
        writer: Writer {
            target: &target,
            leases: &leases,
            operations_max: flags.max_txn_ops.into(),
        },
        scope: &scope,
        source: &source,
        target: &target,
        leases: &leases,
        flags: &flags,
        progress: Progress::new(),
        ending: Signal::new(),
        may_overwrite: Cell::new(flags.force),
        copies: Cell::new(0),
        anew: Cell::new(0),
        written: Cell::new(0),
        followed: Cell::new(0),
        position: Cell::new(None),
    };
    let carried_out = tokio::select! {
        report = migration.carry_out() => report,
        kept = leases.keep() => kept.map(|never| match never {}),
        () = interrupted(&migration) => Err(MigrateError::Interrupted),
    };
    migration.progress.clear();
    let report = carried_out.map_err(|error| with_position(&migration, error))?;
    report.print(format)
}

/// Ready once the operator ends it at once: by the first Ctrl-C, or the second where the first has it catch up.
async fn interrupted(migration: &Migration<'_>) {
    loop {
        if ctrl_c().await.is_err() {
            return pending().await;
        }
        if migration.position.get().is_none() || migration.ending.is_raised() {
            return;
        }
        let text = "catching up with the source; Ctrl-C again to end at once";
        migration.progress.note(text);
        migration.ending.raise();
    }
}

/// Says how far the target is where the source was lost.
fn with_position(migration: &Migration<'_>, error: MigrateError) -> MigrateError {
    match migration.position.get() {
        Some(revision) if error.is_lost_source() => MigrateError::SourceLost {
            revision,
            reason: Box::new(error),
        },
        _ => error,
    }
}
