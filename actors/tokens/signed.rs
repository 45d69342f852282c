//! Tokens that a key signs: whoever has the key recognises them, so that no machine keeps any, the log knows of none, and they outlive
//! every process. What ends one, other than its time, is that users, roles or permissions change.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::SystemTime;

use rm_jwt::{Claims, Key, TokenError};
use rm_kv::{AuthError, Signature};
use slog::debug;

use crate::passwords::Turn;
use crate::port::{Port, Refusal};

/// How many tokens are kept that were found to be signed by the key, so that this is found once for each and not with every request. Each
/// has at most [`rm_jwt::TOKEN_BYTES_MAX`].
const VERIFIED_MAX: usize = 4_096;

/// The key, and what was found by it.
pub(crate) struct SignedTokens {
    key: Arc<Key>,
    verified: Mutex<HashMap<String, Claims>>,
}

impl SignedTokens {
    pub(crate) fn new(key: Key) -> SignedTokens {
        SignedTokens {
            key: Arc::new(key),
            verified: Mutex::default(),
        }
    }

    /// Signs a token for a user that has proved itself at this revision of users, roles and permissions, in the same turn: it does not queue
    /// again.
    ///
    /// # Errors
    /// [`AuthError::OldRevision`] where that is not the present one any more; [`Refusal::Operator`] where there is no private key.
    pub(crate) async fn sign(
        &self,
        port: &Port,
        user: &str,
        revision: u64,
        turn: Turn,
    ) -> Result<String, Refusal> {
        if revision < port.shared.board.auth().1 {
            return Err(Refusal::Request(AuthError::OldRevision.into()));
        }
        let (key, user) = (self.key.clone(), user.to_owned());
        let sign = move || key.sign(&user, revision, SystemTime::now());
        let (signed, _) = turn.work(sign).await?;
        signed.map_err(|error| Refusal::Operator(format!("no token is given out here: {error}")))
    }

    /// For whom a token stands.
    ///
    /// # Errors
    /// [`AuthError::InvalidToken`]; [`AuthError::OldRevision`] where users, roles or permissions have changed since it was given out; as
    /// [`Port::barrier`] where this machine has yet to apply what it was given out after.
    pub(crate) async fn recognise(&self, port: &Port, token: &str) -> Result<Signature, Refusal> {
        let claims = self.claims(token).map_err(|why| {
            debug!(port.logger(), "a token stands for nobody"; "reason" => %why);
            Refusal::Request(AuthError::InvalidToken.into())
        })?;
        let board = &port.shared.board;
        if board.auth().1 < claims.revision {
            port.signed(None).barrier().await?;
        }
        match claims.revision.cmp(&board.auth().1) {
            Ordering::Less => Err(Refusal::Request(AuthError::OldRevision.into())),
            Ordering::Equal => Ok(Signature {
                user: claims.username,
                revision: claims.revision,
            }),
            // It is of another domain that has the key, or of what this one was before it was restored.
            Ordering::Greater => Err(Refusal::Request(AuthError::InvalidToken.into())),
        }
    }

    /// What a token says, if it is signed by the key and in time.
    fn claims(&self, token: &str) -> Result<Claims, TokenError> {
        let now = SystemTime::now();
        let known = self.verified().get(token).cloned();
        let is_known = known.is_some();
        let claims = known.map_or_else(|| self.key.recognise(token), Ok)?;
        if !claims.are_in_time(now) {
            return Err(TokenError::OutOfTime);
        }
        if !is_known {
            let mut verified = self.verified();
            make_room(&mut verified, now);
            verified.insert(token.to_owned(), claims.clone());
        }
        Ok(claims)
    }

    fn verified(&self) -> MutexGuard<'_, HashMap<String, Claims>> {
        self.verified.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// What is forgotten is only found out again.
fn make_room(verified: &mut HashMap<String, Claims>, now: SystemTime) {
    if verified.len() < VERIFIED_MAX {
        return;
    }
    verified.retain(|_, claims| claims.are_in_time(now));
    if verified.len() >= VERIFIED_MAX {
        verified.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rm_config::{Jwt, SignMethod};

    use super::*;

    fn tokens() -> SignedTokens {
        let folder = tempfile::tempdir().expect("a folder");
        let secret = folder.path().join("secret");
        std::fs::write(&secret, [7; 32]).expect("the folder can be written");
        let jwt = Jwt {
            sign_method: SignMethod::Hs256,
            private_key: Some(secret),
            public_key: None,
            ttl_seconds: 300,
        };
        SignedTokens::new(Key::load(&jwt).expect("the secret is long enough"))
    }

    fn signed(tokens: &SignedTokens, user: &str, then: SystemTime) -> String {
        let token = tokens.key.sign(user, 1, then);
        token.expect("there is a private key")
    }

    #[test]
    fn a_token_ends_though_it_was_found_to_be_signed() {
        let tokens = tokens();
        let now = SystemTime::now();
        let old = signed(&tokens, "alice", now - Duration::from_secs(400));
        let claims = tokens.key.recognise(&old).expect("it is signed");
        tokens.verified().insert(old.clone(), claims);
        assert_eq!(tokens.claims(&old), Err(TokenError::OutOfTime));
        let new = signed(&tokens, "alice", now);
        for _ in 0..2 {
            let claims = tokens.claims(&new).expect("it has begun");
            assert_eq!(claims.username, "alice");
        }
    }

    #[test]
    fn there_are_never_more_kept_than_there_may_be() {
        let tokens = tokens();
        let now = SystemTime::now();
        for number in 0..VERIFIED_MAX + 5 {
            let token = signed(&tokens, &number.to_string(), now);
            tokens.claims(&token).expect("it is signed");
            assert!(tokens.verified().len() <= VERIFIED_MAX);
        }
    }
}
