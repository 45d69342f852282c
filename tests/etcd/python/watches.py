"""Watches, by the client's own means and on a stream that is written by hand."""

from aetcd import Client, EventKind, rpc
from told import Told


async def watches(told: Told, client: Client, other: Client, _):
    """Watches of the past and of what comes, in a range, filtered, with what was before."""
    first = (await client.put(b"w/a", b"1")).header.revision
    await client.put(b"w/b", b"2")
    await client.put(b"w/a", b"3")
    await client.delete(b"w/b")
    await client.put(b"w/z", b"last")
    await told("a prefix", events(await client.watch_prefix(b"w/", start_revision=first), 5))
    with_before = await client.watch_prefix(b"w/", start_revision=first, prev_kv=True)
    await told("a prefix, with what was before", events(with_before, 5))
    await told("a key", events(await client.watch(b"w/a", start_revision=first), 2))
    await told("a range", events(await client.watch(b"w/a", b"w/c", start_revision=first), 4))
    for kind, count in (EventKind.PUT, 4), (EventKind.DELETE, 1):
        watch = await client.watch_prefix(b"w/", start_revision=first, kind=kind)
        await told(f"only {kind.value}", events(watch, count))
    watch = await client.watch_prefix(b"live/")
    await other.put(b"live/a", b"through another machine")
    await other.delete(b"live/a")
    await told("what comes", events(watch, 2))
    future = await client.watch(b"live/b", start_revision=first + 10)
    for value in range(6):
        await other.put(b"live/b", b"%d" % value)
    await told("what comes from a revision on", events(future, 3))
    await told("one event", client.watch_once(b"w/z", start_revision=first))


async def events(watch, count: int) -> list:
    """So many events of a watch, which is cancelled then."""
    found = []
    async for event in watch:
        found.append(event)
        if len(found) == count:
            break
    await watch.cancel()
    return found


async def streams(told: Told, client: Client, other: Client, _):
    """Several watchers on one stream: their ids, progress, fragments, and their ends."""
    stream = rpc.WatchStub(client.channel).Watch()
    # Through the machine that is asked: it has all that it has acknowledged.
    first = (await client.put(b"s/a", b"1")).header.revision

    async def ask(step: str, answers: int = 1, **request):
        await stream.write(rpc.WatchRequest(**request))
        for number in range(answers):
            await told(f"{step}: answer {number + 1}", stream.read())

    def create(**given):
        return {"create_request": rpc.WatchCreateRequest(**given)}

    await ask("an id of its own", 2, **create(key=b"s/a", watch_id=7, start_revision=first))
    await ask("an id that is taken", **create(key=b"s/a", watch_id=7, start_revision=first))
    await ask("an id that is given", 2, **create(key=b"s/a", start_revision=first))
    await ask("an empty range", **create(key=b"s/b", range_end=b"s/a"))
    await ask("progress", progress_request=rpc.WatchProgressRequest())
    await ask("the end of one", cancel_request=rpc.WatchCancelRequest(watch_id=7))
    await other.put(b"s/a", b"2")
    await told("what comes after it", stream.read())
    await ask("the end of another", cancel_request=rpc.WatchCancelRequest(watch_id=0))
    # More than a message of a watch may hold.
    for number in range(4):
        await other.put(b"s/large/%d" % number, b"x" * 600_000)
    at = first + 2
    wanted = create(key=b"s/large/", range_end=b"s/large0", start_revision=at, fragment=True)
    await stream.write(rpc.WatchRequest(**wanted))
    seen = []
    while len(seen) < 4:
        seen += [event.kv.key for event in (await stream.read()).events]
    told.show("in fragments", "\n".join(map(str, seen)))
    stream.cancel()
