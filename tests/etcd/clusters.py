"""The two systems that a client's script is run against: three etcds, and three Raft Machines."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

# They are started as for the comparison of their speed.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "versus"))

import systems
from clients import Missing
from systems import HOST, READY_SECONDS_MAX, Failure, free_ports

MACHINES = 3

# The least: etcdctl proves who it is with every command.
BCRYPT_COST = 4

# Before 3.4 etcdctl spoke the API of version 2 unless it was told.
ENVIRONMENT = os.environ | {"ETCDCTL_API": "3"}


class Watched:
    """What a conformance run asks of a cluster beyond starting it."""

    def __init__(self, binary: str, folder: Path):
        # Nothing here is asked of rmctl.
        super().__init__(binary, "", folder, MACHINES)

    @property
    def addresses(self) -> list[str]:
        """Where clients reach each machine, `HOST:PORT`."""
        return [f"{HOST}:{port}" for port in self.clients]

    def await_ready(self):
        """Waits until every machine answers a linearizable read, which makes no revision: scripts count from the first."""
        limit = time.monotonic() + READY_SECONDS_MAX
        for address in self.addresses:
            while (answer := etcdctl(address, "get", "nothing")).returncode:
                self.check_alive()
                if time.monotonic() > limit:
                    raise Failure(f"{self.name} is not ready after {READY_SECONDS_MAX} s: {answer.stderr}")
                time.sleep(0.05)

    def kill_machine(self, number: int):
        """Ends one machine as `kill -9` does."""
        self.processes[number].kill()
        self.processes[number].wait()

    def restart_machine(self, number: int):
        """Starts one that was killed, on the data that it has."""
        self.processes[number] = self.start_machine(number)


class Etcd(Watched, systems.Etcd):
    """Three members of etcd."""

    def command(self, number: int) -> list[str]:
        return [*super().command(number), f"--bcrypt-cost={BCRYPT_COST}"]


class RaftMachine(Watched, systems.RaftMachine):
    """Three Raft Machines."""

    def config(self) -> dict:
        return super().config() | {"auth": {"bcrypt_cost": BCRYPT_COST}}


def etcdctl(endpoints: str, *arguments: str) -> subprocess.CompletedProcess:
    """Runs one command of etcdctl."""
    command = ["etcdctl", "--endpoints", endpoints, *arguments]
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)


def missing_programs(etcd: str, raft_machine: str):
    """Fails when a program is missing without which nothing can be run."""
    for program, remedy in (
        (etcd, "Debian: etcd-server"),
        ("etcdctl", "Debian: etcd-client"),
        (raft_machine, "cargo build --bin raft-machine, or name one with --raft-machine"),
    ):
        if shutil.which(program) is None:
            raise Missing(f"{program} is not there ({remedy})")
