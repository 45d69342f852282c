//! Whose answer it is: each says in its header which cluster has made it.

use tonic::Response;

use crate::proto::{
    AuthRoleListResponse, AuthUserListResponse, LeaseGrantResponse, LeaseKeepAliveResponse,
    LeaseLeasesResponse, LeaseRevokeResponse, LeaseTimeToLiveResponse, PutResponse, RangeResponse,
    ResponseHeader, TxnResponse, WatchResponse,
};

/// An answer that says whose it is.
pub(crate) trait Headed {
    /// The number of the cluster that has made it; zero if it does not say so.
    fn cluster(&self) -> u64;
}

impl<T: Headed> Headed for Response<T> {
    fn cluster(&self) -> u64 {
        self.get_ref().cluster()
    }
}

impl Headed for Option<ResponseHeader> {
    fn cluster(&self) -> u64 {
        cluster(self.as_ref())
    }
}

/// Of one machine, by one stream.
impl<T: Headed> Headed for Vec<T> {
    fn cluster(&self) -> u64 {
        self.first().map_or(0, Headed::cluster)
    }
}

fn cluster(header: Option<&ResponseHeader>) -> u64 {
    header.map_or(0, |header| header.cluster_id)
}

macro_rules! headed {
    ($($answer:ty),+ $(,)?) => {
        $(impl Headed for $answer {
            fn cluster(&self) -> u64 {
                cluster(self.header.as_ref())
            }
        })+
    };
}

headed!(
    AuthRoleListResponse,
    AuthUserListResponse,
    LeaseGrantResponse,
    LeaseKeepAliveResponse,
    LeaseLeasesResponse,
    LeaseRevokeResponse,
    LeaseTimeToLiveResponse,
    PutResponse,
    RangeResponse,
    TxnResponse,
    WatchResponse,
);
