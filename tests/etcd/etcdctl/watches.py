"""watch, of what is past and of what comes."""

import signal

from tool import Etcdctl


def watches(etcdctl: Etcdctl):
    """watch, with each of its flags, and its two ways to be told what to watch."""
    first = revision(etcdctl) + 1
    for command in "put w/a 1", "put w/b 2", "put w/a 3", "del w/b", "put w/z last":
        etcdctl(command)
    for form in "simple", "json", "fields":
        for prev in "", "--prev-kv ":
            past(etcdctl, f"watch --prefix {prev}--rev={first} w/ -w {form}", LAST[form])
    past(etcdctl, f"watch --rev={first} w/a w/c", "DELETE\nw/b\n\n")
    past(etcdctl, f"watch --rev={first} w/z", "last\n")
    past(etcdctl, f"watch --rev={first} --hex w/z", r"\x6c\x61\x73\x74")
    etcdctl("watch")
    etcdctl("watch --rev=5 --prefix w/ w/c")
    live(etcdctl)
    watch = etcdctl.start("watch --interactive", input=None)
    watch.write(f"watch --rev={first} w/a\n")
    watch.until("3\n")
    watch.write(f"watch --prefix --rev={first + 4} w/\n")
    watch.until("last\n")
    watch.end(signal.SIGKILL)
    told_to_a_command(etcdctl)


# How a watch says, in each format, that the last value was put.
LAST = {"simple": "last\n", "json": "bGFzdA==", "fields": '"last"\n"Lease" : 0\n'}


def past(etcdctl: Etcdctl, command: str, last: str):
    """A watch that is told what has happened, up to a last text, and the line it stands in."""
    etcdctl.start(command).until(last).end(signal.SIGKILL)


def live(etcdctl: Etcdctl):
    """A watch of what comes: from the next revision on, so that nothing is missed until it is there."""
    newest = revision(etcdctl)
    watch = etcdctl.start(f"watch --prefix --rev={newest + 1} live/")
    etcdctl("put live/a 1")
    watch.until("1\n")
    etcdctl("del live/a")
    etcdctl("put live/last one")
    watch.until("one\n").end(signal.SIGKILL)


def told_to_a_command(etcdctl: Etcdctl):
    """A watch that has a command run. The revision is that up to which all was told, so each change is told before the next is made."""
    shown = "sh -c 'echo $ETCD_WATCH_REVISION $ETCD_WATCH_EVENT_TYPE $ETCD_WATCH_KEY $ETCD_WATCH_VALUE'"
    newest = revision(etcdctl)
    watch = etcdctl.start(f"watch --rev={newest + 1} --prefix shown/ -- {shown}")
    etcdctl("put shown/a 1")
    watch.until('"shown/a" "1"\n')
    etcdctl("del shown/a")
    watch.until('"DELETE" "shown/a" ""\n').end(signal.SIGKILL)


def revision(etcdctl: Etcdctl) -> int:
    """The newest revision."""
    return int(etcdctl("get nothing -w json", silent=True).split('"revision":')[1].split(",")[0])
