//! Which path is for which call: etcd's, by the HTTP annotations in its `.proto` files, the older names of some leases' calls
//! included. All are asked by POST.

use http::Uri;
use prost_reflect::MethodDescriptor;

use crate::descriptors::POOL;

const KV: &str = "etcdserverpb.KV";
const WATCH: &str = "etcdserverpb.Watch";
const LEASE: &str = "etcdserverpb.Lease";
const CLUSTER: &str = "etcdserverpb.Cluster";
const MAINTENANCE: &str = "etcdserverpb.Maintenance";
const AUTH: &str = "etcdserverpb.Auth";
const LOCK: &str = "v3lockpb.Lock";
const ELECTION: &str = "v3electionpb.Election";

/// What all paths begin with, and what they began with in the betas of etcd 3.3, which is still understood.
const PREFIXES: [&str; 2] = ["/v3/", "/v3beta/"];

/// Path behind the prefix, service, method.
const ROUTES: [(&str, &str, &str); 51] = [
    ("kv/range", KV, "Range"),
    ("kv/put", KV, "Put"),
    ("kv/deleterange", KV, "DeleteRange"),
    ("kv/txn", KV, "Txn"),
    ("kv/compaction", KV, "Compact"),
    ("watch", WATCH, "Watch"),
    ("lease/grant", LEASE, "LeaseGrant"),
    ("lease/revoke", LEASE, "LeaseRevoke"),
    ("kv/lease/revoke", LEASE, "LeaseRevoke"),
    ("lease/keepalive", LEASE, "LeaseKeepAlive"),
    ("lease/timetolive", LEASE, "LeaseTimeToLive"),
    ("kv/lease/timetolive", LEASE, "LeaseTimeToLive"),
    ("lease/leases", LEASE, "LeaseLeases"),
    ("kv/lease/leases", LEASE, "LeaseLeases"),
    ("cluster/member/add", CLUSTER, "MemberAdd"),
    ("cluster/member/remove", CLUSTER, "MemberRemove"),
    ("cluster/member/update", CLUSTER, "MemberUpdate"),
    ("cluster/member/list", CLUSTER, "MemberList"),
    ("cluster/member/promote", CLUSTER, "MemberPromote"),
    ("maintenance/alarm", MAINTENANCE, "Alarm"),
    ("maintenance/status", MAINTENANCE, "Status"),
    ("maintenance/defragment", MAINTENANCE, "Defragment"),
    ("maintenance/hash", MAINTENANCE, "Hash"),
    ("maintenance/hashkv", MAINTENANCE, "HashKV"),
    ("maintenance/snapshot", MAINTENANCE, "Snapshot"),
    ("maintenance/transfer-leadership", MAINTENANCE, "MoveLeader"),
    ("maintenance/downgrade", MAINTENANCE, "Downgrade"),
    ("auth/enable", AUTH, "AuthEnable"),
    ("auth/disable", AUTH, "AuthDisable"),
    ("auth/status", AUTH, "AuthStatus"),
    ("auth/authenticate", AUTH, "Authenticate"),
    ("auth/user/add", AUTH, "UserAdd"),
    ("auth/user/get", AUTH, "UserGet"),
    ("auth/user/list", AUTH, "UserList"),
    ("auth/user/delete", AUTH, "UserDelete"),
    ("auth/user/changepw", AUTH, "UserChangePassword"),
    ("auth/user/grant", AUTH, "UserGrantRole"),
    ("auth/user/revoke", AUTH, "UserRevokeRole"),
    ("auth/role/add", AUTH, "RoleAdd"),
    ("auth/role/get", AUTH, "RoleGet"),
    ("auth/role/list", AUTH, "RoleList"),
    ("auth/role/delete", AUTH, "RoleDelete"),
    ("auth/role/grant", AUTH, "RoleGrantPermission"),
    ("auth/role/revoke", AUTH, "RoleRevokePermission"),
    ("lock/lock", LOCK, "Lock"),
    ("lock/unlock", LOCK, "Unlock"),
    ("election/campaign", ELECTION, "Campaign"),
    ("election/proclaim", ELECTION, "Proclaim"),
    ("election/leader", ELECTION, "Leader"),
    ("election/observe", ELECTION, "Observe"),
    ("election/resign", ELECTION, "Resign"),
];

/// A call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// The service's full name.
    pub(crate) service: &'static str,
    method: &'static str,
}

impl Route {
    /// The call at a path, if there is one.
    pub(crate) fn at(path: &str) -> Option<Route> {
        let path = path_of(path)?;
        let (_, service, method) = ROUTES.iter().find(|(route, ..)| *route == path)?;
        Some(Route { service, method })
    }

    /// What the call is like; none if this version does not know its service.
    pub(crate) fn method(self) -> Option<MethodDescriptor> {
        let service = POOL.get_service_by_name(self.service)?;
        service
            .methods()
            .find(|method| method.name() == self.method)
    }

    /// Where gRPC asks for it.
    pub(crate) fn uri(self) -> Uri {
        let path = format!("/{}/{}", self.service, self.method);
        Uri::try_from(path).expect("names of services and methods make a path")
    }
}

/// What is behind the prefix of a path; none if it is not the gateway's.
pub(crate) fn path_of(path: &str) -> Option<&str> {
    PREFIXES.iter().find_map(|prefix| path.strip_prefix(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_call_of_etcd_has_its_path_and_every_path_one_call() {
        let known = |package: &str| ["etcdserverpb", "v3lockpb", "v3electionpb"].contains(&package);
        let services = POOL
            .services()
            .filter(|service| known(service.package_name()));
        let mut described = 0;
        for service in services {
            for method in service.methods() {
                let (service, method) = (service.full_name(), method.name());
                let mut routes = ROUTES.iter();
                let route = routes.find(|(_, its, name)| *its == service && *name == method);
                assert!(route.is_some(), "{service}/{method} has no path");
                described += 1;
            }
        }
        assert!(described > 40, "{described} calls are described");
        let paths: BTreeSet<&str> = ROUTES.iter().map(|(path, ..)| *path).collect();
        assert_eq!(paths.len(), ROUTES.len());
        for (path, service, method) in ROUTES {
            let route = Route::at(&format!("/v3/{path}")).expect("it is one of them");
            assert_eq!(route, Route { service, method });
            assert_eq!(route.uri().path(), format!("/{service}/{method}"));
            if POOL.get_service_by_name(service).is_some() {
                assert!(route.method().is_some(), "{service} has no {method}");
            }
        }
    }

    #[test]
    fn only_whole_paths_are_found() {
        assert!(Route::at("/v3beta/kv/put").is_some());
        for path in [
            "/v3/kv",
            "/v3/kv/put/",
            "/v3/",
            "/v2/kv/put",
            "/kv/put",
            "/v3/kv/Put",
        ] {
            assert_eq!(Route::at(path), None, "{path}");
        }
    }
}
