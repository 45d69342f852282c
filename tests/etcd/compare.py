"""What two systems answered to the same script, compared step by step, beside the differences that are expected.

A script prints `== NAME` before a scenario and `-- NAME` before a step; what follows is the step's outcome."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

Steps = dict[str, str]


@dataclass
class Difference:
    """A step that has another outcome with each system, and the words of docs/etcd.md that say why."""

    step: str
    reason: str
    etcd: str
    raft_machine: str


def steps(output: str) -> Steps:
    """The outcome of each step, by `SCENARIO: STEP`; one that comes again is numbered."""
    found: Steps = {}
    scenario, name = "", ""
    for line in output.splitlines():
        if line.startswith("== "):
            scenario, name = line[3:], ""
        elif line.startswith("-- "):
            name = numbered(f"{scenario}: {line[3:]}", found)
            found[name] = ""
        elif name:
            found[name] += line.rstrip() + "\n"
        else:
            raise ValueError(f"{line!r} stands before the first step of {scenario!r}")
    return found


def numbered(name: str, taken: Steps) -> str:
    """The name, with a number behind it if it is taken."""
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name} ({number})"
    return free


def expected(file: Path) -> list[Difference]:
    """The differences that are written down in a file."""
    with open(file, "rb") as text:
        return [Difference(**entry) for entry in tomllib.load(text).get("difference", [])]


def faults(etcd: Steps, raft_machine: Steps, differences: list[Difference], document: str) -> list[str]:
    """What is not as it should be, each as a text for people; none if the systems differ only where it is expected."""
    found = []
    prose = words(document)
    known = {}
    for difference in differences:
        if difference.step in known:
            found.append(f"the difference of `{difference.step}` is written down twice")
        if not difference.reason or words(difference.reason) not in prose:
            found.append(f"docs/etcd.md does not say {difference.reason!r}, the reason given for `{difference.step}`")
        known[difference.step] = difference
    for step in dict.fromkeys([*etcd, *raft_machine, *known]):
        theirs, ours = etcd.get(step), raft_machine.get(step)
        difference = known.get(step)
        if difference is None and theirs != ours:
            found.append(f"the systems differ\n{entry(step, theirs, ours)}")
        elif difference and (theirs, ours) == (None, None):
            found.append(f"no step is called `{step}`, of which a difference is expected")
        elif difference and theirs == ours:
            found.append(f"a difference is expected and is not there\n{entry(step, theirs, ours)}")
        elif difference and (theirs, ours) != (difference.etcd, difference.raft_machine):
            found.append(f"the systems differ otherwise than expected\n{entry(step, theirs, ours)}")
    return found


def words(text: str) -> str:
    """A text without its line breaks."""
    return " ".join(text.split())


def entry(step: str, etcd: str | None, raft_machine: str | None) -> str:
    """What was seen, in the form in which it would be written down as expected."""
    lines = ["[[difference]]", f"step = {quoted(step)}", 'reason = ""']
    for name, outcome in ("etcd", etcd), ("raft_machine", raft_machine):
        lines.append(f"{name} = " + ("MISSING" if outcome is None else block(outcome)))
    return "\n".join(lines) + "\n"


def quoted(text: str) -> str:
    """A TOML string of one line."""
    return f"'{text}'" if "'" not in text else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def block(text: str) -> str:
    """A TOML string of several lines."""
    if "'''" in text:
        return '"""\n' + text.replace("\\", "\\\\").replace('"', '\\"') + '"""'
    return f"'''\n{text}'''"
