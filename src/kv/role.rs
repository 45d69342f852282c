//! What a role permits.

use crate::auth_command::{AuthError, Permission, PermissionKind};
use crate::ranges::Ranges;
use crate::span::Span;

/// The most ranges of keys that one role permits something for.
pub const PERMISSIONS_OF_ROLE_MAX: usize = 1_000;

/// How long the keys and ends of all ranges of one role are at most together, in bytes: they lie in one record, which is written anew with
/// each change of the role.
pub const ROLE_BYTES_MAX: usize = 256 << 10;

/// A role. What its users may is worked out once for each change of the role, and for no user, of whom there may be thousands.
///
/// Invariants: `read` and `write` are what the permissions come to; there are no more of these than the limits above say.
#[derive(Default)]
pub(crate) struct Role {
    /// In the order of their keys and ends.
    permissions: Vec<Permission>,
    read: Ranges,
    write: Ranges,
}

impl Role {
    pub(crate) fn new(permissions: Vec<Permission>) -> Role {
        let mut role = Role {
            permissions,
            ..Role::default()
        };
        role.weigh();
        role
    }

    pub(crate) fn permissions(&self) -> &[Permission] {
        &self.permissions
    }

    /// The keys that it permits to read, or to write.
    pub(crate) fn permitted(&self, write: bool) -> &Ranges {
        if write { &self.write } else { &self.read }
    }

    /// Works out anew what it permits.
    fn weigh(&mut self) {
        let ranges = |other: PermissionKind| {
            let permits = self.permissions.iter().filter(|it| it.kind != other);
            Ranges::of(permits.map(|it| Span::new(&it.key, &it.range_end)))
        };
        (self.read, self.write) = (ranges(PermissionKind::Write), ranges(PermissionKind::Read));
    }

    /// Has it permit something, in the place of what it permitted for the same keys.
    pub(crate) fn grant(&mut self, permission: &Permission) -> Result<(), AuthError> {
        let Permission { key, range_end, .. } = permission;
        let order = |it: &Permission| (&it.key[..], &it.range_end[..]).cmp(&(key, range_end));
        match self.permissions.binary_search_by(order) {
            Ok(place) => self.permissions[place].kind = permission.kind,
            Err(place) => {
                let bytes = |it: &Permission| it.key.len() + it.range_end.len();
                let all = self.permissions.iter().map(bytes).sum::<usize>() + bytes(permission);
                if self.permissions.len() >= PERMISSIONS_OF_ROLE_MAX || all > ROLE_BYTES_MAX {
                    return Err(AuthError::RoleTooLarge);
                }
                self.permissions.insert(place, permission.clone());
            }
        }
        self.weigh();
        Ok(())
    }

    /// Has it permit nothing for these keys that it permitted something for.
    pub(crate) fn revoke(&mut self, key: &[u8], range_end: &[u8]) -> Result<(), AuthError> {
        let before = self.permissions.len();
        self.permissions
            .retain(|it| it.key != key || it.range_end != range_end);
        if self.permissions.len() == before {
            return Err(AuthError::PermissionNotGranted);
        }
        self.weigh();
        Ok(())
    }
}
