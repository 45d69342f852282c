"""put, get, del and compaction."""

from tool import Etcdctl
from watches import revision


def puts(etcdctl: Etcdctl):
    """put, with each of its flags."""
    etcdctl.formats("put fruit/apple red")
    etcdctl.formats("put --prev-kv fruit/apple green")
    etcdctl.formats("put --prev-kv fruit/new yes")
    etcdctl("put fruit/cherry", input="dark red, typed in")
    etcdctl("put fruit/minus -- -1")
    etcdctl("put -- fruit/minus -2")
    etcdctl("put 'a key with spaces' ''")
    etcdctl("put '' empty")
    etcdctl("put --ignore-value fruit/apple")
    etcdctl("put --ignore-value fruit/nothing")
    etcdctl("put --ignore-value fruit/apple with-one")
    etcdctl("put --ignore-lease fruit/apple brown")
    etcdctl("put --ignore-lease fruit/nothing brown")
    etcdctl("put --ignore-lease --lease=1234 fruit/apple brown")
    etcdctl("put --ignore-value --ignore-lease fruit/apple")
    etcdctl("put --lease=1234 fruit/apple brown")
    etcdctl("put --hex --prev-kv fruit/apple brown")
    lease = etcdctl.lease()
    etcdctl(f"put --lease={lease} fruit/leased yes")
    etcdctl("put --ignore-lease fruit/leased again")
    etcdctl.formats("get fruit/leased")
    etcdctl("put --ignore-value fruit/leased")
    etcdctl("get fruit/leased -w fields")
    etcdctl(f"lease revoke {lease}")
    etcdctl("put")
    etcdctl("put large", input="x" * 2_000_000)


def ranges(etcdctl: Etcdctl):
    """get, with each of its flags."""
    for key, value in ("a", "4"), ("b", "2"), ("c", "1"), ("d", "3"), ("b", "2"):
        etcdctl(f"put tree/{key} {value}")
    etcdctl.formats("get tree/a")
    etcdctl.formats("get tree/nothing")
    etcdctl.formats("get --prefix tree/")
    etcdctl.formats("get --prefix --keys-only tree/")
    etcdctl.formats("get --prefix --limit=2 tree/")
    etcdctl("get tree/b tree/d")
    etcdctl("get tree/d tree/b")
    etcdctl("get --from-key tree/b")
    etcdctl("get --prefix ''")
    etcdctl("get --from-key ''")
    etcdctl("get ''")
    etcdctl("get --prefix --from-key tree/")
    etcdctl("get --prefix tree/ tree/c")
    etcdctl("get --prefix --print-value-only tree/")
    etcdctl("get --prefix --print-value-only --keys-only tree/")
    etcdctl("get tree/a --hex")
    for target in "CREATE", "KEY", "MODIFY", "VALUE", "VERSION", "COLOUR":
        for order in "", "ASCEND", "DESCEND":
            etcdctl(f"get --prefix --sort-by={target} --order={order} tree/")
    etcdctl("get --prefix --order=SIDEWAYS tree/")
    etcdctl("get --prefix --sort-by=VALUE --order=DESCEND --limit=2 tree/")
    etcdctl("get --prefix --limit=-1 tree/")
    etcdctl("get --rev=2 fruit/apple")
    etcdctl("get --rev=1 fruit/apple")
    etcdctl("get --rev=1000000 fruit/apple")
    etcdctl("get --rev=-1 fruit/apple")
    for consistency in "l", "s", "x":
        etcdctl(f"get --consistency={consistency} tree/a")
    etcdctl("get")


def deletes(etcdctl: Etcdctl):
    """del, with each of its flags."""
    for form in "simple", "json", "fields", "table", "protobuf":
        etcdctl("put gone/a 1", silent=True)
        etcdctl.formats("del --prev-kv gone/a", (form,))
    for key in "a", "b", "c", "d", "e":
        etcdctl(f"put gone/{key} {key}")
    etcdctl("del gone/a gone/c")
    etcdctl("del --prefix gone/c")
    etcdctl("del --from-key --prev-kv gone/e")
    etcdctl("del --prefix --prev-kv gone/")
    etcdctl("del --prefix gone/")
    etcdctl("del gone/d gone/a")
    etcdctl("del --prefix --from-key gone/")
    etcdctl("del ''")
    etcdctl("del")
    etcdctl("get --prefix --keys-only ''")


def compactions(etcdctl: Etcdctl):
    """compaction, physical or not, and what it leaves."""
    for value in range(1, 6):
        etcdctl(f"put aged {value}")
    newest = revision(etcdctl)
    etcdctl("compaction -- -1")
    etcdctl(f"compaction {newest - 3}")
    etcdctl(f"compaction {newest - 3}")
    etcdctl(f"get aged --rev={newest - 4}")
    etcdctl(f"get aged --rev={newest - 3}")
    etcdctl(f"watch aged --rev={newest - 4}")
    etcdctl(f"compaction {newest + 1000}")
    etcdctl(f"compaction --physical {newest} -w json")
    etcdctl(f"get aged --rev={newest - 1} -w json")
    etcdctl("get aged")
    etcdctl("compaction")
    etcdctl("compaction soon")
