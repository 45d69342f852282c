"""What is about the machines: endpoint, member, alarm, defrag, snapshot, move-leader, make-mirror, check."""

import json
import re
import signal
import urllib.request

from tool import Etcdctl


def introduce(etcdctl: Etcdctl):
    """Has names stand for what is particular to the cluster, and the first machine lead."""
    listed = json.loads(etcdctl("member list -w json", silent=True))
    hexadecimal = {}
    for line in etcdctl("member list", silent=True).splitlines():
        identity, _, name, *_ = line.split(", ")
        hexadecimal[name] = identity
    for member in listed["members"]:
        name = member["name"]
        etcdctl.known(f"id of {name}", str(member["ID"]), hexadecimal[name])
        etcdctl.known(f"peer of {name}", *member["peerURLs"])
        etcdctl.known(f"client of {name}", *member["clientURLs"])
    cluster = listed["header"]["cluster_id"]
    etcdctl.known("cluster", str(cluster), f"{cluster:x}")
    for number, address in enumerate(etcdctl.endpoints):
        etcdctl.known(f"address of m{number}", address)
    lead(etcdctl, hexadecimal["m0"])


def lead(etcdctl: Etcdctl, identity: str):
    """Has a machine lead, whose identity is given to the base 16, and waits until all others know."""
    etcdctl(f"move-leader {identity}", silent=True)
    while leaders(etcdctl) != {str(int(identity, 16))}:
        pass


def leaders(etcdctl: Etcdctl) -> set[str]:
    """Whom the machines take for the leader."""
    printed = etcdctl("endpoint status -w json", silent=True)
    return set(re.findall(r'"leader":(\d+)', printed))


def identities(etcdctl: Etcdctl) -> dict[str, str]:
    """The identity of each member to the base 16, by name."""
    return {line.split(", ")[2]: line.split(", ")[0] for line in etcdctl("member list", silent=True).splitlines()}


def endpoints(etcdctl: Etcdctl):
    """endpoint, and member list."""
    etcdctl("put checked 1", silent=True)
    for form in "simple", "fields", "table":
        etcdctl(f"endpoint status -w {form}")
        etcdctl(f"endpoint health -w {form}", ordered=True)
        etcdctl(f"member list -w {form} --endpoints={etcdctl.endpoints[0]}", ordered=True)
    etcdctl("endpoint health --endpoints=127.0.0.1:1 --dial-timeout=100ms --command-timeout=100ms")
    hashes = json.loads(etcdctl("endpoint hashkv -w json", silent=True))
    same = len({entry["HashKV"]["hash"] for entry in hashes}) == 1
    etcdctl.show("endpoint hashkv -w json", "all the same" if same else f"not the same: {hashes}")
    urls = ",".join(f"http://{address}" for address in etcdctl.endpoints)
    etcdctl(f"get checked --endpoints={urls}")
    etcdctl(f"endpoint health --endpoints={urls}", ordered=True)
    etcdctl(f"endpoint status --endpoints={urls}")
    etcdctl("endpoint hashkv --rev=1")
    etcdctl("endpoint hashkv --rev=1000000")


def alarms(etcdctl: Etcdctl):
    """alarm, with one that is raised by hand."""
    # Of an answer without a header, as 3.4 gives, etcdctl cannot print the fields.
    formats = "simple", "json", "table"
    one = f"--endpoints={etcdctl.endpoints[0]}"
    etcdctl.formats(f"alarm list {one}", formats)
    raise_alarm(etcdctl)
    etcdctl.formats(f"alarm list {one}", formats)
    etcdctl("endpoint status")
    etcdctl("endpoint health", ordered=True)
    etcdctl("put refused for-now")
    etcdctl("del refused")
    etcdctl("get checked")
    etcdctl("lease grant 10")
    etcdctl("alarm disarm")
    etcdctl("alarm list")
    etcdctl("put taken again")


def raise_alarm(etcdctl: Etcdctl):
    """Raises the first machine's alarm for want of space, which no command of etcdctl does."""
    member = int(identities(etcdctl)["m0"], 16)
    request = {"action": "ACTIVATE", "memberID": member, "alarm": "NOSPACE"}
    url = f"http://{etcdctl.endpoints[0]}/v3/maintenance/alarm"
    with urllib.request.urlopen(urllib.request.Request(url, json.dumps(request).encode())) as answer:
        answer.read()


def snapshots(etcdctl: Etcdctl):
    """snapshot: saved from one machine, looked at, and restored."""
    one = f"--endpoints={etcdctl.endpoints[0]}"
    etcdctl(f"snapshot save saved {one}")
    etcdctl("snapshot save saved")
    etcdctl(f"snapshot save no/such/folder {one}")
    printed = etcdctl("snapshot status saved -w json", silent=True)
    etcdctl.show("snapshot status saved -w json", re.sub(r"\d+", "N", printed))
    printed = etcdctl(
        "snapshot restore saved --data-dir=restored --wal-dir=restored-wal --name=m0 --skip-hash-check=false "
        "--initial-cluster=m0=http://127.0.0.1:2380 --initial-advertise-peer-urls=http://127.0.0.1:2380 "
        "--initial-cluster-token=new",
        silent=True,
    )
    etcdctl.show("snapshot restore saved", printed.splitlines()[-1] if "Error" in printed else "restored")
    etcdctl("snapshot status missing")


