"""Puts, ranges, deletions, transactions and compaction."""

from aetcd import Client, rpc
from told import Told


async def puts(told: Told, client: Client, other: Client, _):
    """Puts with each option, seen through another machine."""
    await told("put", client.put(b"fruit/apple", b"red"))
    await told("put, with what was before", client.put(b"fruit/apple", b"green", prev_kv=True))
    await told("put, with what was not before", client.put(b"fruit/new", b"yes", prev_kv=True))
    await told("get through another machine", other.get(b"fruit/apple"))
    await told("get what is not there", other.get(b"fruit/nothing"))
    await told("replace", client.replace(b"fruit/apple", b"green", b"brown"))
    await told("replace what is otherwise", client.replace(b"fruit/apple", b"green", b"brown"))
    await told("put an empty key", client.put(b"", b"x"))
    await told("put an empty value", client.put(b"empty", b""))
    await told("put bytes", client.put(b"\x00\xff", b"\xff\x00\xfe"))
    await told("get bytes", client.get(b"\x00\xff"))
    await told("put with a lease that is not there", client.put(b"a", b"b", lease=4321))
    put = client.kvstub.Put
    await told("keep the value", put(rpc.PutRequest(key=b"fruit/apple", ignore_value=True, prev_kv=True)))
    await told("keep the lease", put(rpc.PutRequest(key=b"fruit/apple", value=b"x", ignore_lease=True)))
    await told("keep both", put(rpc.PutRequest(key=b"fruit/apple", ignore_value=True, ignore_lease=True)))
    await told("keep a value and give one", put(rpc.PutRequest(key=b"fruit/apple", value=b"x", ignore_value=True)))
    await told("keep a lease and give one", put(rpc.PutRequest(key=b"fruit/apple", lease=1, ignore_lease=True)))
    await told("keep what is not there", put(rpc.PutRequest(key=b"fruit/nothing", ignore_value=True)))
    await told("put too much", client.put(b"large", b"x" * 2_000_000))


async def ranges(told: Told, client: Client, *_):
    """Ranges with each option."""
    for key, value in (b"a", b"4"), (b"b", b"2"), (b"c", b"1"), (b"d", b"3"), (b"b", b"2"):
        await client.put(b"tree/" + key, value)
    await told("a prefix", client.get_prefix(b"tree/"), show=list)
    await told("a prefix, keys only", client.get_prefix(b"tree/", keys_only=True), show=list)
    await told("a range", client.get_range(b"tree/b", b"tree/d"), show=list)
    await told("a range that ends before it begins", client.get_range(b"tree/d", b"tree/b"), show=list)
    await told("all", client.get_all(keys_only=True), show=list)
    await told("serializable", client.get(b"tree/a", serializable=True))
    for target in "key", "version", "create", "mod", "value":
        for order in None, "ascend", "descend":
            answer = client.get_prefix(b"tree/", sort_order=order, sort_target=target)
            await told(f"sorted by {target}, {order}", answer, show=lambda found: [kv.key for kv in found])
    newest = (await client.get(b"tree/b")).mod_revision
    options = {
        "limited": {"limit": 2},
        "limited below zero": {"limit": -1},
        "counted": {"count_only": True},
        "of the past": {"revision": newest - 3},
        "of the future": {"revision": newest + 1000},
        "of a revision below zero": {"revision": -1},
        "changed since": {"min_mod_revision": newest - 1},
        "changed until": {"max_mod_revision": newest - 1},
        "created since": {"min_create_revision": newest - 2},
        "created until": {"max_create_revision": newest - 3},
        "changed between, limited": {"min_mod_revision": newest - 3, "max_mod_revision": newest, "limit": 1},
    }
    for name, given in options.items():
        await told(name, client.kvstub.Range(rpc.RangeRequest(key=b"tree/", range_end=b"tree0", **given)))
    await told("from a key on", client.kvstub.Range(rpc.RangeRequest(key=b"tree/c", range_end=b"\0", keys_only=True)))
    await told("of no key", client.kvstub.Range(rpc.RangeRequest()))


