"""lease grant, keep-alive, list, revoke and timetolive."""

import re
import signal

from tool import Etcdctl
from watches import revision


def leases(etcdctl: Etcdctl):
    """Each command about leases, in each format that shows something of its own."""
    lease = etcdctl.lease()
    etcdctl(f"put held/a 1 --lease={lease}")
    etcdctl("get held/a -w json")
    left(etcdctl, f"lease timetolive {lease}")
    left(etcdctl, f"lease timetolive {lease} --keys")
    for form in "json", "fields", "table":
        left(etcdctl, f"lease timetolive {lease} --keys -w {form}")
    # Not before: etcd tells them in an order by chance.
    etcdctl(f"put held/b 2 --lease={lease}")
    etcdctl("lease timetolive 1234")
    etcdctl("lease timetolive 1234 -w json")
    etcdctl("lease timetolive nonsense")
    etcdctl.formats("lease list")
    for form in "simple", "json", "fields", "table", "protobuf":
        etcdctl.formats(f"lease keep-alive --once {lease}", (form,))
    alive = etcdctl.start(f"lease keep-alive {lease}")
    alive.until("keepalived").end(signal.SIGKILL)
    etcdctl("lease keep-alive --once 1234")
    etcdctl("lease keep-alive 1234")
    etcdctl("lease keep-alive nonsense")
    for _ in range(2):
        etcdctl(f"lease revoke {lease}")
    etcdctl("get --prefix held/")
    etcdctl(f"lease revoke {etcdctl.lease()} -w json")
    etcdctl(f"lease revoke {etcdctl.lease()} -w fields")
    etcdctl("lease revoke nonsense")
    for ttl in "0", "-- -1", "1", "2":
        etcdctl(f"lease revoke {etcdctl.lease(ttl)}")
    for ttl in "9000000001", "soon":
        etcdctl(f"lease grant {ttl}")
    etcdctl("lease list")
    ends(etcdctl)


def left(etcdctl: Etcdctl, command: str):
    """A command that tells how much is left of a thousand seconds, which it tells only about."""
    printed = etcdctl(command, silent=True)
    etcdctl.show(command, re.sub(r"\b(1000|9\d\d)(s?)\b", r"~1000\2", printed))


def ends(etcdctl: Etcdctl):
    """A lease that nobody renews ends, and its keys with it."""
    lease = etcdctl.lease(ttl="2")
    newest = revision(etcdctl)
    watch = etcdctl.start(f"watch --prefix --rev={newest + 1} brief/")
    etcdctl(f"put brief/a 1 --lease={lease}")
    etcdctl(f"put brief/b 2 --lease={lease}")
    watch.until("DELETE\nbrief/b\n\n").end(signal.SIGKILL)
    etcdctl(f"lease timetolive {lease}")