def defragmentation(etcdctl: Etcdctl):
    """defrag, of those that are named and of all."""
    etcdctl("defrag")
    etcdctl("defrag --cluster", ordered=True)
    etcdctl(f"defrag --cluster --endpoints={etcdctl.endpoints[1]}", ordered=True)
    etcdctl("get checked")


def mirrors(etcdctl: Etcdctl):
    """make-mirror, from one part of the key space into another."""
    for key in "a", "b":
        etcdctl(f"put original/{key} {key}")
    here = etcdctl.endpoints[0]
    mirror(etcdctl, f"--prefix=original/ --dest-prefix=copy/ {here}", "copy/")
    mirror(etcdctl, f"--prefix=original/ --no-dest-prefix {here}", "")
    etcdctl(f"make-mirror --dest-prefix=x --no-dest-prefix {here}")
    etcdctl("make-mirror")


def mirror(etcdctl: Etcdctl, arguments: str, prefix: str):
    """Mirrors until what is there before and what comes then are copied."""
    running = etcdctl.start(f"make-mirror {arguments}")
    wait_for(etcdctl, f"{prefix}b", "b")
    etcdctl(f"put original/a by-{prefix}")
    wait_for(etcdctl, f"{prefix}a", f"by-{prefix}")
    etcdctl("del original/a")
    wait_for(etcdctl, f"{prefix}a", "")
    etcdctl("put original/a a")
    wait_for(etcdctl, f"{prefix}a", "a")
    running.end(signal.SIGKILL)
    etcdctl(f"get --prefix '{prefix}' --keys-only")


def wait_for(etcdctl: Etcdctl, key: str, value: str):
    """Waits until a key has a value, or is not there."""
    while etcdctl(f"get --print-value-only {key}", silent=True).strip() != value:
        pass


def leadership(etcdctl: Etcdctl):
    """move-leader, asked of the leader and of others."""
    names = identities(etcdctl)
    etcdctl(f"move-leader {names['m1']} --endpoints={etcdctl.endpoints[1]}")
    etcdctl(f"move-leader {names['m1']}")
    while leaders(etcdctl) != {str(int(names["m1"], 16))}:
        pass
    etcdctl("endpoint status")
    etcdctl("move-leader 1234")
    etcdctl("move-leader nonsense")
    etcdctl("move-leader")
    lead(etcdctl, names["m0"])


def members(etcdctl: Etcdctl):
    """member add, update, promote and remove, of one that never starts."""
    peer, client = "http://127.0.0.1:9", "127.0.0.1:8"
    etcdctl("member add")
    etcdctl("member add m3")
    etcdctl("member add m3 --peer-urls=nonsense")
    identity = learn_newcomer(etcdctl, f"member add m3 --learner --peer-urls={peer}")
    if identity:
        etcdctl(f"member remove {identity}", silent=True)
    identity = learn_newcomer(etcdctl, f"member add m3 --learner '--peer-urls={peer}?name=m3&client={client}'")
    etcdctl("member list", ordered=True)
    etcdctl(f"member promote {identity}")
    etcdctl(f"member update {identity} --peer-urls=http://127.0.0.1:7")
    etcdctl("member list", ordered=True)
    etcdctl(f"member remove {identity}")
    etcdctl("member list", ordered=True)
    etcdctl(f"member remove {identity}")
    etcdctl(f"member update {identity} --peer-urls={peer}")
    etcdctl("member remove nonsense")


def learn_newcomer(etcdctl: Etcdctl, command: str) -> str | None:
    """Adds a member, and names it; its identity, if it was added."""
    found = []

    def learn(printed: str):
        found.extend(re.findall("Member +([0-9a-f]+) added", printed))
        etcdctl.known("id of m3", *found)

    etcdctl(command, learn=learn)
    return found[0] if found else None


# How long a check may take, and the compaction and the defragmentation after it.
CHECK_SECONDS = 300


def checks(etcdctl: Etcdctl):
    """check, of which each puts as much as it can for a while: datascale for as long as that takes, perf for a minute."""
    for what in "datascale", "perf":
        command = f"check {what} --load=s --prefix=/checked/ --auto-compact --auto-defrag"
        printed = etcdctl(command, silent=True, patience_seconds=CHECK_SECONDS)
        etcdctl.show(command, "ended" if re.search("^(PASS|FAIL): ", printed, re.MULTILINE) else printed)
        etcdctl("get --prefix /checked/")


def client(etcdctl: Etcdctl):
    """What is about etcdctl itself and its connections."""
    etcdctl("version")
    printed = etcdctl("get checked --debug", silent=True)
    # Beside what the connections log, at some time or other.
    told = [line for line in printed.splitlines() if line in ("checked", "1")]
    etcdctl.show("get checked --debug", "\n".join(told))
    etcdctl("get checked --keepalive-time=1s --keepalive-timeout=2s --dial-timeout=3s --command-timeout=20s")
    etcdctl("get checked --insecure-transport=false --dial-timeout=200ms --command-timeout=200ms")
    etcdctl("get checked -w nonsense")
    etcdctl("no-such-command")
    etcdctl("check datascale --load=nonsense")
    etcdctl("check perf --load=nonsense")
