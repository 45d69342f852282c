"""Users, roles and permissions, by the client's own messages: it has calls only for who it is itself."""

from aetcd import Client, rpc
from told import Told

READ, WRITE, READWRITE = (rpc.Permission.Type.Value(name) for name in ("READ", "WRITE", "READWRITE"))


async def users(told: Told, client: Client, *_):
    """Users and roles, before anybody has to say who it is."""
    auth = rpc.AuthStub(client.channel)
    await told("who asks for it", auth.AuthStatus(rpc.AuthStatusRequest()))
    for name in "root", "anna", "bert":
        await told(f"user {name}", auth.UserAdd(rpc.AuthUserAddRequest(name=name, password="pass")))
    await told("a user again", auth.UserAdd(rpc.AuthUserAddRequest(name="anna", password="x")))
    await told("a user without a name", auth.UserAdd(rpc.AuthUserAddRequest(password="x")))
    options = rpc.UserAddOptions(no_password=True)
    await told("a user without a password", auth.UserAdd(rpc.AuthUserAddRequest(name="carl", options=options)))
    for name in "root", "reader", "writer":
        await told(f"role {name}", auth.RoleAdd(rpc.AuthRoleAddRequest(name=name)))
    await told("a role again", auth.RoleAdd(rpc.AuthRoleAddRequest(name="reader")))
    for name, kind in ("reader", READ), ("writer", READWRITE):
        permission = rpc.Permission(permType=kind, key=b"shared/", range_end=b"shared0")
        await told(f"{name} may", auth.RoleGrantPermission(rpc.AuthRoleGrantPermissionRequest(name=name, perm=permission)))
    for user, role in ("root", "root"), ("anna", "reader"), ("bert", "writer"):
        await told(f"{user} is {role}", auth.UserGrantRole(rpc.AuthUserGrantRoleRequest(user=user, role=role)))
    await told("users", auth.UserList(rpc.AuthUserListRequest()))
    await told("roles", auth.RoleList(rpc.AuthRoleListRequest()))
    await told("a user", auth.UserGet(rpc.AuthUserGetRequest(name="anna")))
    await told("a role", auth.RoleGet(rpc.AuthRoleGetRequest(role="reader")))
    await told("a password", auth.UserChangePassword(rpc.AuthUserChangePasswordRequest(name="anna", password="new")))
    await told("no user", auth.UserGet(rpc.AuthUserGetRequest(name="nobody")))
    await told("no role", auth.RoleGet(rpc.AuthRoleGetRequest(role="nobody")))
    await told("a token too early", auth.Authenticate(rpc.AuthenticateRequest(name="anna", password="new")))


async def permissions(told: Told, client: Client, other: Client, _):
    """Who may what, once everybody has to say who it is."""
    auth = rpc.AuthStub(client.channel)
    await told("enabled", auth.AuthEnable(rpc.AuthEnableRequest()))
    await told("nobody gets", client.get(b"shared/a"))
    await told("nobody puts", client.put(b"shared/a", b"x"))
    await told("who asks for it", auth.AuthStatus(rpc.AuthStatusRequest()))
    for name, password in ("anna", "pass"), ("nobody", "x"):
        await told(f"{name} with a wrong password", known(other, name, password).connect())
    people = {"anna": "new", "bert": "pass", "root": "pass"}
    for name, password in people.items():
        async with known(other, name, password) as person:
            await told(f"{name} puts", person.put(b"shared/a", name.encode()))
            await told(f"{name} puts elsewhere", person.put(b"private", name.encode()))
            await told(f"{name} gets", person.get(b"shared/a"))
            await told(f"{name} gets all of it", person.get_prefix(b"shared/"), show=list)
            await told(f"{name} gets more", person.get_range(b"shared/", b"shared1"), show=len)
            make = person.transactions
            await told(f"{name} puts in a transaction", person.transaction([], [make.put(b"private", b"x")], []))
            await told(f"{name} leases", person.lease(100, lease_id=5), show=lambda lease: lease.ttl)
            await told(f"{name} revokes", person.revoke_lease(5))
            await told(f"{name} watches elsewhere", refused_watch(person))
            people_of = rpc.AuthStub(person.channel)
            for call, request in (
                (people_of.UserList, rpc.AuthUserListRequest()),
                (people_of.UserAdd, rpc.AuthUserAddRequest(name="dora", password="x")),
                (people_of.UserGet, rpc.AuthUserGetRequest(name="anna")),
                (people_of.RoleGet, rpc.AuthRoleGetRequest(role="reader")),
                (people_of.RoleGet, rpc.AuthRoleGetRequest(role="writer")),
            ):
                await told(f"{name}: {request.DESCRIPTOR.name}", call(request, metadata=person.metadata))
            await told(f"{name} defragments", person.defragment())
            await told(f"{name} compacts", person.compact(2))
    async with known(client, "root", "pass") as root:
        await told("disabled", rpc.AuthStub(root.channel).AuthDisable(rpc.AuthDisableRequest(), metadata=root.metadata))
    await told("nobody gets again", client.get(b"shared/a"))


async def nested(told: Told, client: Client, *_):
    """Who may what in a transaction in a transaction. Comes last, since it makes no revision where it is refused."""
    auth = rpc.AuthStub(client.channel)
    await told("enabled", auth.AuthEnable(rpc.AuthEnableRequest()))
    async with known(client, "anna", "new") as anna:
        make = anna.transactions
        deed = make.txn([], [make.put(b"private", b"x")], [])
        await told("anna puts", anna.transaction([], [deed], []))


def known(client: Client, name: str, password: str) -> Client:
    """A client of the same machine that says who it is."""
    return Client(client._host, client._port, username=name, password=password)


async def refused_watch(client: Client):
    """The first answer to a watch of what not everybody may read."""
    stream = rpc.WatchStub(client.channel).Watch(metadata=client.metadata)
    await stream.write(rpc.WatchRequest(create_request=rpc.WatchCreateRequest(key=b"private")))
    answer = await stream.read()
    stream.cancel()
    return answer
