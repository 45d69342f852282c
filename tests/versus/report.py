"""The tables, in Markdown: medians of each system side by side, and their ratio."""

import os
import platform
from pathlib import Path

from measure import CASES, medians

FIGURES = {
    "per_second": ("requests/s", "{:,.0f}"),
    "p50_ms": ("p50 ms", "{:.2f}"),
    "p99_ms": ("p99 ms", "{:.2f}"),
    "server_cpu_us": ("server CPU us a request", "{:.1f}"),
}
MEMORY = {
    "rss_mib": ("resident, MiB", "{:,.0f}"),
    "anonymous_mib": ("anonymous, MiB", "{:,.0f}"),
}
FILL = {
    "per_second": ("puts/s while filling", "{:,.0f}"),
    "anonymous_mib": ("anonymous memory when full, MiB", "{:,.0f}"),
    "anonymous_peak_mib": ("the most while filling, MiB", "{:,.0f}"),
    "rss_mib": ("resident memory when full, MiB", "{:,.0f}"),
    "disk_mib": ("on disk, MiB", "{:,.0f}"),
    "restart_after_stop_s": ("stopped, started: first read after s", "{:.2f}"),
    "restart_after_kill_s": ("killed, started: first read after s", "{:.2f}"),
    "anonymous_after_restart_mib": ("anonymous memory after the restart, MiB", "{:,.0f}"),
}


def report(result: dict) -> str:
    """Everything that was measured, for people."""
    names = list(result["versions"])
    parts = [heading(result)]
    if result["cases"]:
        rows = []
        for case in CASES:
            if case.name in result["cases"]:
                rows += figures(names, result["cases"][case.name], FIGURES, case.name)
        parts.append(table(["case", "figure", *systems(names)], rows))
    if result["memory"]:
        rows = figures(names, result["memory"], MEMORY)
        parts.append("Memory of the three machines together, after these loads:\n")
        parts.append(table(["figure", *systems(names)], rows))
    if result["fill"]:
        rows = figures(names, result["fill"], FILL)
        parts.append(f"{result['fill_keys']:,} keys of 16 bytes with values of 256 into one machine, once each:\n")
        parts.append(table(["figure", *systems(names)], rows))
    return "\n".join(parts)


def heading(result: dict) -> str:
    """On what, with what and how it was measured."""
    versions = "; ".join(f"{name}: {version}" for name, version in result["versions"].items())
    return (
        f"{result['date']}; {os.cpu_count()} cores of {processor()}; Linux {platform.release()}; "
        f"data on {result['filesystem']}. {versions}. Three machines and the load generator on this host, "
        f"one system at a time, fresh data, default durability, values of 256 bytes, "
        f"medians of {result['rounds']} rounds of {result['seconds']:g} s each, in turn.\n"
    )


def figures(names: list[str], runs: dict, kinds: dict, *leading: str) -> list[list[str]]:
    """A row for each kind of figure."""
    found = {name: medians(runs[name]) for name in names}
    rows = []
    for kind, (label, form) in kinds.items():
        values = [found[name][kind] for name in names]
        shown = [form.format(value) for value in values]
        if len(names) == 2:
            # A duration below what the clock tells apart has no ratio.
            shown.append(f"{values[1] / values[0]:.2f}" if values[0] else "")
        rows.append([*leading, label, *shown])
    return rows


def systems(names: list[str]) -> list[str]:
    """The headings of the columns with numbers: each system, then which is divided by which."""
    return [*names, f"{names[1]} / {names[0]}"] if len(names) == 2 else names


def table(headings: list[str], rows: list[list[str]]) -> str:
    """A table. Columns of numbers, which are those after the label of the figure, stand to the right."""
    texts = headings.index("figure") + 1
    rule = ["---" if column < texts else "---:" for column in range(len(headings))]
    lines = [headings, rule, *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def processor() -> str:
    """The processor's name, as far as the kernel tells."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def filesystem(folder: Path) -> str:
    """The kind of filesystem that a folder lies on."""
    best = ("", "unknown")
    for line in Path("/proc/mounts").read_text().splitlines():
        _, mount, kind, *_ = line.split()
        if folder.is_relative_to(mount) and len(mount) >= len(best[0]):
            best = (mount, kind)
    return best[1]
