//! etcd's Cluster service: who belongs to the domain.

use rm_actors::port::{ChangeRefused, MachineId, Member, Port, Refusal, Standing};
use rm_proto::etcdserverpb as pb;
use rm_proto::etcdserverpb::cluster_server::Cluster;
use rm_proto::raftmachine::v1 as admin;
use rm_proto::raftmachine::v1::change_members_request::Change;
use tonic::{Request, Response, Status};

use crate::certificates::scheme;
use crate::error::refused;
use crate::header::header;
use crate::members::change;

/// What etcd says where too many of the members that were started are out of reach.
const UNHEALTHY: &str = "etcdserver: unhealthy cluster";

/// Lists the members and changes them, in etcd's way.
pub(crate) struct ClusterService {
    port: Port,
}

impl ClusterService {
    pub(crate) fn new(port: Port) -> ClusterService {
        ClusterService { port }
    }

    /// How clients reach the machines, which is the same for all.
    fn scheme(&self) -> &'static str {
        scheme(self.port.config().clients.tls.is_some())
    }

    /// Changes the members; the id of the one that was added, the header, and all members.
    async fn change(
        &self,
        change_wanted: Change,
    ) -> Result<
        (
            Option<MachineId>,
            Option<pb::ResponseHeader>,
            Vec<pb::Member>,
        ),
        Status,
    > {
        let told = |refusal| match refusal {
            Refusal::Change(ChangeRefused::QuorumAtRisk { needed, .. })
                if started(&self.port.members(), &change_wanted) >= needed =>
            {
                Status::unavailable(UNHEALTHY)
            }
            other => refused(other),
        };
        let request = admin::ChangeMembersRequest {
            change: Some(change_wanted.clone()),
            force: false,
        };
        let added = change(&self.port, request, told).await?;
        let members = self.list(&self.port.members());
        // etcd tells no revision here, since the list has none.
        Ok((added, Some(header(&self.port, 0)), members))
    }

    /// The members in etcd's order, which is that of their ids.
    fn list(&self, members: &[Member]) -> Vec<pb::Member> {
        let scheme = self.scheme();
        let mut list: Vec<_> = members.iter().map(|each| member(each, scheme)).collect();
        list.sort_by_key(|member| member.id);
        list
    }
}

#[tonic::async_trait]
impl Cluster for ClusterService {
    async fn member_list(
        &self,
        request: Request<pb::MemberListRequest>,
    ) -> Result<Response<pb::MemberListResponse>, Status> {
        let members = match request.into_inner().linearizable {
            true => self.port.members_now().await.map_err(refused)?.0,
            false => self.port.members(),
        };
        Ok(Response::new(pb::MemberListResponse {
            header: Some(header(&self.port, 0)),
            members: self.list(&members),
        }))
    }

    async fn member_add(
        &self,
        request: Request<pb::MemberAddRequest>,
    ) -> Result<Response<pb::MemberAddResponse>, Status> {
        let request = request.into_inner();
        let mut add = newcomer(&request.peer_ur_ls)?;
        add.voter = !request.is_learner;
        let (added, header, members) = self.change(Change::Add(add)).await?;
        let member = members
            .iter()
            .find(|member| Some(MachineId(member.id)) == added)
            .cloned();
        Ok(Response::new(pb::MemberAddResponse {
            header,
            member,
            members,
        }))
    }

    async fn member_remove(
        &self,
        request: Request<pb::MemberRemoveRequest>,
    ) -> Result<Response<pb::MemberRemoveResponse>, Status> {
        let id = request.into_inner().id;
        let (_, header, members) = self.change(Change::Remove(id)).await?;
        Ok(Response::new(pb::MemberRemoveResponse { header, members }))
    }

    async fn member_update(
        &self,
        request: Request<pb::MemberUpdateRequest>,
    ) -> Result<Response<pb::MemberUpdateResponse>, Status> {
        let request = request.into_inner();
        let url = only_url(&request.peer_ur_ls)?;
        let update = admin::UpdateMember {
            id: request.id,
            peer: url.address.to_owned(),
            client: url.value("client").unwrap_or_default().to_owned(),
        };
        let (_, header, members) = self.change(Change::Update(update)).await?;
        Ok(Response::new(pb::MemberUpdateResponse { header, members }))
    }

