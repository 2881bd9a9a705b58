"""Images of programs beside these tests, with Debian's packages from a root of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from migrator.lab.images import build_image
from migrator.lab.recipes import IMAGES_DIR
from tests.workloads.outside import PROGRAMS_DIR
from tests.workloads.root import program_root
from tests.workloads.workload import Workload

SHARED = ("witness.py", "line.py")
LEFT_OUT = (
    *(
        "adduser",
        "ca-certificates",
        "ca-certificates-java",
        "debconf",
        "init-system-helpers",
        "iproute2",
        "libpam-runtime",
    ),
    *(
        "locales",
        "media-types",
        "nginx-common",
        "node-corepack",
        "openssl",
        "perl",
        "perl-base",
        "postgresql-client-common",
    ),
    *("postgresql-common", "procps", "runit-helper", "ssl-cert", "sysvinit-utils", "ucf", "util-linux"),
)
"""What packages depend on to be installed, and not to run."""


class Program(Workload):
    """A program of `programs/`, alone or with the server that it starts and asks.

    Args:
        program: File name; a Python program.
        arguments: What it is given.
        packages: Debian packages besides Python.
        files: Further files of the image by their path in it.
        run_options: What `ctr run` is told besides.
        outside: Whether its clients are on another host and reach it by the network; the program has two sides then.
        volume: A directory that comes from its host and is copied when it moves.
        name: The program's own name when not given.
        wide: Whether `make test` leaves it to `make test-wide`.
    """

    def __init__(
        self,
        program: str,
        *arguments: str,
        packages: Sequence[str] = (),
        files: Mapping[str, bytes | Path] | None = None,
        run_options: tuple[str, ...] = (),
        outside: bool = False,
        volume: str | None = None,
        name: str | None = None,
        wide: bool = False,
    ):
        self.name = name or Path(program).stem
        self.program = program
        self.arguments = arguments
        self.packages = packages
        self.files = files or {}
        self.run_options = run_options
        self.volume = volume
        self.command = ("/usr/bin/python3", "-B", f"/opt/{program}", *arguments)
        self.client = self.command if outside else ()
        self.wide = wide

    def image(self, root: Path) -> Path:
        ours = {f"/opt/{file}": PROGRAMS_DIR / file for file in (*SHARED, self.program)}
        return build_image(
            program_root(),
            IMAGES_DIR,
            name=f"migrator.local/{self.name}:1",
            base=["dash", "python3"],
            packages=self.packages,
            without=LEFT_OUT,
            files={**ours, **self.files},
            entrypoint=self.command,
        )
