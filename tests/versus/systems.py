"""The two systems that are compared: how each is started, on fresh data, with its default durability."""

import json
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

HOST = "127.0.0.1"
READY_SECONDS_MAX = 120
STOP_SECONDS_MAX = 20


class Failure(Exception):
    """Something that makes the comparison void; its text says what and where."""


class Cluster:
    """One system's machines on loopback. Leaving the `with` block kills them and removes their data."""

    # Set by each system.
    name: str

    def __init__(self, binary: str, rmctl: str, folder: Path, machines: int):
        self.binary = binary
        self.rmctl = rmctl
        self.folder = folder
        self.peers = free_ports(machines, socket.SOCK_DGRAM)
        self.clients = free_ports(machines, socket.SOCK_STREAM)
        # etcd's peers speak TCP.
        self.tcp_peers = free_ports(machines, socket.SOCK_STREAM, avoid=self.clients)
        self.processes: list[subprocess.Popen] = []

    @property
    def endpoints(self) -> str:
        return ",".join(f"{HOST}:{port}" for port in self.clients)

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self.processes]

    def __enter__(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.prepare()
        try:
            self.start()
            self.await_ready()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_):
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def prepare(self):
        """Writes what the machines need before they start."""

    def command(self, number: int) -> list[str]:
        """How one machine is started."""
        raise NotImplementedError

    def start(self):
        """Starts every machine on the data that it has."""
        for number in range(len(self.clients)):
            self.processes.append(self.start_machine(number))

    def start_machine(self, number: int) -> subprocess.Popen:
        """Starts one machine on the data that it has."""
        with open(self.folder / f"{number}.log", "ab") as log:
            return subprocess.Popen(
                self.command(number),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
            )

    def stop(self):
        """Stops every machine as an operator would, and waits for it."""
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(STOP_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                raise Failure(f"{self.name} does not stop within {STOP_SECONDS_MAX} s") from None
        self.processes.clear()

    def kill(self):
        """Ends every machine as `kill -9` does."""
        for process in self.processes:
            process.kill()
            process.wait()
        self.processes.clear()

    def ask(self, *arguments: str, endpoints: str | None = None) -> subprocess.CompletedProcess:
        """Runs one command of rmctl against the machines."""
        command = [self.rmctl, "--endpoints", endpoints or self.endpoints, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def await_ready(self):
        """Waits until a write through every machine is acknowledged."""
        limit = time.monotonic() + READY_SECONDS_MAX
        for port in self.clients:
            while (answer := self.ask("put", "ready", "yes", endpoints=f"{HOST}:{port}")).returncode:
                self.check_alive()
                if time.monotonic() > limit:
                    raise Failure(f"{self.name} is not ready after {READY_SECONDS_MAX} s: {answer.stderr}")
                time.sleep(0.01)

    def check_alive(self):
        """Fails when a machine ended by itself."""
        for number, process in enumerate(self.processes):
            if (code := process.poll()) is not None:
                log = (self.folder / f"{number}.log").read_text(errors="replace")
                tail = "\n".join(log.splitlines()[-10:])
                raise Failure(f"machine {number} of {self.name} ended with {code}:\n{tail}")


class Etcd(Cluster):
    """etcd as Debian ships it, with its defaults."""

    name = "etcd"

    def command(self, number: int) -> list[str]:
        client = f"http://{HOST}:{self.clients[number]}"
        peers = [f"http://{HOST}:{port}" for port in self.tcp_peers]
        members = ",".join(f"m{other}={peer}" for other, peer in enumerate(peers))
        return [
            self.binary,
            f"--name=m{number}",
            f"--data-dir={self.folder / str(number)}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peers[number]}",
            f"--initial-advertise-peer-urls={peers[number]}",
            f"--initial-cluster={members}",
        ]

    def version(self) -> str:
        return first_line([self.binary, "--version"])


class RaftMachine(Cluster):
    """Raft Machine with its defaults."""

    name = "Raft Machine"

    def prepare(self):
        (self.folder / "config.json").write_text(json.dumps(self.config(), indent=2))

    def config(self) -> dict:
        """The config of all machines."""
        machines = [
            {
                "name": f"m{number}",
                "peer": f"{HOST}:{self.peers[number]}",
                "client": f"{HOST}:{client}",
            }
            for number, client in enumerate(self.clients)
        ]
        return {
            "domain": "versus",
            "machines": machines,
            "data_dir": str(self.folder / "{name}"),
        }

    def command(self, number: int) -> list[str]:
        config = str(self.folder / "config.json")
        return [self.binary, "--config", config, "--local", f"m{number}"]

    def version(self) -> str:
        return first_line([self.binary, "--version"])


def first_line(command: list[str]) -> str:
    """The first line that a command prints."""
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    return answer.stdout.splitlines()[0]


def free_ports(count: int, kind: int, avoid: tuple | list = ()) -> list[int]:
    """Ports of loopback that were free a moment ago, all different."""
    held, ports = [], []
    while len(ports) < count:
        held.append(socket.socket(socket.AF_INET, kind))
        held[-1].bind((HOST, 0))
        port = held[-1].getsockname()[1]
        if port not in avoid:
            ports.append(port)
    for one in held:
        one.close()
    return ports
