//! Who a client is: it proves itself by a password, has a token from then on, and its requests are signed with its name. What it may
//! is judged where its requests are applied.

use std::time::{Duration, Instant};

use rm_kv::{AuthError, AuthQuery, AuthReply, Deed, Query, ReplyBody, Signature};
use slog::warn;

use crate::passwords::{Line, Origin, Turn};
use crate::port::{Consistency, Port, Refusal};

/// How many passwords are looked at at a time, each on a thread of its own.
const PASSWORDS_MAX: usize = 2;

/// How many passwords may wait for that. So many are done within a few seconds at the default cost.
const PASSWORDS_WAITING_MAX: usize = 128;

/// How many new passwords are hashed at a time, beside those that are looked at.
const HASHES_MAX: usize = 1;

/// How many new passwords may wait for that.
const HASHES_WAITING_MAX: usize = 64;

/// The longest password, in bytes: what bcrypt looks at.
const PASSWORD_BYTES_MAX: usize = 72;

/// Room for those whose passwords are looked at, and for the new passwords of administrators, whom nobody else holds up.
#[derive(Clone)]
pub(crate) struct RoomForPasswords {
    looked_at: Line,
    hashed: Line,
}

impl RoomForPasswords {
    pub(crate) fn new() -> RoomForPasswords {
        RoomForPasswords {
            looked_at: Line::new(PASSWORDS_MAX, PASSWORDS_WAITING_MAX),
            hashed: Line::new(HASHES_MAX, HASHES_WAITING_MAX),
        }
    }
}

/// How a user proves itself.
struct Proof {
    /// The hash of its password, if it has one.
    hash: Option<String>,
    /// The revision of users, roles and permissions as of which that is so.
    revision: u64,
    /// That of the key space.
    key_space: i64,
}

impl Port {
    /// The same port, on behalf of somebody; none for a client that has not said who it is.
    #[must_use]
    pub fn signed(&self, by: Option<Signature>) -> Port {
        Port { by, ..self.clone() }
    }

    /// On whose behalf it asks.
    pub fn signature(&self) -> Option<Signature> {
        self.by.clone()
    }

    /// Whether permissions are asked for, as far as this machine has applied. None as long as the machine has less than it once judged by,
    /// or has never had all that was committed at some moment: one that starts, joins or catches up must not take its old state for a
    /// reason to let anybody in.
    pub fn asks_for_permissions(&self) -> Option<bool> {
        let board = &self.shared.board;
        board.auth_is_known().then(|| board.auth().0)
    }

    /// The same, and finds it out where need be, once in the life of the process.
    ///
    /// # Errors
    /// As [`Port::barrier`].
    pub async fn learn_whether_permissions_are_asked_for(&self) -> Result<bool, Refusal> {
        if let Some(asks) = self.asks_for_permissions() {
            return Ok(asks);
        }
        self.signed(None).barrier().await?;
        self.note_caught_up().await;
        self.shared.board.know_auth();
        Ok(self.shared.board.auth().0)
    }

    /// A later process on this data need not ask again, unless users change beyond its state.
    async fn note_caught_up(&self) {
        if self.shared.resources.directory.has_caught_up() {
            return;
        }
        let shared = self.shared.clone();
        let note = move || shared.resources.directory.note_caught_up();
        let noted = tokio::task::spawn_blocking(note).await;
        if let Ok(Err(error)) = noted {
            let log = self.logger();
            warn!(log, "that this machine has caught up cannot be noted: started again it serves nobody before there is a leader"; "error" => %error);
        }
    }

    /// Finds it out as soon as that is possible, so that no request has to wait for it.
    pub async fn learn_early_whether_permissions_are_asked_for(&self) {
        let pause = Duration::from_millis(self.shared.config.config.timings.election_timeout_ms);
        while self
            .learn_whether_permissions_are_asked_for()
            .await
            .is_err()
        {
            tokio::time::sleep(pause).await;
        }
    }

    /// Recognises a user by a token that was given out by [`Port::authenticate`], on any machine.
    ///
    /// # Errors
    /// [`AuthError::InvalidToken`]; [`AuthError::OldRevision`] where it is of another time; as [`Port::barrier`] where this machine has yet to
    /// apply what it was given out after.
    pub async fn recognise(&self, token: &str) -> Result<Signature, Refusal> {
        self.shared.tokens.recognise(self, token).await
    }

