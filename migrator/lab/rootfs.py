"""The root file system that every lab host is a copy-on-write view of: Debian's packages plus our Python libraries.

Built once per recipe into `CACHE_DIR/root-HASH`, in a directory beside it that is renamed when whole. Nothing is
fetched when it is there already, so a lab works offline after its first start.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from migrator.errors import InternalError, PreconditionFailed, Unavailable
from migrator.lab import requirements
from migrator.lab.lock import exclusive
from migrator.lab.mirror import find_mirror

CACHE_DIR = Path("/var/lib/migrator-lab")
SUITE = "forky"  # the first Debian whose CRIU (4.2) dumps sockets on kernels from 6.16 on
PACKAGES = (
    "busybox",
    "ca-certificates",
    "containerd",
    "containernetworking-plugins",
    "criu",
    "iproute2",
    "iptables",
    "iputils-ping",
    "nftables",
    "postgresql",
    "procps",
    "python3",
    "redis-server",
    "runc",
)
RECIPE_VERSION = 3
"""Raise it when the way of building changes, so that old roots are not taken for new ones."""
BUILD_DEADLINE_S = 1200
TOOL_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

Progress = Callable[[str], None]
"""Told one short line at the start of each part of a long work."""


@dataclass(frozen=True)
class Recipe:
    """All that decides what is in the root; equal recipes share one root."""

    suite: str = SUITE
    packages: tuple[str, ...] = PACKAGES
    python: tuple[str, ...] = field(default_factory=requirements.host_requirements)
    version: int = RECIPE_VERSION
    besides: tuple[str, ...] = ()
    """Further suites, for packages that are written `NAME/SUITE`."""

    @property
    def digest(self) -> str:
        """Twelve hex digits that name this recipe."""
        text = json.dumps([self.version, self.suite, self.packages, self.python, *self.besides])
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def path(self) -> Path:
        """Where the built root lies, or will lie."""
        return CACHE_DIR / f"root-{self.digest}"


def silent(_: str) -> None:
    """Show no progress."""


def ensure_root(progress: Progress = silent, recipe: Recipe | None = None) -> Path:
    """Return the built root, building it first when it is missing.

    Raises:
        PreconditionFailed: The machine has no apt sources to build from.
        Unavailable: A package could not be fetched; the message carries the tool's last lines.
    """
    recipe = recipe or Recipe()
    if recipe.path.is_dir():
        return recipe.path
    CACHE_DIR.mkdir(mode=0o755, parents=True, exist_ok=True)
    with exclusive(CACHE_DIR / "build.lock", timeout_s=BUILD_DEADLINE_S):
        if not recipe.path.is_dir():
            _build(recipe, progress)
    return recipe.path


def _build(recipe: Recipe, progress: Progress) -> None:
    for stale in CACHE_DIR.glob("building-*"):
        shutil.rmtree(stale, ignore_errors=True)
    scratch = Path(tempfile.mkdtemp(prefix="building-", dir=CACHE_DIR))
    try:
        root = scratch / "root"
        _install_bootstrap_tool(progress)
        _bootstrap(root, recipe, progress)
        if recipe.python:
            _install_python_libraries(root, recipe, progress)
        _prepare_mount_points(root)
        root.chmod(0o755)
        root.rename(recipe.path)
        progress(f"root file system ready: {recipe.path}")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _install_bootstrap_tool(progress: Progress) -> None:
    if shutil.which("mmdebstrap", path=TOOL_PATH):
        return
    if not shutil.which("apt-get", path=TOOL_PATH):
        raise PreconditionFailed(
            "this machine has no apt-get, and the lab's root file system is made of Debian packages",
            code="no_apt",
            remedy="run the lab on Debian or a system derived from it",
        )
    progress("installing mmdebstrap")
    _run(["apt-get", "update", "-q"], "apt-get update")
    _run(["apt-get", "install", "-q", "-y", "--no-install-recommends", "mmdebstrap"], "installing mmdebstrap")


def _bootstrap(root: Path, recipe: Recipe, progress: Progress) -> None:
    progress(f"fetching Debian {recipe.suite} with {', '.join(recipe.packages)} (about half a minute)")
    mirror = find_mirror()
    command = ["mmdebstrap", "--mode=root", "--variant=minbase", f"--include={','.join(recipe.packages)}"]
    # A mirror may hold a testing suite that is some weeks old.
    command += ['--aptopt=Acquire::Check-Valid-Until "false"', '--aptopt=Acquire::Retries "3"']
    command += [f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in ("doc", "man", "info", "locale")]
    # No cluster of PostgreSQL's at install time: the lab makes its own when asked to. Java wants a place for its pages.
    command += [
        '--essential-hook=mkdir -p "$1/etc/postgresql-common" "$1/usr/share/man/man1"; '
        'echo create_main_cluster=false > "$1/etc/postgresql-common/createcluster.conf"'
    ]
    command += [f'--aptopt=APT::Default-Release "{recipe.suite}"'] if recipe.besides else []
    command += [recipe.suite, str(root), *(f"deb {mirror} {suite} main" for suite in (recipe.suite, *recipe.besides))]
    _run(command, f"bootstrapping Debian {recipe.suite}", progress)


def _install_python_libraries(root: Path, recipe: Recipe, progress: Progress) -> None:
    version = _python_version(root)
    progress(f"installing {len(recipe.python)} Python libraries for Python {version}")
    target = root / "opt/migrator/deps"
    target.mkdir(parents=True)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--target", str(target)]
    command += ["--python-version", version, "--only-binary=:all:", "--upgrade", *recipe.python]
    _run(command, "installing Python libraries")
    # Every host starts several Python processes: without byte code each would compile the libraries again.
    _run(["chroot", str(root), "python3", "-m", "compileall", "-q", "/opt/migrator/deps"], "compiling libraries")


def _python_version(root: Path) -> str:
    for name in sorted((root / "usr/bin").glob("python3.[0-9]*")):
        if name.name.removeprefix("python").replace(".", "").isdigit():
            return name.name.removeprefix("python")
    raise InternalError(f"no Python in the new root file system {root}", code="lab_root_broken")


def _prepare_mount_points(root: Path) -> None:
    for path in ("opt/migrator/lib/migrator", "var/lib/containerd", "var/lib/migrator", "run"):
        (root / path).mkdir(parents=True, exist_ok=True)
    for taken_from_this_machine in ("etc/resolv.conf", "etc/hostname"):
        (root / taken_from_this_machine).unlink(missing_ok=True)
    (root / "opt/cni").mkdir(parents=True)  # where everybody but Debian looks for plug-ins
    (root / "opt/cni/bin").symlink_to("/usr/lib/cni")
    command = root / "usr/local/bin/migrator"
    command.write_text('#!/bin/sh\nexec /usr/bin/python3 -m migrator "$@"\n')
    command.chmod(0o755)
    shutil.rmtree(root / "var/lib/apt/lists", ignore_errors=True)


def _run(command: list[str], what: str, progress: Progress = silent) -> None:
    """Run a tool, and pass its own lines of progress (`I: …`) on."""
    tail: deque[str] = deque(maxlen=3)
    with subprocess.Popen(
        ["timeout", str(BUILD_DEADLINE_S), *command],
        env=requirements.pip_environment() | {"PATH": TOOL_PATH, "LC_ALL": "C.UTF-8"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as tool:
        for line in tool.stdout or ():
            tail.append(line.strip())
            if line.startswith("I: "):
                progress("  " + line.removeprefix("I: ").strip())
    if tool.returncode:
        raise Unavailable(
            f"{what} failed with status {tool.returncode}: {' | '.join(tail)}",
            code="lab_build_failed",
            remedy="check that apt and pip can reach their package sources, then run `migrator lab build` again",
        )
