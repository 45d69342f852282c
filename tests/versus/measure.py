"""What is measured: the load generator's figures, and what the servers used, from /proc."""

import json
import os
import resource
import statistics
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from systems import Cluster, Failure

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
# One client speaks to one machine: to the leader, or luck would decide what is measured.
TO_THE_LEADER = ["--clients", "1", "--target-leader"]
# Far more than a million keys take.
RESTART_SECONDS_MAX = 120


@dataclass(frozen=True)
class Case:
    """One load."""

    name: str
    arguments: list[str]


CASES = [
    Case("put, 1 client", ["put", *TO_THE_LEADER]),
    Case("put, 16 clients", ["put", "--clients", "16"]),
    Case("put, 64 clients", ["put", "--clients", "64"]),
    Case("put, 256 clients", ["put", "--clients", "256"]),
    Case("get, linearizable, 64 clients", ["get", "--clients", "64"]),
    Case("get, serializable, 64 clients", ["get", "--clients", "64", "--serializable"]),
]


def bench(cluster: Cluster, arguments: list[str]) -> dict:
    """Runs `rmctl bench` and gives its figures. A failed request makes the run void."""
    answer = cluster.ask("bench", *arguments, "--output", "json")
    cluster.check_alive()
    if answer.returncode:
        raise Failure(f"{cluster.name}, bench {' '.join(arguments)}: {answer.stderr.strip()}")
    return json.loads(answer.stdout)


def run_case(cluster: Cluster, case: Case, seconds: float) -> dict:
    """One case on a running cluster: a short load that counts for nothing, then the one that is measured."""
    bench(cluster, [*case.arguments, "--seconds", str(min(1.0, seconds))])
    servers_before, client_before = cpu_seconds(cluster.pids), children_cpu_seconds()
    figures = bench(cluster, [*case.arguments, "--seconds", str(seconds)])
    if figures["empty"]:
        raise Failure(f"{cluster.name}, {case.name}: {figures['empty']} keys were not there")
    servers = cpu_seconds(cluster.pids) - servers_before
    client = children_cpu_seconds() - client_before
    return {
        "per_second": figures["requests_per_second"],
        "p50_ms": figures["latency_us"]["p50"] / 1000,
        "p99_ms": figures["latency_us"]["p99"] / 1000,
        "server_cpu_us": servers * 1e6 / figures["requests"],
        "client_cpu_us": client * 1e6 / figures["requests"],
    }


def run_fill(cluster: Cluster, keys: int) -> dict:
    """Many keys into one machine; then how soon it reads again after a stop and after a kill."""
    with PeakMemory(cluster.pids) as peak:
        figures = bench(
            cluster,
            ["put", "--order", "sequential", "--clients", "256"]
            + ["--keys", str(keys), "--total", str(keys)],
        )
    memory = memory_mib(cluster.pids)
    result = {
        "per_second": figures["requests_per_second"],
        "anonymous_mib": memory["anonymous_mib"],
        "anonymous_peak_mib": max(peak.mib["anonymous_mib"], memory["anonymous_mib"]),
        "rss_mib": memory["rss_mib"],
        "disk_mib": disk_mib(cluster.folder),
    }
    cluster.stop()
    result["restart_after_stop_s"] = restart(cluster, keys)
    cluster.kill()
    result["restart_after_kill_s"] = restart(cluster, keys)
    result["anonymous_after_restart_mib"] = memory_mib(cluster.pids)["anonymous_mib"]
    return result


def restart(cluster: Cluster, keys: int) -> float:
    """Starts a machine and gives the seconds to its first linearizable read; all its keys must be there."""
    begin = time.monotonic()
    cluster.start()
    while (answer := cluster.ask("get", f"bench/{keys - 1:010}")).stdout == "":
        cluster.check_alive()
        if time.monotonic() > begin + RESTART_SECONDS_MAX:
            reason = answer.stderr.strip() or "its last key is not there"
            raise Failure(f"{cluster.name} does not read after a restart, for {RESTART_SECONDS_MAX} s: {reason}")
        time.sleep(0.005)
    seconds = time.monotonic() - begin
    found = cluster.ask("get", "bench/", "--prefix", "--count-only").stdout.strip()
    if found != str(keys):
        raise Failure(f"{cluster.name} has {found} of {keys} keys after a restart")
    return seconds


def cpu_seconds(pids: list[int]) -> float:
    """User and system time that the processes have used, in seconds."""
    ticks = 0
    for pid in pids:
        # The name of the program, in brackets, may hold spaces; utime and stime are fields 14 and 15 (proc(5)).
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / TICKS_PER_SECOND


def children_cpu_seconds() -> float:
    """The same for children that have ended: the load generator, since servers run on."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def memory_mib(pids: list[int]) -> dict:
    """Resident and anonymous memory of all the processes, in MiB."""
    total = {"Rss": 0, "Anonymous": 0}
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            name, _, rest = line.partition(":")
            if name in total:
                total[name] += int(rest.split()[0])
    return {"rss_mib": total["Rss"] / 1024, "anonymous_mib": total["Anonymous"] / 1024}


def disk_mib(folder: Path) -> float:
    """What the files of a folder take on the disk, in MiB."""
    return sum(path.stat().st_blocks for path in folder.rglob("*")) * 512 / (1 << 20)


class PeakMemory:
    """Looks at the memory of all the processes twice a second, and keeps the most of each kind."""

    def __init__(self, pids: list[int]):
        self.mib = memory_mib(pids)
        self._pids = list(pids)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()

    def _look(self):
        while not self._over.wait(0.5):
            try:
                now = memory_mib(self._pids)
            except OSError:
                # The process has ended; whoever runs the load will say so.
                return
            self.mib = {kind: max(self.mib[kind], now[kind]) for kind in now}


def medians(runs: list[dict]) -> dict:
    """The median of each figure over several runs."""
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}
