//! What the visitor of the demonstration types, and what it means.

use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyModifiers};
use tokio::sync::mpsc;

/// What the visitor wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Let a random actor fail.
    KillActor,
    /// Kill the leader's process.
    KillLeader,
    /// Stop all and go.
    Quit,
}

/// What the visitor types, from a thread that ends with the process.
pub(crate) fn wishes() -> mpsc::Receiver<Wish> {
    let (wish, wishes) = mpsc::channel(16);
    std::thread::spawn(move || {
        while let Ok(event) = event::read() {
            if let Event::Key(key) = event
                && let Some(wanted) = meaning(key)
                && wish.blocking_send(wanted).is_err()
            {
                return;
            }
        }
    });
    wishes
}

/// What a key means. Ctrl-C is a key like any other while the terminal is ours.
fn meaning(key: KeyEvent) -> Option<Wish> {
    match key.code {
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Some(Wish::Quit),
        KeyCode::Char('q') | KeyCode::Esc => Some(Wish::Quit),
        KeyCode::Char('K') => Some(Wish::KillLeader),
        KeyCode::Char('k') => Some(Wish::KillActor),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_and_capital_letters_mean_different_things() {
        let typed = |letter, modifiers| meaning(KeyEvent::new(KeyCode::Char(letter), modifiers));
        assert_eq!(typed('k', KeyModifiers::NONE), Some(Wish::KillActor));
        assert_eq!(typed('K', KeyModifiers::SHIFT), Some(Wish::KillLeader));
        assert_eq!(typed('c', KeyModifiers::CONTROL), Some(Wish::Quit));
        assert_eq!(typed('c', KeyModifiers::NONE), None);
    }
}
