//! etcd's Auth service: users, roles and permissions.

use prost::Message;
use rm_actors::port::{
    AuthCommand, AuthError, AuthQuery, AuthReply, Command, Consistency, Deed, Origin, Permission,
    PermissionKind, Port, Query, Refusal, Reply, ReplyBody,
};
use rm_proto::authpb;
use rm_proto::etcdserverpb as pb;
use rm_proto::etcdserverpb::auth_server::Auth;
use tonic::{Extensions, Request, Response, Status};

use crate::connection::Client;
use crate::error::{mismatched, refused, unknown_value};
use crate::header::header;
use crate::recognition::Caller;
use crate::size::check_size;

/// Whoever gives a user no new password. A hash that was made elsewhere may be of anything, and cost anything to compare with.
const NO_PASSWORD: &str = "raftmachine: the new password is empty; a hash (hashedPassword) is not taken, give the password itself";

/// Changes users, roles and permissions, and lets users prove who they are.
pub(crate) struct AuthService {
    port: Port,
}

impl AuthService {
    pub(crate) fn new(port: Port) -> AuthService {
        AuthService { port }
    }

    /// Has users, roles or permissions changed; the header of the response. Another administrator may change some at the same moment: what
    /// is refused as signed before that has changed nothing, and is signed anew.
    async fn change(
        &self,
        extensions: &Extensions,
        command: AuthCommand,
    ) -> Result<Option<pb::ResponseHeader>, Status> {
        let caller = Caller::new(&self.port, extensions);
        let command = Command::Auth(command);
        let reply = caller.act(async |port| port.propose(command.clone()).await);
        let reply = reply.await.map_err(refused)?;
        Ok(Some(header(&self.port, reply.revision)))
    }

    async fn ask(
        &self,
        extensions: &Extensions,
        query: AuthQuery,
    ) -> Result<(Option<pb::ResponseHeader>, AuthReply), Status> {
        let caller = Caller::new(&self.port, extensions);
        let query = Query::Auth(query);
        let reply = caller.act(async |port| port.query(query.clone(), Consistency::Quorum).await);
        let Reply { revision, body } = reply.await.map_err(refused)?;
        match body {
            ReplyBody::Auth(reply) => Ok((Some(header(&self.port, revision)), reply)),
            _ => Err(mismatched()),
        }
    }

    async fn names(
        &self,
        extensions: &Extensions,
        query: AuthQuery,
    ) -> Result<(Option<pb::ResponseHeader>, Vec<String>), Status> {
        match self.ask(extensions, query).await? {
            (header, AuthReply::Names(names)) => Ok((header, names)),
            _ => Err(mismatched()),
        }
    }

    /// A request, and who asks, if it is not too large for the log, through which all of them go in etcd.
    fn taken<M: Message>(&self, request: Request<M>) -> Result<(Extensions, M), Status> {
        check_size(&self.port, request.get_ref().encoded_len())?;
        let (_, extensions, message) = request.into_parts();
        Ok((extensions, message))
    }

    /// The hash of a password that is to be kept. One that the client has made is not taken. It is dear, so that it is
    /// seen before whether whoever asks may have any kept.
    async fn hash(&self, extensions: &Extensions, password: String) -> Result<String, Status> {
        let caller = Caller::new(&self.port, extensions);
        caller.may(&Deed::Administer).await.map_err(refused)?;
        let hash = self.port.hash_password(password).await;
        hash.map_err(refused)
    }
}

#[tonic::async_trait]
impl Auth for AuthService {
    async fn auth_enable(
        &self,
        request: Request<pb::AuthEnableRequest>,
    ) -> Result<Response<pb::AuthEnableResponse>, Status> {
        let header = self
            .change(request.extensions(), AuthCommand::Enable)
            .await?;
        Ok(Response::new(pb::AuthEnableResponse { header }))
    }

    async fn auth_disable(
        &self,
        request: Request<pb::AuthDisableRequest>,
    ) -> Result<Response<pb::AuthDisableResponse>, Status> {
        let header = self
            .change(request.extensions(), AuthCommand::Disable)
            .await?;
        Ok(Response::new(pb::AuthDisableResponse { header }))
    }

