//! What a migration has done, as it is printed.

use serde::Serialize;

use crate::client::Link;
use crate::migrate::error::{MigrateError, Result};
use crate::migrate::side::Side;
use crate::output::{Format, grid, human_bytes, print_json, print_table};
use crate::proto::{AuthRoleListRequest, AuthUserListRequest};

/// What was moved and compared.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// As of which revision of the source the two are the same.
    pub(crate) source_revision: i64,
    /// The target's revision after that.
    pub(crate) target_revision: i64,
    /// How many keys were compared, each with its value and its lease.
    pub(crate) keys: u64,
    /// Of these keys and values.
    pub(crate) bytes: u64,
    /// How many leases were compared.
    pub(crate) leases: u64,
    /// Keys on leases that have ended at the source since that revision, so that it is no matter whether they are there.
    pub(crate) ended_meanwhile: u64,
    /// How many changes of keys the copies took; of a target that held some of it, fewer than it has keys.
    pub(crate) written: u64,
    /// How many changes followed.
    pub(crate) followed: u64,
    /// How often a copy was begun: more than once where the source compacted what was being read, leases were lost, or something differed
    /// after all was followed.
    pub(crate) copies: u32,
    /// What is to be made anew by hand.
    pub(crate) users_and_roles: Left,
}

/// Users and roles of the source, which its API does not give away whole.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Left {
    /// Their names.
    Known {
        /// Of users.
        users: Vec<String>,
        /// Of roles.
        roles: Vec<String>,
    },
    /// The source does not tell them.
    Untold {
        /// Why.
        reason: String,
    },
}

impl Left {
    /// Asks the source.
    ///
    /// # Errors
    /// The source does not answer.
    pub(crate) async fn at(source: &Side) -> Result<Left> {
        let users = async |link: Link| link.auth().user_list(AuthUserListRequest {}).await;
        let roles = async |link: Link| link.auth().role_list(AuthRoleListRequest {}).await;
        let asked = async {
            let users = source.ask("listing the users", users).await?;
            let roles = source.ask("listing the roles", roles).await?;
            Ok::<_, MigrateError>(Left::Known {
                users: users.into_inner().users,
                roles: roles.into_inner().roles,
            })
        };
        match asked.await {
            Err(error) if error.exit_code() == 1 => Ok(Left::Untold {
                reason: error.to_string(),
            }),
            known => known,
        }
    }

    fn line(&self) -> String {
        match self {
            Left::Known { users, roles } if users.is_empty() && roles.is_empty() => {
                "none".to_owned()
            }
            Left::Known { users, roles } => format!(
                "to be made anew: users {}; roles {}",
                names(users),
                names(roles)
            ),
            Left::Untold { reason } => format!("not known: {reason}"),
        }
    }
}

fn names(names: &[String]) -> String {
    match names {
        [] => "none".to_owned(),
        names => names.join(", "),
    }
}

impl Report {
    /// Prints it.
    pub(crate) fn print(&self, format: Format) -> crate::error::Result<()> {
        if format == Format::Json {
            return print_json(self);
        }
        let mut table = grid([]);
        let rows = [
            (
                "same at revision",
                format!(
                    "{} of the source, {} of the target",
                    self.source_revision, self.target_revision
                ),
            ),
            (
                "compared",
                format!(
                    "{} keys with their values and leases, {}",
                    self.keys,
                    human_bytes(self.bytes)
                ),
            ),
            ("leases", self.leases.to_string()),
            (
                "written",
                format!(
                    "{} changes by copies ({}), {} that followed",
                    self.written, self.copies, self.followed
                ),
            ),
            (
                "ended meanwhile",
                format!("{} keys, with their leases", self.ended_meanwhile),
            ),
            ("users and roles", self.users_and_roles.line()),
        ];
        for (name, value) in rows {
            table.add_row([name.to_owned(), value]);
        }
        print_table(table, format)
    }
}
