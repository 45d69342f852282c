//! How many users, roles and permissions there may be. A change that would make more is refused, and changes nothing.

use bytes::Bytes;
use rm_kv::{
    AuthCommand, AuthError, Command, Keyspace, NAME_BYTES_MAX, PERMISSIONS_OF_ROLE_MAX, Permission,
    PermissionKind, ROLE_BYTES_MAX, ROLES_MAX, ROLES_OF_USER_MAX, RequestError, USERS_MAX,
};

use crate::support::{Disk, apply};

fn change(keyspace: &mut Keyspace, command: AuthCommand) -> Result<(), AuthError> {
    match apply(keyspace, &Command::Auth(command)).unwrap().unwrap() {
        Ok(_) => Ok(()),
        Err(RequestError::Auth(error)) => Err(error),
        Err(other) => panic!("is about no user: {other}"),
    }
}

fn refused(keyspace: &mut Keyspace, command: AuthCommand, with: AuthError) {
    let before = keyspace.auth_status();
    assert_eq!(change(keyspace, command), Err(with));
    assert_eq!(keyspace.auth_status(), before);
}

fn user(name: impl ToString) -> AuthCommand {
    AuthCommand::AddUser {
        name: name.to_string(),
        password: None,
    }
}

fn role(name: impl ToString) -> AuthCommand {
    AuthCommand::AddRole {
        name: name.to_string(),
    }
}

fn grant(user: &str, role: impl ToString) -> AuthCommand {
    AuthCommand::GrantRole {
        user: user.into(),
        role: role.to_string(),
    }
}

fn permit(role: &str, key: Vec<u8>, kind: PermissionKind) -> AuthCommand {
    AuthCommand::GrantPermission {
        role: role.into(),
        permission: Permission {
            kind,
            key: key.into(),
            range_end: Bytes::new(),
        },
    }
}

#[test]
fn names_and_numbers_of_users_and_roles_have_a_limit() {
    let disk = Disk::new();
    let mut keyspace = disk.open();
    let keyspace = &mut keyspace;
    let long = "n".repeat(NAME_BYTES_MAX + 1);
    refused(keyspace, user(&long), AuthError::NameTooLong);
    refused(keyspace, role(&long), AuthError::NameTooLong);
    change(keyspace, user(&long[1..])).unwrap();
    for number in 1..USERS_MAX {
        change(keyspace, user(number)).unwrap();
    }
    refused(keyspace, user("more"), AuthError::TooManyUsers);
    refused(keyspace, user("1"), AuthError::UserExists);
    for number in 0..ROLES_MAX {
        change(keyspace, role(number)).unwrap();
    }
    refused(keyspace, role("more"), AuthError::TooManyRoles);
    refused(keyspace, role("1"), AuthError::RoleExists);
    for number in 0..ROLES_OF_USER_MAX {
        change(keyspace, grant("1", number)).unwrap();
    }
    let more = grant("1", ROLES_OF_USER_MAX);
    refused(keyspace, more.clone(), AuthError::TooManyRolesOfUser);
    change(keyspace, grant("1", 0)).expect("the user has it");
    // What is gone makes room.
    let name = "0".to_owned();
    change(keyspace, AuthCommand::DeleteRole { name }).unwrap();
    change(keyspace, more).unwrap();
    change(keyspace, role("more")).unwrap();
    let name = "2".to_owned();
    change(keyspace, AuthCommand::DeleteUser { name }).unwrap();
    change(keyspace, user("more")).unwrap();
}

#[test]
fn what_one_role_permits_has_a_limit() {
    let disk = Disk::new();
    let mut keyspace = disk.open();
    let keyspace = &mut keyspace;
    let key = |number: usize| number.to_be_bytes().to_vec();
    change(keyspace, role("many")).unwrap();
    for number in 0..PERMISSIONS_OF_ROLE_MAX {
        change(keyspace, permit("many", key(number), PermissionKind::Read)).unwrap();
    }
    let more = permit("many", b"more".to_vec(), PermissionKind::Read);
    refused(keyspace, more, AuthError::RoleTooLarge);
    // In the place of another.
    change(keyspace, permit("many", key(7), PermissionKind::ReadWrite)).unwrap();

    change(keyspace, role("long")).unwrap();
    let fits = permit("long", vec![b'k'; ROLE_BYTES_MAX - 1], PermissionKind::Read);
    change(keyspace, fits).unwrap();
    let more = permit("long", b"kk".to_vec(), PermissionKind::Read);
    refused(keyspace, more, AuthError::RoleTooLarge);
    change(
        keyspace,
        permit("long", b"k".to_vec(), PermissionKind::Read),
    )
    .unwrap();
}