    async fn auth_status(
        &self,
        request: Request<pb::AuthStatusRequest>,
    ) -> Result<Response<pb::AuthStatusResponse>, Status> {
        match self.ask(request.extensions(), AuthQuery::Status).await? {
            (header, AuthReply::Status { enabled, revision }) => {
                Ok(Response::new(pb::AuthStatusResponse {
                    header,
                    enabled,
                    auth_revision: revision,
                }))
            }
            _ => Err(mismatched()),
        }
    }

    async fn authenticate(
        &self,
        request: Request<pb::AuthenticateRequest>,
    ) -> Result<Response<pb::AuthenticateResponse>, Status> {
        let (_, extensions, request) = request.into_parts();
        let client = extensions.get::<Client>();
        let from = client.map_or(Origin::UNKNOWN, |client| client.origin);
        let pb::AuthenticateRequest { name, password } = request;
        let admitted = self.port.authenticate(name, password, from).await;
        let (revision, token) = admitted.map_err(refused)?;
        Ok(Response::new(pb::AuthenticateResponse {
            header: Some(header(&self.port, revision)),
            token,
        }))
    }

    async fn user_add(
        &self,
        request: Request<pb::AuthUserAddRequest>,
    ) -> Result<Response<pb::AuthUserAddResponse>, Status> {
        let (extensions, user) = self.taken(request)?;
        let has_password = !user.options.is_some_and(|options| options.no_password);
        let password = match has_password {
            true => Some(self.hash(&extensions, user.password).await?),
            false => None,
        };
        let name = user.name;
        let add = AuthCommand::AddUser { name, password };
        let header = self.change(&extensions, add).await?;
        Ok(Response::new(pb::AuthUserAddResponse { header }))
    }

    async fn user_get(
        &self,
        request: Request<pb::AuthUserGetRequest>,
    ) -> Result<Response<pb::AuthUserGetResponse>, Status> {
        let (extensions, user) = self.taken(request)?;
        let query = AuthQuery::User(user.name);
        let (header, roles) = self.names(&extensions, query).await?;
        Ok(Response::new(pb::AuthUserGetResponse { header, roles }))
    }

    async fn user_list(
        &self,
        request: Request<pb::AuthUserListRequest>,
    ) -> Result<Response<pb::AuthUserListResponse>, Status> {
        let (header, users) = self.names(request.extensions(), AuthQuery::Users).await?;
        Ok(Response::new(pb::AuthUserListResponse { header, users }))
    }

    async fn user_delete(
        &self,
        request: Request<pb::AuthUserDeleteRequest>,
    ) -> Result<Response<pb::AuthUserDeleteResponse>, Status> {
        let (extensions, user) = self.taken(request)?;
        let delete = AuthCommand::DeleteUser { name: user.name };
        let header = self.change(&extensions, delete).await?;
        Ok(Response::new(pb::AuthUserDeleteResponse { header }))
    }

    async fn user_change_password(
        &self,
        request: Request<pb::AuthUserChangePasswordRequest>,
    ) -> Result<Response<pb::AuthUserChangePasswordResponse>, Status> {
        let (extensions, user) = self.taken(request)?;
        if user.password.is_empty() {
            return Err(Status::invalid_argument(NO_PASSWORD));
        }
        let password = self.hash(&extensions, user.password).await?;
        let change = AuthCommand::ChangePassword {
            name: user.name,
            password: Some(password),
        };
        let header = self.change(&extensions, change).await?;
        Ok(Response::new(pb::AuthUserChangePasswordResponse { header }))
    }

    async fn user_grant_role(
        &self,
        request: Request<pb::AuthUserGrantRoleRequest>,
    ) -> Result<Response<pb::AuthUserGrantRoleResponse>, Status> {
        let (extensions, grant) = self.taken(request)?;
        let grant = AuthCommand::GrantRole {
            user: grant.user,
            role: grant.role,
        };
        let header = self.change(&extensions, grant).await?;
        Ok(Response::new(pb::AuthUserGrantRoleResponse { header }))
    }

