"""Writes, watches, locks and keeps a lease alive by aetcd, while machines are killed and the lead is moved, until the input ends.

faults.py FOLDER ADDRESS...
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable

from aetcd import Client, ClientError
from aetcd.rpc import AioRpcError

# A machine that is killed takes its connection along, and one that has no leader answers nothing.
CALL_SECONDS_MAX = 5


async def main():
    _, *addresses = sys.argv[1:]
    client, other = connected(addresses), connected(addresses[::-1])
    lease = await insist(lambda: client.lease(60))
    await insist(lambda: client.put(b"kept", b"alive", lease=lease))
    await insist(lambda: client.put(b"sum", b"0"))
    versions: list[int] = []
    watching = asyncio.create_task(watch(other, versions))
    done = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    tries: list[bool] = []
    adding = [asyncio.create_task(add(each, done, tries)) for each in (client, other)]
    count = 0
    while not done.done():
        count += 1
        await insist(lambda: client.put(b"counter", b"%d" % count))
        await insist(lease.refresh)
        print(count, flush=True)
    await asyncio.gather(*adding)
    newest = await insist(lambda: client.get(b"counter"))
    check(newest.value == b"%d" % count, f"{count} was acknowledged, and {newest} is there")
    while len(versions) < newest.version and not watching.done():
        await asyncio.sleep(0)
    check(versions == [*range(1, newest.version + 1)], f"of {newest.version} versions the watch saw {versions}")
    total = int((await insist(lambda: client.get(b"sum"))).value)
    # Of what failed nobody knows whether it was done.
    check(0 < tries.count(True) <= total <= len(tries), f"{tries} under the lock make {total}")
    kept = await insist(lambda: client.get(b"kept"))
    check(kept is not None and kept.version == 1, f"the key of the lease is another: {kept}")
    watching.cancel()
    print(f"{count} writes, each seen once; {total} additions under the lock")


def connected(addresses: list[str]) -> Client:
    """A client of all machines: gRPC takes the first that is there."""
    *most, last = addresses
    host, port = last.split(":")
    # Without it gRPC names all of them where HTTP/2 wants one, and Raft Machine refuses that: docs/etcd.md says so.
    options = {"grpc.default_authority": "etcd"}
    return Client(",".join(["ipv4:" + ",".join(most), host]), port, timeout=CALL_SECONDS_MAX, options=options)


async def insist(call: Callable[[], Awaitable]):
    """Makes a call until it is answered."""
    while True:
        try:
            return await call()
        except (ClientError, AioRpcError):
            # Let the others go on.
            await asyncio.sleep(0)


async def watch(client: Client, versions: list[int]):
    """Notes the version of every write that it is told; where a stream ends it goes on in another, after what it was told last."""
    revision = 1
    while True:
        try:
            async for event in await client.watch(b"counter", start_revision=revision):
                versions.append(event.kv.version)
                revision = event.kv.mod_revision + 1
        except (ClientError, AioRpcError):
            await asyncio.sleep(0)


async def add(client: Client, done: asyncio.Future, tries: list[bool]):
    """Adds one to a number that nobody else may touch, as long as it has the lock; notes of each try whether it was done."""
    while not done.done():
        lock = client.lock(b"adders", ttl=20)
        try:
            if not await lock.acquire(timeout=CALL_SECONDS_MAX):
                continue
            place = len(tries)
            tries.append(False)
            total = int((await client.get(b"sum")).value)
            make = client.transactions
            is_done, _ = await client.transaction(
                [make.value(b"adders") == lock.uuid], [make.put(b"sum", b"%d" % (total + 1))], []
            )
            tries[place] = is_done
            await lock.release()
        except (ClientError, AioRpcError):
            await asyncio.sleep(0)


def check(holds: bool, otherwise: str):
    """Ends with a text if something does not hold."""
    if not holds:
        raise SystemExit(otherwise)


if __name__ == "__main__":
    asyncio.run(main())
