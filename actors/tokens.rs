//! The tokens that stand for users on this machine, as the log has admitted them. They outlive every actor, and go with the process: a
//! client whose token is not known any more proves itself again, as with etcd.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rm_kv::AuthNews;
use rm_raft::{EntryId, Index};

/// The most tokens that are kept. One more takes the place of that which would end first.
const TOKENS_MAX: usize = 100_000;

/// Tokens, each for as long as it is used now and then.
pub(crate) struct Tokens {
    /// The last entry that the log held when the process began. Nothing of what it held then brings a token.
    begin: EntryId,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    tokens: HashMap<String, Token>,
    /// The entry of which was heard last. What is applied again must not bring back a token that has ended.
    entry: Index,
}

struct Token {
    user: String,
    ends: Instant,
}

impl Tokens {
    /// Of a process that begins with a log up to this entry: it knows no token, and takes none of those before.
    pub(crate) fn after(begin: EntryId) -> Tokens {
        Tokens {
            begin,
            known: Mutex::default(),
        }
    }

    /// Whether the log may have held an entry when the process began. One that took the place of an entry of then is of a later term
    /// than the last of them; if not, it was proposed before (section 5.3 of the paper), and its token is asked for again.
    fn is_from_before(&self, entry: EntryId) -> bool {
        entry.index <= self.begin.index && entry.term <= self.begin.term
    }

    /// Takes what became of those who were admitted, and by which entry.
    pub(crate) fn learn(&self, news: Vec<(EntryId, AuthNews)>, ttl: Duration, now: Instant) {
        let mut known = self.lock();
        for (entry, change) in news {
            if self.is_from_before(entry) || entry.index <= known.entry {
                continue;
            }
            known.entry = entry.index;
            let tokens = &mut known.tokens;
            match change {
                AuthNews::Admitted { token, user } => {
                    make_room(tokens, now);
                    let ends = now + ttl;
                    tokens.insert(token, Token { user, ends });
                }
                AuthNews::Dismissed(user) => tokens.retain(|_, token| token.user != user),
                AuthNews::AllDismissed => tokens.clear(),
            }
        }
    }

    /// For whom a token stands; its time begins anew.
    pub(crate) fn user(&self, token: &str, ttl: Duration, now: Instant) -> Option<String> {
        let mut known = self.lock();
        let found = known
            .tokens
            .get_mut(token)
            .filter(|token| token.ends > now)?;
        found.ends = now + ttl;
        Some(found.user.clone())
    }

    /// Forgets all: the state was replaced, and what became of anybody meanwhile was not told.
    pub(crate) fn clear(&self) {
        self.lock().tokens.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(|e| e.into_inner())
    }
}

fn make_room(tokens: &mut HashMap<String, Token>, now: Instant) {
    if tokens.len() < TOKENS_MAX {
        return;
    }
    tokens.retain(|_, token| token.ends > now);
    if tokens.len() < TOKENS_MAX {
        return;
    }
    let first = tokens.iter().min_by_key(|(_, token)| token.ends);
    if let Some(first) = first.map(|(first, _)| first.clone()) {
        tokens.remove(&first);
    }
}

#[cfg(test)]
mod tests {
    use rm_raft::Term;

    use super::*;

    const TTL: Duration = Duration::from_secs(300);

    fn entry(index: u64) -> EntryId {
        let (term, index) = (Term(3), Index(index));
        EntryId { term, index }
    }

    fn admitted(token: &str, user: &str) -> AuthNews {
        AuthNews::Admitted {
            token: token.into(),
            user: user.into(),
        }
    }

    #[test]
    fn a_token_stands_for_its_user_as_long_as_it_is_used() {
        let tokens = Tokens::after(EntryId::default());
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        let user = |token, seconds| tokens.user(token, TTL, at(seconds));
        tokens.learn(
            vec![
                (entry(1), admitted("a.1", "alice")),
                (entry(2), admitted("b.2", "bob")),
            ],
            TTL,
            now,
        );
        assert_eq!(user("a.1", 299).as_deref(), Some("alice"));
        assert_eq!(user("a.1", 500).as_deref(), Some("alice"));
        assert_eq!(user("b.2", 300), None);
        assert_eq!(user("c.3", 0), None);
    }

    #[test]
    fn who_is_dismissed_has_no_token_any_more() {
        let tokens = Tokens::after(EntryId::default());
        let now = Instant::now();
        let learn = |news| tokens.learn(news, TTL, now);
        let known = |token| tokens.user(token, TTL, now).is_some();
        learn(vec![
            (entry(1), admitted("a.1", "alice")),
            (entry(2), admitted("b.2", "bob")),
        ]);
        learn(vec![(entry(3), AuthNews::Dismissed("alice".into()))]);
        assert!(!known("a.1") && known("b.2"));
        learn(vec![
            (entry(4), AuthNews::AllDismissed),
            (entry(5), admitted("c.5", "carol")),
        ]);
        assert!(!known("b.2") && known("c.5"));
        tokens.clear();
        assert!(!known("c.5"));
    }

    #[test]
    fn what_is_applied_again_brings_no_token_back_and_takes_none() {
        let tokens = Tokens::after(entry(7));
        let now = Instant::now();
        let learn = |news| tokens.learn(news, TTL, now);
        let known = |token| tokens.user(token, TTL, now).is_some();
        learn(vec![(entry(7), admitted("a.7", "alice"))]);
        assert!(!known("a.7"), "is from before the process began");
        learn(vec![
            (entry(8), AuthNews::Dismissed("bob".into())),
            (entry(9), admitted("b.9", "bob")),
        ]);
        learn(vec![
            (entry(8), AuthNews::Dismissed("bob".into())),
            (entry(9), admitted("other.9", "bob")),
        ]);
        assert!(known("b.9") && !known("other.9"));
    }

    #[test]
    fn what_takes_the_place_of_the_last_entry_of_before_brings_its_token() {
        let tokens = Tokens::after(entry(7));
        let now = Instant::now();
        let newer = EntryId {
            term: Term(4),
            index: Index(7),
        };
        tokens.learn(vec![(newer, admitted("a.7", "alice"))], TTL, now);
        assert!(tokens.user("a.7", TTL, now).is_some());
    }

    #[test]
    fn there_are_never_more_tokens_than_there_may_be() {
        let tokens = Tokens::after(EntryId::default());
        let now = Instant::now();
        for number in 0..TOKENS_MAX as u64 {
            let news = vec![(entry(number + 1), admitted(&number.to_string(), "alice"))];
            tokens.learn(news, TTL, now + Duration::from_nanos(number));
        }
        tokens.learn(vec![(entry(u64::MAX), admitted("last", "alice"))], TTL, now);
        assert_eq!(tokens.lock().tokens.len(), TOKENS_MAX);
        assert_eq!(tokens.user("0", TTL, now), None);
        assert!(tokens.user("1", TTL, now).is_some() && tokens.user("last", TTL, now).is_some());
    }
}