    async fn user_revoke_role(
        &self,
        request: Request<pb::AuthUserRevokeRoleRequest>,
    ) -> Result<Response<pb::AuthUserRevokeRoleResponse>, Status> {
        let (extensions, revoke) = self.taken(request)?;
        let revoke = AuthCommand::RevokeRole {
            user: revoke.name,
            role: revoke.role,
        };
        let header = self.change(&extensions, revoke).await?;
        Ok(Response::new(pb::AuthUserRevokeRoleResponse { header }))
    }

    async fn role_add(
        &self,
        request: Request<pb::AuthRoleAddRequest>,
    ) -> Result<Response<pb::AuthRoleAddResponse>, Status> {
        let (extensions, role) = self.taken(request)?;
        let add = AuthCommand::AddRole { name: role.name };
        let header = self.change(&extensions, add).await?;
        Ok(Response::new(pb::AuthRoleAddResponse { header }))
    }

    async fn role_get(
        &self,
        request: Request<pb::AuthRoleGetRequest>,
    ) -> Result<Response<pb::AuthRoleGetResponse>, Status> {
        let (extensions, role) = self.taken(request)?;
        match self.ask(&extensions, AuthQuery::Role(role.role)).await? {
            (header, AuthReply::Permissions(permissions)) => {
                Ok(Response::new(pb::AuthRoleGetResponse {
                    header,
                    perm: permissions.into_iter().map(told).collect(),
                }))
            }
            _ => Err(mismatched()),
        }
    }

    async fn role_list(
        &self,
        request: Request<pb::AuthRoleListRequest>,
    ) -> Result<Response<pb::AuthRoleListResponse>, Status> {
        let (header, roles) = self.names(request.extensions(), AuthQuery::Roles).await?;
        Ok(Response::new(pb::AuthRoleListResponse { header, roles }))
    }

    async fn role_delete(
        &self,
        request: Request<pb::AuthRoleDeleteRequest>,
    ) -> Result<Response<pb::AuthRoleDeleteResponse>, Status> {
        let (extensions, role) = self.taken(request)?;
        let delete = AuthCommand::DeleteRole { name: role.role };
        let header = self.change(&extensions, delete).await?;
        Ok(Response::new(pb::AuthRoleDeleteResponse { header }))
    }

    async fn role_grant_permission(
        &self,
        request: Request<pb::AuthRoleGrantPermissionRequest>,
    ) -> Result<Response<pb::AuthRoleGrantPermissionResponse>, Status> {
        let (extensions, grant) = self.taken(request)?;
        let given = grant
            .perm
            .ok_or(Refusal::Request(AuthError::PermissionNotGiven.into()));
        let grant = AuthCommand::GrantPermission {
            role: grant.name,
            permission: asked(given.map_err(refused)?)?,
        };
        let header = self.change(&extensions, grant).await?;
        Ok(Response::new(pb::AuthRoleGrantPermissionResponse {
            header,
        }))
    }

    async fn role_revoke_permission(
        &self,
        request: Request<pb::AuthRoleRevokePermissionRequest>,
    ) -> Result<Response<pb::AuthRoleRevokePermissionResponse>, Status> {
        let (extensions, revoke) = self.taken(request)?;
        let revoke = AuthCommand::RevokePermission {
            role: revoke.role,
            key: revoke.key,
            range_end: revoke.range_end,
        };
        let header = self.change(&extensions, revoke).await?;
        Ok(Response::new(pb::AuthRoleRevokePermissionResponse {
            header,
        }))
    }
}

fn asked(permission: authpb::Permission) -> Result<Permission, Status> {
    use authpb::permission::Type;
    let kind = match Type::try_from(permission.perm_type) {
        Ok(Type::Read) => PermissionKind::Read,
        Ok(Type::Write) => PermissionKind::Write,
        Ok(Type::Readwrite) => PermissionKind::ReadWrite,
        Err(_) => return Err(unknown_value("kind of permission", permission.perm_type)),
    };
    Ok(Permission {
        kind,
        key: permission.key,
        range_end: permission.range_end,
    })
}

fn told(permission: Permission) -> authpb::Permission {
    use authpb::permission::Type;
    let kind = match permission.kind {
        PermissionKind::Read => Type::Read,
        PermissionKind::Write => Type::Write,
        PermissionKind::ReadWrite => Type::Readwrite,
    };
    authpb::Permission {
        perm_type: kind.into(),
        key: permission.key,
        range_end: permission.range_end,
    }
}
