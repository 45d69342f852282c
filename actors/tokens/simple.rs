//! Simple tokens: words that nobody can guess, which the log admits for a user. They outlive every actor, and go with the process: a
//! client whose token is not known any more proves itself again, as with etcd.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rm_kv::{AuthCommand, AuthError, AuthNews, AuthReply, Command, ReplyBody, Signature};
use rm_raft::{EntryId, Index};

use crate::port::{Port, Refusal};

/// The letters of a token, and how many there are before the number of the entry.
const LETTERS: &[u8; 52] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
const TOKEN_LETTERS: usize = 16;

/// The most tokens that are kept. One more takes the place of that which would end first.
const TOKENS_MAX: usize = 100_000;

/// Tokens, each for as long as it is used now and then.
pub(crate) struct SimpleTokens {
    /// For how long one stands for its user that is not used.
    ttl: Duration,
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

impl SimpleTokens {
    /// Of a process that begins with a log up to this entry: it knows no token, and takes none of those before.
    pub(crate) fn after(begin: EntryId, ttl: Duration) -> SimpleTokens {
        SimpleTokens {
            ttl,
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
    pub(crate) fn learn(&self, news: Vec<(EntryId, AuthNews)>, now: Instant) {
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
                    let ends = now + self.ttl;
                    tokens.insert(token, Token { user, ends });
                }
                AuthNews::Dismissed(user) => tokens.retain(|_, token| token.user != user),
                AuthNews::AllDismissed => tokens.clear(),
            }
        }
    }

    /// For whom a token stands; its time begins anew.
    fn user(&self, token: &str, now: Instant) -> Option<String> {
        let mut known = self.lock();
        let found = known
            .tokens
            .get_mut(token)
            .filter(|token| token.ends > now)?;
        found.ends = now + self.ttl;
        Some(found.user.clone())
    }

    /// Has the log tell all machines of a token for a user that has proved itself.
    ///
    /// # Errors
    /// [`AuthError::OldRevision`] where users, roles or permissions are not those of `revision` any more; as [`Port::propose`].
    pub(crate) async fn admit(port: &Port, user: &str, revision: u64) -> Result<String, Refusal> {
        let admit = Command::Auth(AuthCommand::Admit {
            user: user.to_owned(),
            token: token()?,
            revision,
        });
        match &port.propose(admit).await?.body {
            ReplyBody::Auth(AuthReply::Admitted(token)) => Ok(token.clone()),
            _ => Err(Refusal::Restarted),
        }
    }

    /// For whom a token stands.
    ///
    /// # Errors
    /// [`AuthError::InvalidToken`]; as [`Port::barrier`] where the token is of an entry that this machine has yet to apply.
    pub(crate) async fn recognise(&self, port: &Port, token: &str) -> Result<Signature, Refusal> {
        let invalid = Refusal::Request(AuthError::InvalidToken.into());
        let index = token
            .split_once('.')
            .and_then(|(_, index)| index.parse().ok());
        let index = Index(index.ok_or(invalid.clone())?);
        let board = &port.shared.board;
        // Another machine may have given it out a moment ago; if so, its entry is committed.
        if board.applied() < index {
            port.signed(None).barrier().await?;
        }
        // Before the token is looked up: who is dismissed after that is dismissed by a later revision.
        let revision = board.auth().1;
        let user = self.user(token, Instant::now()).ok_or(invalid)?;
        Ok(Signature { user, revision })
    }

    /// Forgets all: the state was replaced, and what became of anybody meanwhile was not told.
    pub(crate) fn clear(&self) {
        self.lock().tokens.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// A token that nobody can guess, up to the number of its entry.
fn token() -> Result<String, Refusal> {
    // So many bytes stand for each letter alike; those beyond stand for none.
    const FAIR: u8 = 4 * LETTERS.len() as u8;
    let mut token = String::with_capacity(TOKEN_LETTERS);
    while token.len() < TOKEN_LETTERS {
        let mut bytes = [0; TOKEN_LETTERS];
        getrandom::fill(&mut bytes).map_err(|error| {
            Refusal::Operator(format!("the system gives no random numbers: {error}"))
        })?;
        let fair = bytes.into_iter().filter(|byte| *byte < FAIR);
        let letters = fair.map(|byte| char::from(LETTERS[usize::from(byte) % LETTERS.len()]));
        token.extend(letters.take(TOKEN_LETTERS - token.len()));
    }
    Ok(token)
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
    fn no_token_is_like_another() {
        let tokens: std::collections::HashSet<String> = (0..1_000)
            .map(|_| token().expect("there are random numbers"))
            .collect();
        assert_eq!(tokens.len(), 1_000);
        assert!(tokens.iter().all(|token| token.len() == TOKEN_LETTERS));
    }

    #[test]
    fn a_token_stands_for_its_user_as_long_as_it_is_used() {
        let tokens = SimpleTokens::after(EntryId::default(), TTL);
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        let user = |token, seconds| tokens.user(token, at(seconds));
        tokens.learn(
            vec![
                (entry(1), admitted("a.1", "alice")),
                (entry(2), admitted("b.2", "bob")),
            ],
            now,
        );
        assert_eq!(user("a.1", 299).as_deref(), Some("alice"));
        assert_eq!(user("a.1", 500).as_deref(), Some("alice"));
        assert_eq!(user("b.2", 300), None);
        assert_eq!(user("c.3", 0), None);
    }

    #[test]
    fn who_is_dismissed_has_no_token_any_more() {
        let tokens = SimpleTokens::after(EntryId::default(), TTL);
        let now = Instant::now();
        let learn = |news| tokens.learn(news, now);
        let known = |token| tokens.user(token, now).is_some();
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
        let tokens = SimpleTokens::after(entry(7), TTL);
        let now = Instant::now();
        let learn = |news| tokens.learn(news, now);
        let known = |token| tokens.user(token, now).is_some();
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
        let tokens = SimpleTokens::after(entry(7), TTL);
        let now = Instant::now();
        let newer = EntryId {
            term: Term(4),
            index: Index(7),
        };
        tokens.learn(vec![(newer, admitted("a.7", "alice"))], now);
        assert!(tokens.user("a.7", now).is_some());
    }

    #[test]
    fn there_are_never_more_tokens_than_there_may_be() {
        let tokens = SimpleTokens::after(EntryId::default(), TTL);
        let now = Instant::now();
        for number in 0..TOKENS_MAX as u64 {
            let news = vec![(entry(number + 1), admitted(&number.to_string(), "alice"))];
            tokens.learn(news, now + Duration::from_nanos(number));
        }
        tokens.learn(vec![(entry(u64::MAX), admitted("last", "alice"))], now);
        assert_eq!(tokens.lock().tokens.len(), TOKENS_MAX);
        assert_eq!(tokens.user("0", now), None);
        assert!(tokens.user("1", now).is_some() && tokens.user("last", now).is_some());
    }
}