async def deletes(told: Told, client: Client, *_):
    """Deletions with each option."""
    for key in b"a", b"b", b"c", b"d", b"e":
        await client.put(b"gone/" + key, key)
    await told("delete", client.delete(b"gone/a"))
    await told("delete what is not there", client.delete(b"gone/a"))
    await told("delete, with what was before", client.delete(b"gone/b", prev_kv=True))
    await told("delete a range", client.delete_range(b"gone/c", b"gone/d", prev_kv=True), show=list)
    await told("delete a prefix", client.delete_prefix(b"gone/"), show=len)
    await told("delete a prefix of nothing", client.delete_prefix(b"gone/", prev_kv=True), show=list)
    await told("delete no key", client.kvstub.DeleteRange(rpc.DeleteRangeRequest()))


async def transactions(told: Told, client: Client, *_):
    """Transactions: each comparison, each operation, one in the other, and what is refused."""
    make = client.transactions
    await client.put(b"t/a", b"1")
    await client.put(b"t/b", b"2")
    comparisons = {
        "value =": make.value(b"t/a") == b"1",
        "value !=": make.value(b"t/a") != b"1",
        "value <": make.value(b"t/a") < b"2",
        "value >": make.value(b"t/a") > b"2",
        "version": make.version(b"t/a") == 1,
        "create": make.create(b"t/nothing") == 0,
        "mod": make.mod(b"t/a") > 1,
        "value of nothing": make.value(b"t/nothing") == b"",
    }
    then, otherwise = [make.get(b"t/a")], [make.get(b"t/b")]
    for name, comparison in comparisons.items():
        await told(f"if {name}", client.transaction([comparison], then, otherwise))
    operations = [
        make.put(b"t/c", b"3", prev_kv=True),
        make.get(b"t/", b"t0"),
        make.delete(b"t/b", prev_kv=True),
        make.txn([make.version(b"t/b") == 0], [make.put(b"t/d", b"nested")], [make.get(b"t/a")]),
    ]
    await told("all operations", client.transaction([], operations, []))
    await told("nothing", client.transaction([], [], []))
    await told("a key twice", client.transaction([], [make.put(b"k", b"1"), make.put(b"k", b"2")], []))
    deep = [make.txn([], [make.put(b"k", b"2")], [])]
    await told("a key twice, one in the other", client.transaction([], [make.put(b"k", b"1"), *deep], []))
    apart = make.txn([make.version(b"k") == 0], [make.put(b"k", b"1")], [make.put(b"k", b"2")])
    await told("a key in either branch", client.transaction([], [apart], []))
    many = [make.put(b"many/%d" % number, b"x") for number in range(129)]
    await told("too many operations", client.transaction([], many, []))
    compare = rpc.Compare
    for name, each in {
        "every key of a range": compare(key=b"t/", range_end=b"t0", target="VERSION", result="GREATER", version=0),
        "a lease": compare(key=b"t/a", target="LEASE", result="EQUAL", lease=0),
        "no key": compare(target="VERSION", result="EQUAL", version=0),
    }.items():
        await told(f"if {name}", client.kvstub.Txn(rpc.TxnRequest(compare=[each])))
    await told("what is left", client.get_prefix(b"t/"), show=list)


async def compactions(told: Told, client: Client, other: Client, _):
    """Compaction, and what it leaves."""
    for value in b"1", b"2", b"3", b"4":
        await client.put(b"aged", value)
    newest = (await client.get(b"aged")).mod_revision
    past = rpc.RangeRequest(key=b"aged", revision=newest - 2)
    await told("compact", client.compact(newest - 1))
    await told("compact again", client.compact(newest - 1))
    await told("compact what is to come", client.compact(newest + 1000))
    await told("compact below zero", client.compact(-1))
    await told("get what is compacted", client.kvstub.Range(past))
    await told("get what is compacted, through another machine", other.kvstub.Range(past))
    await told("compact, and wait", client.compact(newest, physical=True))
    await told("get what is left", client.get(b"aged"))
    await told("watch what is compacted", first_event(client, newest - 2))


async def first_event(client: Client, revision: int):
    """The first event of a watch."""
    async for event in await client.watch(b"aged", start_revision=revision):
        return event
