//! The messages and clients that the commands use, by their short names.

pub(crate) use rm_proto::etcdserverpb::alarm_request::AlarmAction;
pub(crate) use rm_proto::etcdserverpb::auth_client::AuthClient;
pub(crate) use rm_proto::etcdserverpb::compare::{CompareTarget, TargetUnion};
pub(crate) use rm_proto::etcdserverpb::kv_client::KvClient;
pub(crate) use rm_proto::etcdserverpb::lease_client::LeaseClient;
pub(crate) use rm_proto::etcdserverpb::maintenance_client::MaintenanceClient;
pub(crate) use rm_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
pub(crate) use rm_proto::etcdserverpb::request_op;
pub(crate) use rm_proto::etcdserverpb::response_op;
pub(crate) use rm_proto::etcdserverpb::watch_client::WatchClient;
pub(crate) use rm_proto::etcdserverpb::watch_request::RequestUnion;
pub(crate) use rm_proto::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmType, AuthRoleListRequest, AuthRoleListResponse,
    AuthUserListRequest, AuthUserListResponse, AuthenticateRequest, Compare, DefragmentRequest,
    DeleteRangeRequest, LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest,
    LeaseKeepAliveResponse, LeaseLeasesRequest, LeaseLeasesResponse, LeaseRevokeRequest,
    LeaseRevokeResponse, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, PutRequest, PutResponse,
    RangeRequest, RangeResponse, RequestOp, ResponseHeader, ResponseOp, SnapshotRequest,
    SnapshotResponse, StatusRequest, TxnRequest, TxnResponse, WatchCreateRequest,
    WatchProgressRequest, WatchRequest, WatchResponse,
};
pub(crate) use rm_proto::mvccpb::event::EventType;
pub(crate) use rm_proto::mvccpb::{Event, KeyValue};
pub(crate) use rm_proto::raftmachine::v1::admin_client::AdminClient;
pub(crate) use rm_proto::raftmachine::v1::change_members_request::Change;
pub(crate) use rm_proto::raftmachine::v1::{
    Actor, ActorsRequest, AddMember, ArmFaultRequest, ChangeMembersRequest, Follower, InfoRequest,
    InfoResponse, KillActorRequest, LogLevelsRequest, Machine, MembersRequest, PeerRefusal,
    ReplaceMember, SetLogLevelRequest, SnapshotTransfer, TransferRequest, UpdateMember,
};
