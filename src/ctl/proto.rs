//! The messages and clients that the commands use, by their short names.

pub(crate) use rm_proto::etcdserverpb::alarm_request::AlarmAction;
pub(crate) use rm_proto::etcdserverpb::auth_client::AuthClient;
pub(crate) use rm_proto::etcdserverpb::kv_client::KvClient;
pub(crate) use rm_proto::etcdserverpb::maintenance_client::MaintenanceClient;
pub(crate) use rm_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
pub(crate) use rm_proto::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmType, AuthenticateRequest, DefragmentRequest,
    DeleteRangeRequest, PutRequest, RangeRequest, RangeResponse, SnapshotRequest, SnapshotResponse,
    StatusRequest,
};
pub(crate) use rm_proto::mvccpb::KeyValue;
pub(crate) use rm_proto::raftmachine::v1::admin_client::AdminClient;
pub(crate) use rm_proto::raftmachine::v1::change_members_request::Change;
pub(crate) use rm_proto::raftmachine::v1::{
    Actor, ActorsRequest, AddMember, ArmFaultRequest, ChangeMembersRequest, Follower, InfoRequest,
    InfoResponse, KillActorRequest, LogLevelsRequest, Machine, MembersRequest, PeerRefusal,
    ReplaceMember, SetLogLevelRequest, SnapshotTransfer, TransferRequest, UpdateMember,
};
