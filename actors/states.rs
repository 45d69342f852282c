//! Which state of this machine is in force. An installed snapshot takes the place of the one before while readers still have
//! that open; its space comes back with the last of them.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rm_store::{DataDirectory, Environment, OpenError, Options};

/// The state in force and the options that states are opened with.
pub(crate) struct States {
    present: Mutex<InForce>,
    options: Options,
}

/// A state, and the generation that the log calls it by.
#[derive(Clone)]
pub(crate) struct InForce {
    pub(crate) generation: u64,
    pub(crate) environment: Environment,
}

impl States {
    /// Opens the state that the log says is in force.
    ///
    /// # Errors
    /// Those of [`Environment::open_state`].
    pub(crate) fn open(
        directory: &DataDirectory,
        generation: u64,
        options: Options,
    ) -> Result<States, OpenError> {
        let environment = Environment::open_state(directory, generation, &options)?;
        Ok(States {
            present: Mutex::new(InForce {
                generation,
                environment,
            }),
            options,
        })
    }

    /// The state in force. It stays open for as long as anyone holds it.
    pub(crate) fn present(&self) -> InForce {
        self.slot().clone()
    }

    /// Lets another state be found from now on: the one that the log has put in force.
    pub(crate) fn switch(&self, next: InForce) {
        *self.slot() = next;
    }

    /// Opens the state that the log says is in force, should its switch have died with the Storage that committed it.
    ///
    /// # Errors
    /// Those of [`Environment::open_state`].
    pub(crate) fn follow(
        &self,
        directory: &DataDirectory,
        generation: u64,
    ) -> Result<(), OpenError> {
        if self.slot().generation == generation {
            return Ok(());
        }
        let environment = Environment::open_state(directory, generation, &self.verified())?;
        self.switch(InForce {
            generation,
            environment,
        });
        Ok(())
    }

    /// The options for a file that this process has checked to the last page.
    pub(crate) fn verified(&self) -> Options {
        Options {
            verify_bytes_max: 0,
            ..self.options.clone()
        }
    }

    fn slot(&self) -> MutexGuard<'_, InForce> {
        // It changes as a whole.
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
