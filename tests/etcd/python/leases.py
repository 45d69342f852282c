"""Leases, and the client's locks on them."""

import asyncio

from aetcd import Client, rpc
from told import Told


async def leases(told: Told, client: Client, other: Client, _):
    """Leases: granted, renewed, looked at, revoked, and ended by nobody's renewal."""
    lease = await client.lease(1000)
    told.known("lease", lease.id)
    told.show("granted", f"{lease.ttl}")
    await client.put(b"held/a", b"1", lease=lease)
    await told("the key", client.get(b"held/a"))
    await told("the keys", lease.keys())
    await told("its time", lease.granted_ttl())
    await told("what is left", lease.remaining_ttl(), show=lambda left: 990 < left <= 1000)
    await told("renewed", lease.refresh())
    await told("renewed through another machine", other.refresh_lease(lease.id), show=lambda answer: answer.TTL)
    await told("all", client.leasestub.LeaseLeases(rpc.LeaseLeasesRequest()))
    await told("an id that is taken", client.lease(10, lease_id=lease.id))
    await told("an id of its own", client.lease(10, lease_id=77), show=lambda lease: f"{lease.id} {lease.ttl}")
    await told("revoked through another machine", other.revoke_lease(77))
    await told("revoked", lease.revoke())
    await told("revoked again", lease.revoke())
    await told("renewed, once it is gone", lease.refresh())
    await told("its time, once it is gone", client.get_lease_info(lease.id))
    await told("the key, once it is gone", client.get(b"held/a"))
    for ttl in 0, 1, -1, 9_000_000_001:
        await told(f"a time of {ttl}", client.lease(ttl), show=lambda lease: lease.ttl)
    brief = await client.lease(2)
    watch = await client.watch_prefix(b"brief/")
    await client.put(b"brief/a", b"1", lease=brief)
    kinds = []
    async for event in watch:
        kinds.append(event.kind)
        if len(kinds) == 2:
            break
    told.show("not renewed", str(kinds))


async def locks(told: Told, client: Client, other: Client, _):
    """A lock of the client's own making: a key with a lease, and a watch of its end."""
    first, second = client.lock(b"lock", ttl=60), other.lock(b"lock", ttl=60)
    await told("locked", first.acquire())
    await told("it is held", first.is_acquired())
    await told("not locked at once", second.acquire(timeout=0))
    waiting = asyncio.ensure_future(second.acquire(timeout=60))
    await told("unlocked", first.release())
    await told("locked by who waited", waiting)
    await told("held no more by the first", first.is_acquired())
    await told("unlocked by who has it not", first.release())
    await told("renewed", second.refresh(), show=lambda answer: answer.TTL)
    await told("unlocked at last", second.release())
