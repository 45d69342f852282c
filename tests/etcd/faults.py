"""Machines killed and leaders moved under a client's feet, while it writes, watches, locks and keeps a lease alive.

The script `faults` of a client prints a line for each write that was acknowledged, until its input ends; then it looks at
all that it was told, and ends with 0 if it holds: what must hold is in README.md. Nothing here waits for a time: each
fault comes when the client has got on since the one before."""

import json
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

from clusters import Failure, Watched, etcdctl

# How often a machine is killed, and the lead moved: the first time the one that leads is killed, then others.
ROUNDS = 3

# So many writes must be acknowledged after each fault.
PROGRESS_WRITES = 20

# Far longer than any of it takes.
PATIENCE_SECONDS = 120


class Script:
    """A client's script, and how far it is."""

    def __init__(self, name: str, command: list[str], errors: Path):
        self.name = name
        self.errors = errors
        self.acknowledged = 0
        self.last = ""
        self.news = threading.Condition()
        with open(errors, "w") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, process_group=0
            )
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            with self.news:
                self.acknowledged += 1
                self.last = line.rstrip()
                self.news.notify_all()
        with self.news:
            self.news.notify_all()

    def get_on(self, after: str):
        """Waits until it has been acknowledged some more."""
        with self.news:
            wanted = self.acknowledged + PROGRESS_WRITES
            ended = lambda: self.process.poll() is not None  # noqa: E731
            self.news.wait_for(lambda: self.acknowledged >= wanted or ended(), PATIENCE_SECONDS)
            if self.acknowledged < wanted:
                state = "has ended" if ended() else "does not get on"
                raise Failure(f"the script of {self.name} {state} after {after}:\n{self.said()}")

    def finish(self) -> str:
        """Has it look at what it was told; its last words. Fails if something does not hold."""
        self.process.stdin.close()
        try:
            code = self.process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            raise Failure(f"the script of {self.name} does not end:\n{self.said()}") from None
        self.reader.join(PATIENCE_SECONDS)
        if code:
            raise Failure(f"the script of {self.name} ended with {code}:\n{self.said()}")
        return self.last

    def said(self) -> str:
        return "\n".join([self.last, *self.errors.read_text().splitlines()[-12:]])

    def kill(self):
        self.process.kill()
        self.process.wait()


def endure(name: str, command: list[str], cluster: Watched, errors: Path) -> str:
    """Runs a script against a cluster that is hurt; its last words."""
    script = Script(name, command, errors)
    try:
        script.get_on("its start")
        for turn in range(ROUNDS):
            victim = (leader(cluster) + turn) % len(cluster.clients)
            cluster.kill_machine(victim)
            script.get_on(f"machine {victim} of {cluster.name} was killed")
            cluster.restart_machine(victim)
            cluster.await_ready()
            target = (leader(cluster) + 1) % len(cluster.clients)
            move(cluster, target)
            script.get_on(f"machine {target} of {cluster.name} was to lead")
        return script.finish()
    finally:
        script.kill()


def leader(cluster: Watched) -> int:
    """Which machine leads, as soon as those that live agree."""
    return agreed(cluster, lambda places, identity: places.get(identity))


def move(cluster: Watched, target: int):
    """Has a machine lead."""

    def asked(places: dict[int, int], current: int) -> int | None:
        identity = next((identity for identity, place in places.items() if place == target), None)
        if identity != current and identity is not None:
            etcdctl(",".join(cluster.addresses), "move-leader", f"{identity:x}")
        return target if identity == current else None

    agreed(cluster, asked)


def agreed(cluster: Watched, judge: Callable[[dict[int, int], int], int | None]) -> int:
    """What is made of the place of each machine by its identity, and of who leads, as soon as it is something; all that
    answer must say the same."""
    for _ in range(1000):
        printed = etcdctl(",".join(cluster.addresses), "endpoint", "status", "-w", "json").stdout
        found = json.loads(printed or "[]")
        places = {each["Status"]["header"]["member_id"]: cluster.addresses.index(each["Endpoint"]) for each in found}
        leaders = {each["Status"].get("leader", 0) for each in found}
        if len(leaders) == 1 and (made := judge(places, leaders.pop())) is not None:
            return made
    raise Failure(f"{cluster.name} comes to no leader")
