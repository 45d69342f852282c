"""etcdctl, run as a person would run it, and what it prints without what no two clusters have in common."""

import os
import re
import shlex
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

# Much longer than anything takes: nothing here is about time.
PATIENCE_SECONDS = 60

FORMATS = ("simple", "json", "fields", "table", "protobuf")

# What is particular to one run, by pattern. Names of what is known (members, leases) come before.
PARTICULAR = [
    (r'"ts":(?:"[^"]*"|[\d.]+)', '"ts":WHEN'),
    (r'"took":[\d.]+', '"took":<time>'),
    (r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+ \w \| ", ""),
    (r"client-[0-9a-f-]{36}", "<client>"),
    # But for the time of a lease, which is told in brackets.
    (r"(?<!\()\b\d+(\.\d+)?(ms|µs|s)\b", "<time>"),
    (r"\b\d+(\.\d+)? ?[kMG]?B\b", "<size>"),
    (r"\b3\.\d+\.\d+\b", "<version>"),
    (r'("(?:RaftTerm|RaftIndex|RaftAppliedIndex|DBSize|Hash)" : )\d+', r"\1N"),
    (r'("(?:raft_?[tT]erm|raftIndex|raftAppliedIndex|dbSize|dbSizeInUse|hash)":)\d+', r"\1N"),
    (r"(, (?:true|false), (?:true|false)), \d+, \d+, \d+,", r"\1, N, N, N,"),
    (r"(\| +(?:true|false) \| +(?:true|false) \|) +\d+ \| +\d+ \| +\d+ \|", r"\1 N | N | N |"),
    # A header in the format of protocol buffers: cluster, member, revision, term.
    (r"^((?:1\.)?1: <cluster>\n(?:1\.)?2: <.*>\n(?:(?:1\.)?3: \d+\n)?(?:1\.)?4: )\d+", r"\1N"),
    (r"[-+]{4,}", "----"),
    (r" +", " "),
]


class Etcdctl:
    """Runs commands and prints what comes of them, a step each."""

    def __init__(self, endpoints: list[str], folder: Path):
        self.endpoints = endpoints
        # Those that are asked where a command does not say it.
        self.asked = endpoints
        self.folder = folder
        # What stands in the place of what is particular to this cluster.
        self.names: dict[str, str] = {}
        self.leases = 0

    def __call__(
        self,
        command: str,
        input: str = "",
        ordered: bool = False,
        silent: bool = False,
        learn: Callable[[str], object] | None = None,
        patience_seconds: int = PATIENCE_SECONDS,
    ) -> str:
        """Runs a command to its end; what it printed, as it is. `ordered`: its lines come in an order by chance.
        `learn` finds names in what was printed, before it is shown."""
        ended = subprocess.run(
            self.words(command), env=self.environment(command), cwd=self.folder, input=input, stderr=subprocess.STDOUT,
            stdout=subprocess.PIPE, encoding="utf-8", errors="backslashreplace", timeout=patience_seconds, check=False,
        )  # fmt: skip
        if learn:
            learn(ended.stdout)
        if not silent:
            self.show(command, typed(input) + ended.stdout, ended.returncode, ordered)
        return ended.stdout

    def start(self, command: str, input: str | None = "") -> "Running":
        """Starts a command that does not end by itself. Without an input it can be written to."""
        return Running(self, command, input)

    def formats(self, command: str, formats: tuple[str, ...] = FORMATS, **options):
        """Runs a command once in each format."""
        for form in formats:
            if form == "protobuf":
                self.protobuf(command, **options)
            else:
                self(f"{command} -w {form}", **options)

    def protobuf(self, command: str, input: str = ""):
        """Runs a command in the format of protocol buffers, which is shown by field numbers."""
        command += " -w protobuf"
        ended = subprocess.run(
            self.words(command), env=self.environment(command), cwd=self.folder, input=input.encode(), capture_output=True,
            timeout=PATIENCE_SECONDS, check=False,
        )  # fmt: skip
        text = ended.stderr.decode() if ended.returncode else fields(ended.stdout)
        self.show(command, typed(input) + text, ended.returncode)

    def show(self, command: str, text: str, code: int = 0, ordered: bool = False):
        """Prints a step."""
        print("--", self.normalised(command))
        lines = self.normalised(text).splitlines()
        for line in sorted(lines) if ordered else lines:
            print("|" + line)
        if code:
            print("exit", code)

    def known(self, name: str, *texts: str):
        """Has a name stand for texts from now on."""
        for text in texts:
            self.names[text] = f"<{name}>"

    def lease(self, ttl: str = "1000") -> str:
        """Grants a lease, and names it; its id."""
        found = []

        def learn(printed: str):
            found.extend(re.findall(r"lease ([0-9a-f]+) granted", printed))
            self.leases += 1
            self.known(f"lease {self.leases}", *found, *(str(int(lease, 16)) for lease in found))

        printed = self(f"lease grant {ttl}", learn=learn)
        if not found:
            raise SystemExit(f"no lease was granted: {printed}")
        return found[0]

    def normalised(self, text: str) -> str:
        """A text without what is particular to this run."""
        # Long ones first: one may be a part of another.
        for particular in sorted(self.names, key=len, reverse=True):
            text = re.sub(rf"(?<![0-9a-f]){re.escape(particular)}(?![0-9a-f])", self.names[particular], text)
        for pattern, name in PARTICULAR:
            text = re.sub(pattern, name, text, flags=re.MULTILINE)
        # A map, which etcdctl prints in an order by chance.
        return re.sub(r'(?<=^ETCD_INITIAL_CLUSTER=")[^"]*', in_order, text, flags=re.MULTILINE)

    def words(self, command: str) -> list[str]:
        return ["etcdctl", *shlex.split(command)]

    def environment(self, command: str) -> dict[str, str]:
        """The global flags that a command has not: etcdctl takes them from here too, and refuses one that it has twice."""
        flags = {
            "endpoints": ",".join(self.asked),
            "command-timeout": f"{PATIENCE_SECONDS}s",
            "dial-timeout": f"{PATIENCE_SECONDS}s",
        }
        flags = {name: value for name, value in flags.items() if f"--{name}" not in command}
        variables = {"ETCDCTL_" + name.upper().replace("-", "_"): value for name, value in flags.items()}
        return os.environ | {"ETCDCTL_API": "3"} | variables


class Running:
    """A command that goes on until it is ended."""

    def __init__(self, etcdctl: Etcdctl, command: str, input: str | None):
        self.etcdctl = etcdctl
        self.command = command
        self.printed = ""
        self.news = threading.Condition()
        self.process = subprocess.Popen(
            etcdctl.words(command), env=etcdctl.environment(command), cwd=etcdctl.folder, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8",
        )  # fmt: skip
        if input is not None:
            self.process.stdin.write(input)
            self.process.stdin.flush()
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            with self.news:
                self.printed += line
                self.news.notify_all()
        with self.news:
            self.news.notify_all()

    def until(self, text: str) -> "Running":
        """Waits until it has printed a text."""
        with self.news:
            seen = self.news.wait_for(lambda: text in self.printed, PATIENCE_SECONDS)
        if not seen:
            raise SystemExit(f"`{self.command}` does not print {text!r} but {self.printed!r}")
        return self

    def write(self, text: str):
        """Types something in."""
        self.process.stdin.write(text)
        self.process.stdin.flush()

    def end(self, how: int = signal.SIGINT) -> str:
        """Interrupts it, and shows all that it printed."""
        self.process.send_signal(how)
        return self.ended(how != signal.SIGKILL)

    def ended(self, with_code: bool = True) -> str:
        """Waits until it has ended, and shows all that it printed."""
        self.process.stdin.close()
        code = self.process.wait(PATIENCE_SECONDS)
        self.reader.join(PATIENCE_SECONDS)
        self.etcdctl.show(self.command, self.printed, code if with_code else 0)
        return self.printed


def in_order(found: re.Match) -> str:
    """A list with commas, by the alphabet."""
    return ",".join(sorted(found[0].split(",")))


def typed(input: str) -> str:
    """What was typed in, to be shown before what came of it; not all of it where it is long."""
    return "".join(f"< {line[:80]}\n" for line in input.splitlines()[:10])


def fields(message: bytes) -> str:
    """A message of protocol buffers without its schema, a field a line by its path of numbers."""
    return "\n".join(decoded(message, "") or ["not a message"])


def decoded(message: bytes, path: str) -> list[str] | None:
    """The lines of a message, or nothing where it is none."""
    lines, at = [], 0
    try:
        while at < len(message):
            key, at = varint(message, at)
            number, kind = key >> 3, key & 7
            if number == 0:
                return None
            if kind == 0:
                value, at = varint(message, at)
                lines.append(f"{path}{number}: {value}")
            elif kind == 2:
                length, at = varint(message, at)
                piece, at = message[at : at + length], at + length
                if len(piece) < length:
                    return None
                lines += decoded(piece, f"{path}{number}.") or [f"{path}{number}: {piece!r}"]
            else:
                return None
    except IndexError:
        return None
    return lines


def varint(message: bytes, at: int) -> tuple[int, int]:
    """A number of variable length, and where it ends."""
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