    async fn member_promote(
        &self,
        request: Request<pb::MemberPromoteRequest>,
    ) -> Result<Response<pb::MemberPromoteResponse>, Status> {
        let id = request.into_inner().id;
        let (_, header, members) = self.change(Change::Promote(id)).await?;
        Ok(Response::new(pb::MemberPromoteResponse { header, members }))
    }
}

/// How many of those that vote after a change were ever started: they have said which data they have.
fn started(members: &[Member], change: &Change) -> usize {
    let votes = |member: &&Member| match change {
        Change::Remove(id) if *id == member.machine.0 => false,
        Change::Promote(id) if *id == member.machine.0 => true,
        _ => member.standing == Standing::Voter,
    };
    let voters = members.iter().filter(votes);
    voters.filter(|member| member.data_id.is_some()).count()
}

/// A peer URL: its address, and what it says beside it. etcd's clients pass on nothing of a new member but its URLs, so that its
/// name and its client address stand in the query.
struct PeerUrl<'a> {
    address: &'a str,
    query: &'a str,
}

impl<'a> PeerUrl<'a> {
    fn parse(text: &'a str) -> PeerUrl<'a> {
        let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
        let (address, query) = rest.split_once('?').unwrap_or((rest, ""));
        PeerUrl { address, query }
    }

    fn value(&self, key: &str) -> Option<&'a str> {
        let mut pairs = self
            .query
            .split('&')
            .filter_map(|pair| pair.split_once('='));
        pairs.find(|(name, _)| *name == key).map(|(_, value)| value)
    }
}

fn only_url(urls: &[String]) -> Result<PeerUrl<'_>, Status> {
    let bad = || Status::invalid_argument("etcdserver: given member URLs are invalid");
    let [url] = urls else {
        return Err(bad());
    };
    match PeerUrl::parse(url) {
        url if url.address.is_empty() => Err(bad()),
        url => Ok(url),
    }
}

fn newcomer(urls: &[String]) -> Result<admin::AddMember, Status> {
    let url = only_url(urls)?;
    match (url.value("name"), url.value("client")) {
        (Some(name), Some(client)) => Ok(admin::AddMember {
            name: name.to_owned(),
            peer: url.address.to_owned(),
            client: client.to_owned(),
            voter: false,
        }),
        _ => Err(Status::invalid_argument(
            "raftmachine: a new machine needs a name and a client address: use `rmctl member add`, or the peer URL \
             http://HOST:PORT?name=NAME&client=HOST:PORT",
        )),
    }
}

/// A machine as etcd describes it. Clients dial the client's address, so that must be a URL of a kind they know.
fn member(member: &Member, scheme: &str) -> pb::Member {
    pb::Member {
        id: member.machine.0,
        name: member.name.clone(),
        peer_ur_ls: vec![format!("quic://{}", member.peer)],
        client_ur_ls: vec![format!("{scheme}://{}", member.client)],
        is_learner: member.standing == Standing::Learner,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_members_url_tells_its_name_and_its_client_address() {
        let url = "http://127.0.0.1:7604?name=RM.04&client=127.0.0.1:2404".to_owned();
        let add = newcomer(&[url]).expect("it tells all");
        assert_eq!(
            (&add.name[..], &add.peer[..], &add.client[..]),
            ("RM.04", "127.0.0.1:7604", "127.0.0.1:2404")
        );
        for urls in [
            vec![],
            vec!["http://?name=RM.04&client=127.0.0.1:2404".to_owned()],
            vec!["http://127.0.0.1:7604".to_owned()],
        ] {
            newcomer(&urls).expect_err("it tells too little");
        }
    }

    #[test]
    fn a_machine_is_listed_with_addresses_that_clients_can_dial() {
        let machine = Member {
            machine: MachineId(7),
            name: "RM.01".to_owned(),
            peer: "127.0.0.1:7600".to_owned(),
            client: "127.0.0.1:2379".to_owned(),
            standing: Standing::Voter,
            data_id: None,
        };
        let expected = pb::Member {
            id: 7,
            name: "RM.01".to_owned(),
            peer_ur_ls: vec!["quic://127.0.0.1:7600".to_owned()],
            client_ur_ls: vec!["http://127.0.0.1:2379".to_owned()],
            is_learner: false,
        };
        assert_eq!(member(&machine, "http"), expected);
    }
}
