"""lock and elect: lines in which one comes after the other."""

from tool import Etcdctl


def locks(etcdctl: Etcdctl):
    """lock, held for as long as it runs or for as long as a command runs."""
    first = etcdctl.start("lock lines/lock").until("lines/lock/")
    key = first.printed.strip()
    name_place(etcdctl, key, "first")
    second = etcdctl.start("lock lines/lock --ttl=30")
    wait_for_places(etcdctl, "lines/lock", 2)
    etcdctl("get --prefix --keys-only --sort-by=CREATE --limit=1 lines/lock/")
    first.end()
    second.until("lines/lock/")
    name_place(etcdctl, second.printed.strip(), "second")
    second.end()
    wait_for_places(etcdctl, "lines/lock", 0)
    etcdctl("lock lines/lock -- sh -c 'test -n \"$ETCD_LOCK_KEY\" && echo held with $ETCD_LOCK_REV > held; cat held'")
    etcdctl("lock lines/lock -- sh -c 'exit 3'")
    etcdctl("lock lines/lock --ttl=-1 -- true")
    etcdctl("lock")


def elections(etcdctl: Etcdctl):
    """elect, of who stands and of who listens."""
    first = etcdctl.start("elect lines/election one").until("one\n")
    name_place(etcdctl, first.printed.splitlines()[0], "one")
    second = etcdctl.start("elect lines/election two")
    wait_for_places(etcdctl, "lines/election", 2)
    listener = etcdctl.start("elect --listen lines/election").until("one\n")
    first.end()
    second.until("two\n")
    name_place(etcdctl, second.printed.splitlines()[0], "two")
    listener.until("two\n").end()
    second.end()
    wait_for_places(etcdctl, "lines/election", 0)
    etcdctl("elect lines/election")
    etcdctl("elect --listen lines/election too-much")
    etcdctl("elect")


def name_place(etcdctl: Etcdctl, key: str, name: str):
    """Has a name stand for the lease in the key of a place in a line."""
    etcdctl.known(f"lease of {name}", key.rsplit("/", 1)[1])


def wait_for_places(etcdctl: Etcdctl, line: str, count: int):
    """Waits until a line has so many places."""
    while len(etcdctl(f"get --prefix --keys-only {line}/", silent=True).split()) != count:
        pass
