//! The states of a data directory: which one is in force, and the removal of all others.

use std::{fs, io};

use crate::{DataDirectory, Environment, OpenError, Options, environment::DATA_FILE};

/// The folder of the first generation; those of the others end in their number.
const FIRST: &str = "state";

/// The name of the state of a generation.
pub(crate) fn name(generation: u64) -> String {
    match generation {
        0 => FIRST.to_owned(),
        generation => format!("{FIRST}-{generation}"),
    }
}

/// The generation that a folder's name stands for.
fn generation_of(folder: &str) -> Option<u64> {
    let generation = match folder.strip_prefix(FIRST)? {
        "" => 0,
        rest => rest.strip_prefix('-')?.parse().ok()?,
    };
    (name(generation) == folder).then_some(generation)
}

impl Environment {
    /// Opens the state of the generation that [`Log::generation`](crate::Log::generation) says is in force, and creates the very first one.
    /// Every other state is removed.
    ///
    /// # Errors
    /// Those of [`Environment::open`].
    pub fn open_state(
        directory: &DataDirectory,
        generation: u64,
        options: &Options,
    ) -> Result<Environment, OpenError> {
        let name = name(generation);
        // A state is remembered before the log names it and forgotten after it names another: only the very first is new.
        let was_there = generation > 0
            || directory
                .environments()
                .iter()
                .any(|each| generation_of(each).is_some());
        if was_there && !directory.knows(&name) {
            let path = directory.path().join(&name).join(DATA_FILE);
            return Err(OpenError::Missing { path });
        }
        let environment = Environment::open(directory, &name, options)?;
        remove_others(directory, generation)?;
        Ok(environment)
    }
}

/// Removes every state but the one that is in force. One that is still open gives its space back when it is closed.
///
/// # Errors
/// What the system answers.
pub fn remove_others(directory: &DataDirectory, in_force: u64) -> Result<(), OpenError> {
    let path = directory.path();
    let failed = |error: io::Error| OpenError::io("list", path, error);
    for entry in fs::read_dir(path).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let Some(name) = name.to_str() else { continue };
        if generation_of(name).is_some_and(|generation| generation != in_force) {
            remove(directory, name)?;
        }
    }
    for name in directory.environments() {
        if generation_of(&name).is_some_and(|generation| generation != in_force) {
            remove(directory, &name)?;
        }
    }
    Ok(())
}

/// Removes a state that is not in force: forgotten first, so that no crash leaves one that is known and missing.
pub(crate) fn remove(directory: &DataDirectory, name: &str) -> Result<(), OpenError> {
    directory.forget(name)?;
    let path = directory.path().join(name);
    match fs::remove_dir_all(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(OpenError::io("remove", &path, error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_this_program_gives_are_those_of_states() {
        for generation in [0, 1, 10, u64::MAX] {
            assert_eq!(generation_of(&name(generation)), Some(generation));
        }
        for other in [
            "log",
            "state-",
            "state-0",
            "state-01",
            "state-+1",
            "states",
            "state-1.old",
        ] {
            assert_eq!(generation_of(other), None, "{other}");
        }
    }
}
