"""The clients whose scripts are run: what each needs, how it is installed, and how its script is started."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent


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

    def command(self, target: Path) -> list[str]:
        """How the script is started, without its arguments."""
        return [str(self.folder / "script")]


CLIENTS = [Client("etcdctl")]
