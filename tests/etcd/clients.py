"""The clients whose scripts are run: what each needs, how it is installed, and how its script is started."""

import importlib.util
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent

# What is written into an installed folder when it is whole.
STAMP = "installed"


class Missing(Exception):
    """Something that has to be installed first; its text says what, and how."""


@dataclass
class Client:
    """One client. Its script is told a folder of its own and the machines' addresses, and prints what came of each step."""

    name: str
    # Programs that must be there, each with Debian's package that has it.
    programs: dict[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        return HERE / self.name

    @property
    def differences(self) -> Path:
        """The file of the differences that are expected."""
        return self.folder / "differences.toml"

    def check(self):
        """Fails when a program is missing."""
        for program, package in self.programs.items():
            if shutil.which(program) is None:
                raise Missing(f"the client {self.name} needs {program}, which is not in PATH (Debian: {package})")

    def install(self, target: Path):
        """Installs what the script needs into a folder, unless it is there; etcdctl needs nothing more."""

    def command(self, target: Path, script: str) -> list[str]:
        """How a script, `script` or `faults`, is started, without its arguments."""
        return [str(self.folder / script)]


@dataclass
class Python(Client):
    """A client of PyPI, in a virtual environment."""

    def check(self):
        super().check()
        if importlib.util.find_spec("ensurepip") is None:
            raise Missing(f"the client {self.name} needs Python's venv with pip (Debian: python3-venv)")

    def install(self, target: Path):
        folder = target / self.name
        wanted = (self.folder / "requirements.txt").read_text()
        if is_installed(folder, wanted):
            return
        shutil.rmtree(folder, ignore_errors=True)
        run(self.name, sys.executable, "-m", "venv", folder)
        run(self.name, folder / "bin" / "pip", "install", "--quiet", "--requirement", self.folder / "requirements.txt")
        (folder / STAMP).write_text(wanted)

    def command(self, target: Path, script: str) -> list[str]:
        return [str(target / self.name / "bin" / "python"), str(self.folder / f"{script}.py")]


@dataclass
class Node(Client):
    """A client of npm, in a folder that its script is told by NODE_PATH."""

    def install(self, target: Path):
        folder = target / self.name
        wanted = (self.folder / "package-lock.json").read_text()
        if is_installed(folder, wanted):
            return
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for file in "package.json", "package-lock.json":
            shutil.copy(self.folder / file, folder)
        run(self.name, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", cwd=folder)
        (folder / STAMP).write_text(wanted)

    def command(self, target: Path, script: str) -> list[str]:
        modules = target / self.name / "node_modules"
        return ["env", f"NODE_PATH={modules}", "node", str(self.folder / f"{script}.js")]


@dataclass
class Rust(Client):
    """A client of crates.io, in a workspace of its own. Cargo itself knows what has to be built."""

    def install(self, target: Path):
        manifest = self.folder / "Cargo.toml"
        run(self.name, "cargo", "build", "--quiet", "--locked", "--manifest-path", manifest, "--target-dir", target / self.name)

    def command(self, target: Path, script: str) -> list[str]:
        return [str(target / self.name / "debug" / "rm-conformance"), script]


def is_installed(folder: Path, wanted: str) -> bool:
    """Whether a folder has been installed whole, with these versions."""
    stamp = folder / STAMP
    return stamp.exists() and stamp.read_text() == wanted


def run(client: str, *command: str | Path, **options):
    """Runs a program that installs something, quietly."""
    ended = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, **options)
    if ended.returncode:
        program = " ".join(map(str, command[:4]))
        raise Missing(f"the client {client} cannot be installed: {program} ..: {ended.stderr or ended.stdout}")


CLIENTS = [
    Client("etcdctl"),
    Python("python"),
    Node("node", {"node": "nodejs", "npm": "npm"}),
    Rust("rust", {"cargo": "cargo", "protoc": "protobuf-compiler and libprotobuf-dev"}),
]
