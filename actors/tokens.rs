//! The tokens that stand for users: simple ones, which the log admits and each machine keeps, or those that a key signs, which none keeps.
//! Which of them is the config's choice, and nobody else's concern.

mod signed;
mod simple;

use std::time::{Duration, Instant};

use rm_config::Auth;
use rm_jwt::Key;
use rm_kv::{AuthNews, Signature};
use rm_raft::EntryId;

use crate::passwords::Turn;
use crate::port::{Port, Refusal};
use signed::SignedTokens;
use simple::SimpleTokens;

/// The tokens of a machine, of either kind.
pub(crate) enum Tokens {
    Simple(SimpleTokens),
    Signed(SignedTokens),
}

impl Tokens {
    /// Signed ones where there is a key. The log held entries up to `begin` when the process began.
    pub(crate) fn new(key: Option<Key>, config: &Auth, begin: EntryId) -> Tokens {
        match key {
            Some(key) => Tokens::Signed(SignedTokens::new(key)),
            None => {
                let ttl = Duration::from_secs(config.token_ttl_seconds);
                Tokens::Simple(SimpleTokens::after(begin, ttl))
            }
        }
    }

    /// Gives out a token for a user that has proved itself at this revision of users, roles and permissions, in its turn.
    ///
    /// # Errors
    /// It is not the present one any more, [`rm_kv::AuthError::OldRevision`]; this machine gives out none; as [`Port::propose`].
    pub(crate) async fn give_out(
        &self,
        port: &Port,
        user: &str,
        revision: u64,
        turn: Turn,
    ) -> Result<String, Refusal> {
        match self {
            Tokens::Simple(_) => {
                // What is left takes no thread.
                drop(turn);
                SimpleTokens::admit(port, user, revision).await
            }
            Tokens::Signed(tokens) => tokens.sign(port, user, revision, turn).await,
        }
    }

    /// For whom a token stands.
    ///
    /// # Errors
    /// As [`Port::recognise`].
    pub(crate) async fn recognise(&self, port: &Port, token: &str) -> Result<Signature, Refusal> {
        match self {
            Tokens::Simple(tokens) => tokens.recognise(port, token).await,
            Tokens::Signed(tokens) => tokens.recognise(port, token).await,
        }
    }

    /// Takes what became of those whom the log has admitted. For signed tokens that is said by the revision which they bear.
    pub(crate) fn learn(&self, news: Vec<(EntryId, AuthNews)>) {
        match self {
            Tokens::Simple(tokens) => tokens.learn(news, Instant::now()),
            Tokens::Signed(_) => {}
        }
    }

    /// The state was replaced, and what became of anybody meanwhile was not told.
    pub(crate) fn clear(&self) {
        match self {
            Tokens::Simple(tokens) => tokens.clear(),
            Tokens::Signed(_) => {}
        }
    }
}
