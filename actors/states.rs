//! Which state of this machine is in force. An installed snapshot takes the place of the one before while readers still have
//! that open; its space comes back with the last of them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rm_store::{DataDirectory, Environment, OpenError, Options};
use tokio::sync::OwnedMutexGuard;

/// The state in force and the options that states are opened with.
pub(crate) struct States {
    present: Mutex<InForce>,
    options: Options,
    /// Held by whoever makes the next one ready.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// How many snapshots wait for it.
    waiting: Arc<AtomicUsize>,
}

/// The right to make the next state ready and to put it in force, or to remove it: one at a time.
pub(crate) struct Turn {
    _guard: OwnedMutexGuard<()>,
    waiting: Arc<AtomicUsize>,
}

impl Turn {
    /// Whether a snapshot waits for it, which goes first.
    pub(crate) fn is_wanted(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }
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
            turn: Arc::default(),
            waiting: Arc::default(),
        })
    }

    /// The turn, if nobody has it.
    pub(crate) fn turn(&self) -> Option<Turn> {
        let guard = self.turn.clone().try_lock_owned().ok()?;
        Some(self.turn_with(guard))
    }

    /// The turn for a snapshot, as soon as whoever has it gives it up. To be called on a thread that may block.
    pub(crate) fn turn_for_snapshot(&self) -> Turn {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let guard = self.turn.clone().blocking_lock_owned();
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        self.turn_with(guard)
    }

    fn turn_with(&self, guard: OwnedMutexGuard<()>) -> Turn {
        Turn {
            _guard: guard,
            waiting: self.waiting.clone(),
        }
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
