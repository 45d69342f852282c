//! The guard around one life of an actor: runs it, catches its panics, ends it when told, and reports how it ended.
//!
//! `actix::Supervisor` does not see panics, so the guard drives the actor's context itself. Control comes before the
//! mailbox: a flooded actor can still be stopped.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::ffi::CString;
use std::future::Future;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::pin::Pin;
use std::sync::mpsc;
use std::sync::{Arc, Once};
use std::task::{Context as TaskContext, Poll};

use actix::dev::{AsyncContextParts, ContextFut};
use actix::{AsyncContext, Context};
use tokio::sync::oneshot;

use crate::ActorName;
use crate::life::Life;
use crate::machine::{Clock, Derived, Machine, Shared};
use crate::supervisor::Event;

#[cfg(panic = "abort")]
compile_error!("Raft Machine restarts actors that panic: build it with panic = \"unwind\"");

/// How a life ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The supervisor asked for it.
    Asked,
    /// The actor failed, for this reason.
    Failed(String),
}

/// What a new life needs besides its actor.
pub(crate) struct Birth {
    pub(crate) shared: Arc<Shared>,
    pub(crate) life: Arc<Life>,
    pub(crate) stop: oneshot::Receiver<()>,
    pub(crate) events: mpsc::Sender<Event>,
}

/// Begins a life on this thread: builds the actor, fills its slot, and runs it under a guard. A failure to build is
/// reported as any other.
pub(crate) fn begin<A: Derived>(birth: Birth) {
    let Birth {
        shared,
        life,
        stop,
        events,
    } = birth;
    name_thread(life.actor);
    let clock = shared.clock;
    life.begin_poll(clock.micros());
    let machine = Machine::new(shared.clone(), life.clone());
    let built = catch(|| A::build(machine));
    life.end_poll();
    let report = |end| {
        let (actor, incarnation) = (life.actor, life.incarnation);
        // Nobody listens once the process is on its way out.
        let _ = events.send(Event::Ended {
            actor,
            incarnation,
            end,
        });
    };
    match built {
        Err(panic) => report(End::Failed(panic_reason(panic))),
        Ok(Err(reason)) => report(End::Failed(reason)),
        Ok(Ok(actor)) if !life.is_fenced() => {
            let context = Context::<A>::new();
            A::slot(&shared.slots).fill(context.address(), life.clone());
            let _ = events.send(Event::Begun {
                actor: life.actor,
                incarnation: life.incarnation,
            });
            actix_rt::spawn(Guard {
                run: Some(context.into_future(actor)),
                clock,
                life,
                stop,
                events,
            });
        }
        Ok(Ok(_)) => report(End::Asked),
    }
}

/// Lets tools that list threads show whose this is.
fn name_thread(actor: ActorName) {
    if let Ok(name) = CString::new(actor.as_str()) {
        // Where the system knows no names for threads, there is none.
        let _ = rustix::thread::set_name(&name);
    }
}

struct Guard<A: Derived>
where
    Context<A>: AsyncContextParts<A>,
{
    /// None once the life is over.
    run: Option<ContextFut<A, Context<A>>>,
    clock: Clock,
    life: Arc<Life>,
    stop: oneshot::Receiver<()>,
    events: mpsc::Sender<Event>,
}

impl<A: Derived> Future for Guard<A> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<()> {
        let this = self.get_mut();
        if Pin::new(&mut this.stop).poll(task).is_ready() || this.life.is_fenced() {
            return this.end(End::Asked);
        }
        let Some(run) = &mut this.run else {
            return Poll::Ready(());
        };
        this.life.begin_poll(this.clock.micros());
        let outcome = catch(|| Pin::new(run).poll(task));
        this.life.end_poll();
        match outcome {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(())) => {
                let reason = this.life.verdict();
                this.end(End::Failed(reason.unwrap_or_else(|| "stopped".into())))
            }
            Err(panic) => this.end(End::Failed(panic_reason(panic))),
        }
    }
}

impl<A: Derived> Guard<A> {
    fn end(&mut self, end: End) -> Poll<()> {
        // Outside of any unwinding, since a panic in a destructor would otherwise abort the process.
        let _ = catch(|| drop(self.run.take()));
        let _ = self.events.send(Event::Ended {
            actor: self.life.actor,
            incarnation: self.life.incarnation,
            end,
        });
        Poll::Ready(())
    }
}

thread_local! {
    /// Whether a panic on this thread would be caught here.
    static GUARDED: Cell<bool> = const { Cell::new(false) };
    /// Where the last caught panic of this thread happened.
    static PANIC_PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs a part of an actor's life; what it leaves half-changed is never seen, since a panic ends that life.
fn catch<T>(part: impl FnOnce() -> T) -> Result<T, Box<dyn Any + Send>> {
    GUARDED.set(true);
    let outcome = catch_unwind(AssertUnwindSafe(part));
    GUARDED.set(false);
    outcome
}

/// Keeps the place of a panic that will be caught, in place of the hook that was there: that one's print and backtrace
/// took up to 200 ms. All other panics go to the earlier hook.
pub(crate) fn install_panic_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let earlier = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info: &PanicHookInfo<'_>| {
            if !GUARDED.get() {
                return earlier(info);
            }
            let place = info.location().map(|at| at.to_string());
            PANIC_PLACE.with(|slot| *slot.borrow_mut() = place);
        }));
    });
}

fn panic_reason(panic: Box<dyn Any + Send>) -> String {
    let text = if let Some(text) = panic.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text.clone()
    } else {
        "of a kind that says nothing".to_owned()
    };
    match PANIC_PLACE.with(|slot| slot.borrow_mut().take()) {
        Some(place) => format!("panic: {text}, at {place}"),
        None => format!("panic: {text}"),
    }
}
