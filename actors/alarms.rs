//! Alarms: raised and disarmed through the log, by clients and by the machines themselves.
//!
//! A machine raises NOSPACE for itself when its state has reached the quota, and CORRUPT when its data is not what the machine that leads
//! says of its own. Nobody disarms one but a client.

use std::time::Duration;

use rm_kv::{Alarm, AlarmCommand, AlarmKind, Command, KeyspaceHash, Reply, ReplyBody};
use rm_raft::Role;
use slog::{crit, debug, info, warn};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::port::{Port, Refusal};

/// How often a machine looks after its quota.
const LOOK_PAUSE: Duration = Duration::from_secs(1);

impl Port {
    /// Raises an alarm, whether it stands already or not.
    ///
    /// # Errors
    /// As [`Port::propose`].
    pub async fn raise(&self, alarm: Alarm) -> Result<Vec<Alarm>, Refusal> {
        alarms(self.tell(AlarmCommand::Raise(alarm)).await?)
    }

    /// Disarms an alarm: it, if it stood.
    ///
    /// # Errors
    /// As [`Port::propose`].
    pub async fn disarm(&self, alarm: Alarm) -> Result<Vec<Alarm>, Refusal> {
        alarms(self.tell(AlarmCommand::Disarm(alarm)).await?)
    }

    async fn tell(&self, command: AlarmCommand) -> Result<Reply, Refusal> {
        let answered = self.propose_once(Command::Alarm(command)).await?;
        Ok(answered.reply)
    }

    /// Refuses what needs space where the state has reached the quota, and has all machines know it.
    pub(crate) async fn require_quota(&self, command: &Command) -> Result<(), Refusal> {
        if !command.needs_space() || !self.is_at_quota() {
            return Ok(());
        }
        self.raise_no_space().await;
        Err(Refusal::NoSpace)
    }

    /// Whether the file of the state is as large as it may become.
    fn is_at_quota(&self) -> bool {
        let (file_bytes, _) = self.shared.board.sizes();
        let quota = self.shared.config.config.limits.quota_bytes();
        quota.is_some_and(|quota| file_bytes >= quota)
    }

    async fn raise_no_space(&self) {
        let alarm = Alarm {
            machine: self.shared.local().0,
            kind: AlarmKind::NoSpace,
        };
        if self.shared.board.alarms().contains(&alarm) {
            return;
        }
        match self.raise(alarm).await {
            Ok(_) => {
                warn!(
                    self.logger(),
                    "the state has reached limits.quota_bytes: writes are refused until it is compacted and defragmented and the alarm is disarmed"
                )
            }
            // Whoever asks next, or the next look, tries again.
            Err(refusal) => {
                debug!(self.logger(), "an alarm could not be raised"; "reason" => %refusal)
            }
        }
    }

    /// Looks after the quota, compares hashes with those of the machine that leads, and where this one leads has others compare theirs as
    /// often as `storage.corruption_check_seconds` says. For as long as it is polled.
    pub async fn look_after_alarms(&self) {
        let seconds = self.shared.config.config.storage.corruption_check_seconds;
        let pause = (seconds > 0).then(|| Duration::from_secs(seconds));
        let mut due = pause.map(|pause| Instant::now() + pause);
        let mut claims = self.shared.board.hash_claims();
        let mut looks = interval(LOOK_PAUSE);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = looks.tick() => {
                    if self.is_at_quota() {
                        self.raise_no_space().await;
                    }
                    if due.is_some_and(|due| Instant::now() >= due) {
                        self.claim_hash().await;
                        due = pause.map(|pause| Instant::now() + pause);
                    }
                }
                changed = claims.changed() => {
                    let claim = *claims.borrow_and_update();
                    match (changed, claim) {
                        (Ok(()), Some(claim)) => self.compare(claim).await,
                        (Ok(()), None) => {}
                        (Err(_), _) => return,
                    }
                }
            }
        }
    }

    /// Where this machine leads, has all machines compare their hashes with its own.
    async fn claim_hash(&self) {
        if self.shared.board.raft().role != Role::Leader {
            return;
        }
        let claimed = match self.hash(0).await {
            Ok(claim) => self.tell(AlarmCommand::Compare(claim)).await.map(drop),
            Err(refusal) => Err(refusal),
        };
        if let Err(refusal) = claimed {
            warn!(self.logger(), "the machines could not be compared"; "reason" => %refusal);
        }
    }

    /// Compares this machine's hash with a claim. Where it was compacted since, there is nothing to compare.
    async fn compare(&self, claim: KeyspaceHash) {
        let log = self.logger();
        let found = match self.hash(claim.revision).await {
            Ok(own) if own.compact_revision != claim.compact_revision => return,
            Ok(own) if own.hash == claim.hash => {
                info!(log, "the data is what the machine that leads has"; "revision" => claim.revision, "hash" => own.hash);
                return;
            }
            Ok(own) => format!(
                "its hash is {:08x}, and that of the machine that leads {:08x}",
                own.hash, claim.hash
            ),
            Err(Refusal::Damaged(damage)) => damage,
            Err(refusal) => {
                debug!(log, "the data could not be compared"; "reason" => %refusal);
                return;
            }
        };
        crit!(log, "THE DATA IS CORRUPT: writes are refused until the alarm is disarmed"; "revision" => claim.revision, "found" => found);
        let alarm = Alarm {
            machine: self.shared.local().0,
            kind: AlarmKind::Corrupt,
        };
        if let Err(refusal) = self.raise(alarm).await {
            warn!(log, "an alarm could not be raised"; "reason" => %refusal);
        }
    }
}

fn alarms(reply: Reply) -> Result<Vec<Alarm>, Refusal> {
    match reply.body {
        ReplyBody::Alarms(alarms) => Ok(alarms),
        _ => Err(Refusal::Restarted),
    }
}
