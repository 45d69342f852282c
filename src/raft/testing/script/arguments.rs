//! What the words of a command stand for.

use std::error::Error;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use goldenscript::ArgumentConsumer;

use crate::{Entries, Entry, EntryId, Index, MachineId, Payload, Step, Term};

/// The next positional argument.
pub(super) fn next<T: FromStr>(args: &mut ArgumentConsumer<'_>) -> Result<T, Box<dyn Error>> {
    let text = args.next_pos().ok_or("an argument is missing")?;
    text.parse()
        .map_err(|_| format!("{text} is not understood").into())
}

/// A keyed argument.
pub(super) fn key<T: FromStr>(
    args: &mut ArgumentConsumer<'_>,
    name: &str,
    default: T,
) -> Result<T, Box<dyn Error>> {
    match args.take_key(name) {
        Some(text) => text
            .parse()
            .map_err(|_| format!("{name}={text} is not understood").into()),
        None => Ok(default),
    }
}

pub(super) fn next_machine(args: &mut ArgumentConsumer<'_>) -> Result<MachineId, Box<dyn Error>> {
    next(args).map(MachineId)
}

/// A link, as `1-2`.
pub(super) fn link(text: &str) -> Result<(MachineId, MachineId), Box<dyn Error>> {
    let (from, to) = text.split_once('-').ok_or("a link is FROM-TO")?;
    Ok((MachineId(from.parse()?), MachineId(to.parse()?)))
}

/// An entry's name, as `index@term`.
pub(super) fn entry_id(text: &str) -> Result<EntryId, Box<dyn Error>> {
    let (index, term) = text.split_once('@').ok_or("an entry is INDEX@TERM")?;
    Ok(EntryId {
        term: Term(term.parse()?),
        index: Index(index.parse()?),
    })
}

/// Entries without a command, by their names.
pub(super) fn empty_entries(args: &mut ArgumentConsumer<'_>) -> Result<Entries, Box<dyn Error>> {
    let mut entries = Vec::new();
    while let Some(text) = args.next_pos() {
        let id = entry_id(text)?;
        let payload = Payload::Empty;
        entries.push(Entry { id, payload });
    }
    Ok(entries.into())
}

/// A step of a change; what is told about a machine is the step that told it.
pub(super) fn step(what: &str, machine: MachineId) -> Result<Step, String> {
    let about = Bytes::copy_from_slice(what.as_bytes());
    Ok(match what {
        "add" => Step::Add(machine, about),
        "addvoter" => Step::AddVoter(machine, about),
        "promote" => Step::Promote(machine),
        "demote" => Step::Demote(machine),
        "remove" => Step::Remove(machine),
        "update" => Step::Update(machine, about),
        _ => return Err(format!("no step {what}")),
    })
}

pub(super) fn span(text: &str) -> Result<Duration, Box<dyn Error>> {
    let millis = text.strip_suffix("ms").ok_or("a span is in ms")?;
    Ok(Duration::from_millis(millis.parse()?))
}
