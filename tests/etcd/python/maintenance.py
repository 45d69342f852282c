"""What is about the machines: status, hashes, snapshots, defragmentation, alarms, who leads, and who belongs to it."""

import io

from aetcd import Client, rpc
from told import Told


async def introduce(told: Told, clients: list[Client]):
    """Has names stand for what is particular to the cluster, and the first machine lead."""
    for client in clients:
        await client.connect()
    answer = await clients[0].clusterstub.MemberList(rpc.MemberListRequest())
    told.known("cluster", answer.header.cluster_id)
    for member in answer.members:
        told.known(f"id of {member.name}", member.ID)
        told.known(f"peer of {member.name}", member.peerURLs[0])
        told.known(f"client of {member.name}", member.clientURLs[0])
    first = next(member for member in answer.members if member.name == "m0")
    await lead(clients, first.ID)


async def lead(clients: list[Client], target: int):
    """Has a machine lead, and waits until all know."""
    while (leaders := {await leader(client) for client in clients}) != {target}:
        for client in clients:
            if leaders == {await identity(client)}:
                await client.maintenancestub.MoveLeader(rpc.MoveLeaderRequest(targetID=target))


async def leader(client: Client) -> int:
    """Whom a machine takes for the leader."""
    return (await client.maintenancestub.Status(rpc.StatusRequest())).leader


async def identity(client: Client) -> int:
    """Who a machine is."""
    return (await client.maintenancestub.Status(rpc.StatusRequest())).header.member_id


async def status(told: Told, *clients: Client):
    """Status, members, hashes, a snapshot, and defragmentation."""
    for number, client in enumerate(clients):
        answer = await client.maintenancestub.Status(rpc.StatusRequest())
        told.show(f"status {number}", f"led by {answer.leader}, learner {answer.isLearner}, errors {list(answer.errors)}")
    known = await clients[0].status()
    told.show("who leads", known.leader.name)
    members = [member async for member in clients[0].members()]
    told.show("members", "\n".join(sorted(f"{member.name} {member.peer_urls} {member.client_urls}" for member in members)))
    hashes = [await client.maintenancestub.HashKV(rpc.HashKVRequest()) for client in clients]
    told.show("hashes", "all the same" if len({each.hash for each in hashes}) == 1 else str(hashes))
    await told("the hash of what is to come", clients[0].maintenancestub.HashKV(rpc.HashKVRequest(revision=10**9)))
    saved = io.BytesIO()
    await clients[0].snapshot(saved)
    told.show("a snapshot", f"of whole sectors, and a digest of {len(saved.getvalue()) % 512} bytes")
    await told("defragmented", clients[0].defragment())
    await told("hash of the file", clients[0].hash(), show=lambda value: value != 0)


async def alarms(told: Told, client: Client, *_):
    """The alarm for want of space, raised and disarmed."""
    member = await identity(client)
    kinds = lambda found: [f"{each.alarm_type} {each.member_id}" for each in found]  # noqa: E731
    await told("raised", client.create_alarm(member), show=kinds)
    told.show("all", "\n".join(kinds([alarm async for alarm in client.list_alarms()])))
    await told("put", client.put(b"alarmed", b"x"))
    await told("get", client.get(b"alarmed"))
    await told("disarmed", client.disarm_alarm(member), show=kinds)
    await told("put again", client.put(b"alarmed", b"x"))


async def leadership(told: Told, *clients: Client):
    """Who leads is changed, and all know of it."""
    before = await leader(clients[0])
    by_identity = {await identity(client): client for client in clients}
    target = next(each for each in sorted(by_identity) if each != before)
    for number, member in enumerate(sorted(by_identity, key=lambda each: each == before)):
        request = rpc.MoveLeaderRequest(targetID=target)
        await told("asked of the leader" if member == before else f"asked of another, {number}", move(by_identity[member], request))
    while {await leader(client) for client in clients} != {target}:
        pass
    await told("to nobody", move(by_identity[target], rpc.MoveLeaderRequest(targetID=1)))
    await lead(list(clients), before)


async def move(client: Client, request: rpc.MoveLeaderRequest):
    """Asks a machine to have another lead."""
    return await client.maintenancestub.MoveLeader(request)


async def members(told: Told, client: Client, *_):
    """A learner that never starts: admitted, told of, and removed."""
    url = "http://127.0.0.1:9?name=m3&client=127.0.0.1:8"
    added = await admitted(client, rpc.MemberAddRequest(peerURLs=[url], isLearner=True))
    told.known("id of m3", added.member.ID)
    told.show("added", f"learner {added.member.isLearner}, of {len(added.members)}")
    await told("promoted too early", client.clusterstub.MemberPromote(rpc.MemberPromoteRequest(ID=added.member.ID)))
    await told("removed", client.remove_member(added.member.ID))
    await told("removed again", client.remove_member(added.member.ID))
    await told("moved, once it is gone", client.update_member(added.member.ID, ["http://127.0.0.1:7"]))


async def admitted(client: Client, request: rpc.MemberAddRequest):
    """Admits a machine; etcd refuses it until its members have been connected for five seconds."""
    while True:
        try:
            return await client.clusterstub.MemberAdd(request)
        except rpc.AioRpcError as error:
            if "unhealthy cluster" not in error.details():
                raise
