//! Where a panic began: in the core, whose own invariants it tells of, or in the simulator, which is then wrong itself.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook, take_hook};
use std::sync::Once;

use super::properties::Violation;

/// What is broken when the simulator itself panics: no catch of a fault, and no verdict on a core.
pub const SIMULATOR_ITSELF: &str = "nothing: the simulator itself panicked";

/// What is broken when the core panics.
const CORE: &str = "the core's own invariants";

/// The files of this crate, seen from the workspace.
const OURS: &str = "tests/";

thread_local! {
    /// The file in which this thread panicked last.
    static FILE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Does something that may panic, and tells a panic as what it breaks.
pub(super) fn caught<T>(deed: impl FnOnce() -> Result<T, Violation>) -> Result<T, Violation> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |panic| {
            note(panic);
            before(panic);
        }));
    });
    catch_unwind(AssertUnwindSafe(deed)).unwrap_or_else(|panic| {
        let file = FILE.take();
        Err(Violation {
            property: if file.starts_with(OURS) {
                SIMULATOR_ITSELF
            } else {
                CORE
            },
            text: format!("{} ({file})", text_of(&*panic)),
        })
    })
}

fn note(panic: &PanicHookInfo<'_>) {
    let file = panic.location().map_or("", |place| place.file());
    FILE.replace(file.to_owned());
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without a text").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_the_simulator_is_no_fault_of_the_core() {
        let told = caught::<()>(|| panic!("it was not there"));
        let told = told.expect_err("it panics");
        assert_eq!(told.property, SIMULATOR_ITSELF);
        let text = told.text;
        assert!(text.starts_with("it was not there ("), "{text}");
        assert_eq!(caught(|| Ok(7)).ok(), Some(7));
    }
}
