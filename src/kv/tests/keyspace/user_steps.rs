//! Random users, roles and permissions for a key space, and who asks for what.

use bytes::Bytes;
use proptest::prelude::*;
use rm_kv::{AuthCommand, AuthQuery, Command, Deed, Permission, PermissionKind, Query, Signature};

use crate::steps::{key, lease, range_end};

/// Who asks: a user, and how many changes of users ago it was recognised. None for nobody.
pub(crate) type Asker = Option<(&'static str, u64)>;

/// On whose behalf that is, at a revision of users.
pub(crate) fn signature(asker: Asker, revision: u64) -> Option<Signature> {
    asker.map(|(user, ago)| Signature {
        user: user.to_owned(),
        revision: revision.saturating_sub(ago),
    })
}

/// Those who may all are the likeliest to ask, so that much goes through.
pub(crate) fn asker() -> impl Strategy<Value = Asker> {
    prop_oneof![
        1 => Just(None),
        6 => Just(Some(("root", 0))),
        8 => Just(Some(("alice", 0))),
        2 => Just(Some(("bob", 0))),
        1 => Just(Some(("alice", 1))),
        1 => Just(Some(("nobody", 0))),
    ]
}

fn user() -> impl Strategy<Value = String> {
    let names = prop::sample::select(vec!["root", "alice", "alice", "alice", "bob", "bob", ""]);
    names.prop_map(str::to_owned)
}

fn role() -> impl Strategy<Value = String> {
    let names = prop::sample::select(vec!["some", "some", "some", "other", "other", "root", ""]);
    names.prop_map(str::to_owned)
}

fn password() -> impl Strategy<Value = Option<String>> {
    prop::sample::select(vec![
        Some("hash".to_owned()),
        Some("other".to_owned()),
        None,
    ])
}

fn permission() -> impl Strategy<Value = Permission> {
    let kind = prop::sample::select(vec![
        PermissionKind::Read,
        PermissionKind::Write,
        PermissionKind::ReadWrite,
    ]);
    (kind, key(), range_end()).prop_map(|(kind, key, range_end)| Permission {
        kind,
        key,
        range_end,
    })
}

pub(crate) fn auth_command() -> impl Strategy<Value = Command> {
    let command = prop_oneof![
        2 => Just(AuthCommand::Enable),
        1 => Just(AuthCommand::Disable),
        3 => (user(), password()).prop_map(|(name, password)| AuthCommand::AddUser { name, password }),
        1 => user().prop_map(|name| AuthCommand::DeleteUser { name }),
        1 => (user(), password())
            .prop_map(|(name, password)| AuthCommand::ChangePassword { name, password }),
        4 => (user(), role()).prop_map(|(user, role)| AuthCommand::GrantRole { user, role }),
        2 => (user(), role()).prop_map(|(user, role)| AuthCommand::RevokeRole { user, role }),
        3 => role().prop_map(|name| AuthCommand::AddRole { name }),
        2 => role().prop_map(|name| AuthCommand::DeleteRole { name }),
        6 => (role(), permission())
            .prop_map(|(role, permission)| AuthCommand::GrantPermission { role, permission }),
        2 => (role(), key(), range_end()).prop_map(|(role, key, range_end)| {
            AuthCommand::RevokePermission { role, key, range_end }
        }),
        2 => (user(), 1..30u64).prop_map(|(user, revision)| AuthCommand::Admit {
            user,
            token: "token".to_owned(),
            revision,
        }),
    ];
    command.prop_map(Command::Auth)
}

pub(crate) fn auth_query() -> impl Strategy<Value = Query> {
    let deed = prop_oneof![
        1 => Just(Deed::Administer),
        3 => (key(), range_end()).prop_map(|(key, range_end)| Deed::Watch { key, range_end }),
        3 => lease().prop_map(Deed::Renew),
        1 => Just(Deed::Be),
    ];
    let query = prop_oneof![
        1 => Just(AuthQuery::Status),
        1 => Just(AuthQuery::Users),
        1 => Just(AuthQuery::Roles),
        4 => user().prop_map(AuthQuery::User),
        2 => role().prop_map(AuthQuery::Role),
        1 => user().prop_map(AuthQuery::Password),
        8 => deed.prop_map(AuthQuery::May),
    ];
    query.prop_map(Query::Auth)
}

/// What makes some users who may something, and has permissions asked for: by chance alone that would seldom come about.
pub(crate) fn some_users() -> impl Strategy<Value = Vec<Command>> {
    let permissions = |role: &'static str| {
        let grant = move |permission| AuthCommand::GrantPermission {
            role: role.to_owned(),
            permission,
        };
        prop::collection::vec(permission().prop_map(grant), 0..5)
    };
    (permissions("some"), permissions("other")).prop_map(|(some, other)| {
        let name = str::to_owned;
        let user = |user| AuthCommand::AddUser {
            name: name(user),
            password: Some("hash".to_owned()),
        };
        let has = |user, role| AuthCommand::GrantRole {
            user: name(user),
            role: name(role),
        };
        let low = AuthCommand::GrantPermission {
            role: name("some"),
            permission: Permission {
                kind: PermissionKind::ReadWrite,
                key: Bytes::from_static(b"a"),
                range_end: Bytes::from_static(b"c"),
            },
        };
        let mut commands = vec![user("root"), user("alice"), user("bob")];
        for role in ["some", "other"] {
            commands.push(AuthCommand::AddRole { name: name(role) });
        }
        commands.push(low);
        commands.extend(some);
        commands.extend(other);
        commands.extend([
            has("root", "root"),
            has("alice", "some"),
            has("alice", "other"),
            has("bob", "other"),
            AuthCommand::Enable,
        ]);
        commands.into_iter().map(Command::Auth).collect()
    })
}