    /// The signature, as of now, of a user that is known without a token: its certificate was looked at where it came in, or it was
    /// recognised before.
    pub fn known(&self, user: &str) -> Signature {
        Signature {
            user: user.to_owned(),
            revision: self.shared.board.auth().1,
        }
    }

    /// Looks at a user's password, which came from there, and gives out a token that stands for the user; with it the revision of the key
    /// space.
    ///
    /// # Errors
    /// [`AuthError::Failed`] for a wrong password, [`AuthError::NotEnabled`], [`AuthError::OldRevision`] where users, roles or permissions
    /// change without rest; also as [`Port::propose`], and where this machine gives out none.
    pub async fn authenticate(
        &self,
        user: String,
        password: String,
        from: Origin,
    ) -> Result<(i64, String), Refusal> {
        let deadline = Instant::now() + self.shared.request_timeout();
        loop {
            let Proof {
                hash,
                revision,
                key_space,
            } = tokio::time::timeout_at(deadline.into(), self.proof_of(&user))
                .await
                .map_err(|_| Refusal::TimedOut)??;
            let proved = match hash {
                Some(hash) => {
                    let patience = deadline.saturating_duration_since(Instant::now());
                    self.verify(password.clone(), hash, from, patience).await?
                }
                None => None,
            };
            let turn = proved.ok_or(Refusal::Request(AuthError::Failed.into()))?;
            let given = self.shared.tokens.give_out(self, &user, revision, turn);
            match given.await {
                // Something has changed while the password was looked at.
                Err(refusal) if refusal.is_outdated() && Instant::now() < deadline => {}
                outcome => return Ok((key_space, outcome?)),
            }
        }
    }

    async fn proof_of(&self, user: &str) -> Result<Proof, Refusal> {
        let query = Query::Auth(AuthQuery::Password(user.to_owned()));
        let machine = self.signed(None);
        let reply = machine.query(query, Consistency::Quorum).await?;
        match reply.body {
            ReplyBody::Auth(AuthReply::Password { hash, revision }) => Ok(Proof {
                hash,
                revision,
                key_space: reply.revision,
            }),
            _ => Err(Refusal::Restarted),
        }
    }

    /// Hashes a password, to be kept.
    ///
    /// # Errors
    /// It is too long.
    pub async fn hash_password(&self, password: String) -> Result<String, Refusal> {
        if password.len() > PASSWORD_BYTES_MAX {
            return Err(Refusal::Operator(format!(
                "a password has at most {PASSWORD_BYTES_MAX} bytes"
            )));
        }
        let cost = self.shared.config.config.auth.bcrypt_cost;
        let turn = self
            .room_for_passwords
            .hashed
            .turn(Origin::UNKNOWN, self.shared.request_timeout())
            .await?;
        let (hashed, _) = turn.work(move || bcrypt::hash(password, cost)).await?;
        hashed.map_err(|error| Refusal::Operator(format!("the password cannot be hashed: {error}")))
    }

    /// Whether a password is the one of the hash. If so, whoever proved itself by it still has its turn, for which it has waited no longer
    /// than that.
    async fn verify(
        &self,
        password: String,
        hash: String,
        from: Origin,
        patience: Duration,
    ) -> Result<Option<Turn>, Refusal> {
        let line = &self.room_for_passwords.looked_at;
        let turn = line.turn(from, patience).await?;
        let (verified, turn) = turn.work(move || bcrypt::verify(password, &hash)).await?;
        Ok(verified.unwrap_or(false).then_some(turn))
    }

    /// Whether whoever signs may do something that is no request to the key space.
    ///
    /// # Errors
    /// It may not, as [`AuthError`] says; or whether that is asked for at all is not known yet, as [`Port::barrier`].
    pub async fn may(&self, deed: Deed) -> Result<(), Refusal> {
        // How a machine is must be told, too, of one that begins or joins and does not get so far that it knows of users.
        let is_begun = self.shared.resources.directory.has_caught_up();
        let is_to_be_known = deed != Deed::Be || is_begun;
        if is_to_be_known && !self.learn_whether_permissions_are_asked_for().await? {
            return Ok(());
        }
        let judge = match deed {
            Deed::Be | Deed::Administer => Port {
                room: self.room_for_judging.clone(),
                ..self.clone()
            },
            _ => self.clone(),
        };
        let query = Query::Auth(AuthQuery::May(deed));
        judge
            .query(query, Consistency::Serializable)
            .await
            .map(drop)
    }
}
