//! Users, roles and permissions in the scripts.
//!
//! `auth enable|disable|status`; `auth admit USER TOKEN REVISION`; `user add|password NAME HASH|none`, `user delete NAME`,
//! `user grant|revoke USER ROLE`, `user get NAME`, `user list`; `role add|delete|get NAME`, `role list`,
//! `role grant ROLE read|write|readwrite KEY [END]`, `role revoke ROLE KEY [END]`; `auth may administer|be|watch KEY [END]|renew ID`.

use std::error::Error;

use bytes::Bytes;
use goldenscript::Argument;
use rm_kv::{AuthCommand, AuthQuery, AuthReply, Deed, Permission, PermissionKind};

pub(crate) enum Asked {
    Command(AuthCommand),
    Query(AuthQuery),
}

pub(crate) fn parse(name: &str, arguments: &[Argument]) -> Result<Asked, Box<dyn Error>> {
    let words: Vec<&str> = arguments
        .iter()
        .map(|argument| match argument {
            Argument::Positional(text) => Ok(text.as_str()),
            other => Err(format!("unexpected {other}")),
        })
        .collect::<Result<_, _>>()?;
    let text = |word: &str| word.to_owned();
    let hash = |word: &str| (word != "none").then(|| word.to_owned());
    let command = match (name, &words[..]) {
        ("auth", ["enable"]) => AuthCommand::Enable,
        ("auth", ["disable"]) => AuthCommand::Disable,
        ("auth", ["admit", user, token, revision]) => AuthCommand::Admit {
            user: text(user),
            token: text(token),
            revision: revision.parse()?,
        },
        ("user", ["add", name, password]) => AuthCommand::AddUser {
            name: text(name),
            password: hash(password),
        },
        ("user", ["password", name, password]) => AuthCommand::ChangePassword {
            name: text(name),
            password: hash(password),
        },
        ("user", ["delete", name]) => AuthCommand::DeleteUser { name: text(name) },
        ("user", ["grant", user, role]) => AuthCommand::GrantRole {
            user: text(user),
            role: text(role),
        },
        ("user", ["revoke", user, role]) => AuthCommand::RevokeRole {
            user: text(user),
            role: text(role),
        },
        ("role", ["add", name]) => AuthCommand::AddRole { name: text(name) },
        ("role", ["delete", name]) => AuthCommand::DeleteRole { name: text(name) },
        ("role", ["grant", role, kind, key, rest @ ..]) => AuthCommand::GrantPermission {
            role: text(role),
            permission: Permission {
                kind: match *kind {
                    "read" => PermissionKind::Read,
                    "write" => PermissionKind::Write,
                    "readwrite" => PermissionKind::ReadWrite,
                    other => return Err(format!("unknown permission {other}").into()),
                },
                key: bytes(key),
                range_end: end(rest),
            },
        },
        ("role", ["revoke", role, key, rest @ ..]) => AuthCommand::RevokePermission {
            role: text(role),
            key: bytes(key),
            range_end: end(rest),
        },
        (_, words) => return query(name, words).map(Asked::Query),
    };
    Ok(Asked::Command(command))
}

fn query(name: &str, words: &[&str]) -> Result<AuthQuery, Box<dyn Error>> {
    Ok(match (name, words) {
        ("auth", ["status"]) => AuthQuery::Status,
        ("auth", ["password", name]) => AuthQuery::Password((*name).to_owned()),
        ("auth", ["may", "administer"]) => AuthQuery::May(Deed::Administer),
        ("auth", ["may", "be"]) => AuthQuery::May(Deed::Be),
        ("auth", ["may", "renew", id]) => AuthQuery::May(Deed::Renew(id.parse()?)),
        ("auth", ["may", "watch", key, rest @ ..]) => AuthQuery::May(Deed::Watch {
            key: bytes(key),
            range_end: end(rest),
        }),
        ("user", ["get", name]) => AuthQuery::User((*name).to_owned()),
        ("user", ["list"]) => AuthQuery::Users,
        ("role", ["get", name]) => AuthQuery::Role((*name).to_owned()),
        ("role", ["list"]) => AuthQuery::Roles,
        _ => return Err(format!("unexpected {name} {words:?}").into()),
    })
}

fn bytes(word: &str) -> Bytes {
    Bytes::copy_from_slice(word.as_bytes())
}

fn end(rest: &[&str]) -> Bytes {
    match rest {
        [] => Bytes::new(),
        ["max", ..] => Bytes::from_static(&[0]),
        [end, ..] => bytes(end),
    }
}

pub(crate) fn show(reply: &AuthReply) -> String {
    match reply {
        AuthReply::Done => "done".to_owned(),
        AuthReply::Admitted(token) => format!("admitted by {token}"),
        AuthReply::Status { enabled, revision } => format!("enabled={enabled} changes={revision}"),
        AuthReply::Names(names) => format!("[{}]", names.join(" ")),
        AuthReply::Permissions(permissions) => {
            let show = |it: &Permission| {
                let text = |bytes: &Bytes| bytes.escape_ascii().to_string();
                format!(
                    "{:?} {:?} {:?}",
                    it.kind,
                    text(&it.key),
                    text(&it.range_end)
                )
            };
            let shown: Vec<String> = permissions.iter().map(show).collect();
            format!("[{}]", shown.join(", "))
        }
        AuthReply::Password { hash, revision } => format!("{hash:?} changes={revision}"),
    }
}
