//! Users, roles and permissions of a cluster: made, recognised, and what they are told.

use rm_proto::authpb::{Permission, permission::Type};
use rm_proto::etcdserverpb::auth_client::AuthClient;
use rm_proto::etcdserverpb::{
    AuthEnableRequest, AuthRoleAddRequest, AuthRoleGrantPermissionRequest, AuthUserAddRequest,
    AuthUserGrantRoleRequest, AuthenticateRequest, PutRequest, RangeRequest,
};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use crate::client::Client;
use crate::settings::Settings;
use crate::wait::until;

/// The password of every user.
pub const PASSWORD: &str = "secret";

/// A cluster whose passwords cost little.
#[must_use]
pub fn settings() -> Settings {
    Settings::trio().with("auth.bcrypt_cost", 4)
}

/// A request with a token.
///
/// # Panics
///
/// When the token makes no header.
pub fn by<T>(token: &str, request: T) -> Request<T> {
    let mut request = Request::new(request);
    let token = token.parse().expect("a token makes a header");
    request.metadata_mut().insert("token", token);
    request
}

/// etcd's Auth service of one machine.
pub fn service(client: &Client, machine: usize) -> AuthClient<Channel> {
    AuthClient::new(client.channel(machine))
}

/// Asks one machine after the other until one has done it.
#[macro_export]
macro_rules! done {
    ($client:expr, $token:expr, $method:ident, $request:expr) => {{
        let mut turn = 0;
        $crate::until(stringify!($method), async || {
            turn += 1;
            let mut service = $crate::users::service($client, turn % $client.machines());
            let done = service
                .$method($crate::users::by($token, $request.clone()))
                .await;
            done.map(drop).map_err(|status| status.to_string())
        })
        .await
    }};
}

/// A token of a user, from one machine, once.
///
/// # Errors
/// The machine's refusal.
pub async fn authenticate(client: &Client, machine: usize, name: &str) -> Result<String, Status> {
    let request = AuthenticateRequest {
        name: name.into(),
        password: PASSWORD.into(),
    };
    let answer = service(client, machine).authenticate(request).await?;
    Ok(answer.into_inner().token)
}

/// A token of a user, from one machine as soon as it gives one.
///
/// # Panics
///
/// When it does not in time.
pub async fn token(client: &Client, machine: usize, name: &str) -> String {
    until("a user is recognised", async || {
        let token = authenticate(client, machine, name).await;
        token.map_err(|status| status.to_string())
    })
    .await
}

/// Adds a user with a role.
///
/// # Panics
///
/// When that is not done in time.
pub async fn add_user(client: &Client, token: &str, name: &str, role: &str) {
    let add = AuthUserAddRequest {
        name: name.into(),
        password: PASSWORD.into(),
        ..Default::default()
    };
    done!(client, token, user_add, add);
    let grant = AuthUserGrantRoleRequest {
        user: name.into(),
        role: role.into(),
    };
    done!(client, token, user_grant_role, grant);
}

/// Adds a role that permits to read and write one range, and a user that has it; then has permissions asked for.
///
/// # Panics
///
/// When that is not done in time.
pub async fn enable(client: &Client, key: &str, range_end: &str) {
    add_user(client, "none", "root", "root").await;
    let role = AuthRoleAddRequest {
        name: "some".into(),
    };
    done!(client, "none", role_add, role);
    let grant = AuthRoleGrantPermissionRequest {
        name: "some".into(),
        perm: Some(Permission {
            perm_type: Type::Readwrite.into(),
            key: key.to_owned().into(),
            range_end: range_end.to_owned().into(),
        }),
    };
    done!(client, "none", role_grant_permission, grant);
    add_user(client, "none", "alice", "some").await;
    done!(client, "none", auth_enable, AuthEnableRequest {});
}

/// Puts on behalf of whoever a token stands for: at which revision.
///
/// # Errors
/// The machine's refusal.
pub async fn put(client: &Client, machine: usize, token: &str, key: &str) -> Result<i64, Status> {
    let request = PutRequest {
        key: key.to_owned().into(),
        value: "value".into(),
        ..Default::default()
    };
    let answer = client.kv(machine).put(by(token, request)).await?;
    Ok(answer
        .into_inner()
        .header
        .map_or(0, |header| header.revision))
}

/// How many keys of this name there are, for whoever a token stands for.
///
/// # Errors
/// The machine's refusal.
pub async fn get(client: &Client, machine: usize, token: &str, key: &str) -> Result<i64, Status> {
    let request = RangeRequest {
        key: key.to_owned().into(),
        ..Default::default()
    };
    Ok(client
        .kv(machine)
        .range(by(token, request))
        .await?
        .into_inner()
        .count)
}

/// Sees a request refused so.
///
/// # Panics
///
/// When it is not.
pub fn assert_refused<T: std::fmt::Debug>(outcome: Result<T, Status>, code: Code, text: &str) {
    let status = outcome.expect_err("it is not permitted");
    assert_eq!((status.code(), status.message()), (code, text));
}

/// Whoever may not.
pub const DENIED: (Code, &str) = (Code::PermissionDenied, "etcdserver: permission denied");
/// Whoever is nobody.
pub const EMPTY: (Code, &str) = (Code::InvalidArgument, "etcdserver: user name is empty");
/// Whoever brings a token that is not known.
pub const INVALID: (Code, &str) = (Code::Unauthenticated, "etcdserver: invalid auth token");
/// Whoever brings a signed token from before the last change of users, roles or permissions.
pub const OLD: (Code, &str) = (
    Code::InvalidArgument,
    "etcdserver: revision of auth store is old",
);

/// What a machine says that has waited in vain for a leader.
pub const LEADERLESS: [&str; 2] = ["etcdserver: no leader", "etcdserver: request timed out"];

/// Sees a request refused since there is no leader to tell who may what.
///
/// # Panics
///
/// When it is not.
pub fn assert_leaderless<T: std::fmt::Debug>(outcome: Result<T, Status>) {
    let status = outcome.expect_err("who asks is not known");
    assert!(LEADERLESS.contains(&status.message()), "{status:?}");
}
