//! etcd's Cluster service: who belongs to the domain.

use rm_actors::port::{Member, Port};
use rm_proto::etcdserverpb as pb;
use rm_proto::etcdserverpb::cluster_server::Cluster;
use tonic::{Request, Response, Status};

use crate::error::{refused, unserved};
use crate::header::header;

/// Lists the machines. They are those of the config: changing them at run time is not served.
pub(crate) struct ClusterService {
    port: Port,
}

impl ClusterService {
    pub(crate) fn new(port: Port) -> ClusterService {
        ClusterService { port }
    }
}

#[tonic::async_trait]
impl Cluster for ClusterService {
    async fn member_list(
        &self,
        request: Request<pb::MemberListRequest>,
    ) -> Result<Response<pb::MemberListResponse>, Status> {
        if request.into_inner().linearizable {
            self.port.barrier().await.map_err(refused)?;
        }
        let members = self.port.identity().members.iter().map(member).collect();
        Ok(Response::new(pb::MemberListResponse {
            // etcd tells no revision here, since the list has none.
            header: Some(header(&self.port, 0)),
            members,
        }))
    }

    async fn member_add(
        &self,
        _: Request<pb::MemberAddRequest>,
    ) -> Result<Response<pb::MemberAddResponse>, Status> {
        Err(unserved("adding a member"))
    }

    async fn member_remove(
        &self,
        _: Request<pb::MemberRemoveRequest>,
    ) -> Result<Response<pb::MemberRemoveResponse>, Status> {
        Err(unserved("removing a member"))
    }

    async fn member_update(
        &self,
        _: Request<pb::MemberUpdateRequest>,
    ) -> Result<Response<pb::MemberUpdateResponse>, Status> {
        Err(unserved("updating a member"))
    }

    async fn member_promote(
        &self,
        _: Request<pb::MemberPromoteRequest>,
    ) -> Result<Response<pb::MemberPromoteResponse>, Status> {
        Err(unserved("promoting a member"))
    }
}

/// A machine as etcd describes it. Clients dial the client's address, so that must be a URL of a kind they know.
fn member(member: &Member) -> pb::Member {
    pb::Member {
        id: member.machine.0,
        name: member.name.clone(),
        peer_ur_ls: vec![format!("quic://{}", member.peer)],
        client_ur_ls: vec![format!("http://{}", member.client)],
        is_learner: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rm_actors::port::MachineId;

    #[test]
    fn a_machine_is_listed_with_addresses_that_clients_can_dial() {
        let machine = Member {
            machine: MachineId(7),
            name: "RM.01".to_owned(),
            peer: "127.0.0.1:7600".to_owned(),
            client: "127.0.0.1:2379".to_owned(),
        };
        let expected = pb::Member {
            id: 7,
            name: "RM.01".to_owned(),
            peer_ur_ls: vec!["quic://127.0.0.1:7600".to_owned()],
            client_ur_ls: vec!["http://127.0.0.1:2379".to_owned()],
            is_learner: false,
        };
        assert_eq!(member(&machine), expected);
    }
}
