"""Can this machine carry a lab? One plain sentence for each thing that is missing, tried for real where it can be."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from migrator.errors import MigratorError, PermissionDenied, PreconditionFailed, ResourceExhausted
from migrator.lab.rootfs import CACHE_DIR

MIN_FREE_BYTES = 2 << 30
TOOLS = {"ip": "iproute2", "nsenter": "util-linux", "unshare": "util-linux", "mount": "mount", "umount": "mount"}
PR_SET_MM, PR_SET_MM_MAP_SIZE = 35, 15
PROBE_TIMEOUT_S = 20.0


def check_machine() -> None:
    """Check everything a lab needs of the machine, cheapest first.

    Raises:
        PermissionDenied: Not root.
        PreconditionFailed: The kernel or a tool is missing something; the message names it.
        ResourceExhausted: Too little room on the disk.
    """
    for check in CHECKS:
        check()


def check_linux() -> None:
    """Refuse other systems."""
    if not sys.platform.startswith("linux"):
        raise _missing(f"a lab needs Linux, this is {sys.platform}", "not_linux", "run it on a Linux machine")


def check_root() -> None:
    """Refuse users other than root."""
    if os.geteuid() != 0:
        raise PermissionDenied(
            "a lab needs root: it makes namespaces and mounts, and CRIU freezes processes",
            code="not_root",
            remedy="run the command again with sudo",
        )


def check_tools() -> None:
    """Refuse a machine without the few programs that the lab calls."""
    for tool, package in TOOLS.items():
        if not shutil.which(tool):
            raise _missing(f"the program {tool} is not installed", "tool_missing", f"apt-get install {package}")


def check_namespaces() -> None:
    """Refuse a kernel, or a container around us, that does not let us make the namespaces of a host."""
    kinds = {"network": "--net", "mount": "--mount", "UTS": "--uts", "IPC": "--ipc", "cgroup": "--cgroup"}
    for kind, option in kinds.items():
        done = _try(["unshare", option, "true"])
        if done:
            raise _missing(
                f"this machine does not let us make a {kind} namespace: {done}",
                "no_namespaces",
                f"use a kernel with {kind} namespaces, and CAP_SYS_ADMIN if this is a container",
            )


def check_checkpoint_restore() -> None:
    """Refuse a kernel without CONFIG_CHECKPOINT_RESTORE: only with it does this prctl answer."""
    size = ctypes.c_uint(0)
    done = ctypes.CDLL(None).prctl(PR_SET_MM, PR_SET_MM_MAP_SIZE, ctypes.byref(size), 0, 0)
    if done != 0 or size.value == 0:
        raise _missing(
            "this kernel is built without CONFIG_CHECKPOINT_RESTORE, so CRIU cannot work",
            "no_checkpoint_restore",
            "boot a kernel that has it (Debian's and Ubuntu's own kernels do)",
        )


def check_overlayfs() -> None:
    """Mount an overlay where the hosts' disks will be: it must be there, and not lie on an overlay itself."""
    CACHE_DIR.mkdir(mode=0o755, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="probe-", dir=CACHE_DIR) as scratch:
        for part in ("lower", "upper", "work", "root"):
            (Path(scratch) / part).mkdir()
        options = f"lowerdir={scratch}/lower,upperdir={scratch}/upper,workdir={scratch}/work"
        # In a mount namespace of its own: the mount ends with the command, whatever happens to us.
        failure = _try(["unshare", "--mount", "mount", "-t", "overlay", "overlay", "-o", options, f"{scratch}/root"])
    if failure:
        raise _missing(
            f"overlayfs does not work on {CACHE_DIR}: {failure}",
            "no_overlayfs",
            "load the module overlay, and let /var/lib be on a real disk, not on an overlay",
        )


def check_disk() -> None:
    """Refuse to begin with less than 2 GiB of free disk."""
    CACHE_DIR.mkdir(mode=0o755, parents=True, exist_ok=True)
    free = shutil.disk_usage(CACHE_DIR).free
    if free < MIN_FREE_BYTES:
        raise ResourceExhausted(
            f"only {free / (1 << 30):.1f} GiB free under {CACHE_DIR}, a lab needs {MIN_FREE_BYTES >> 30} GiB",
            code="disk_full",
            remedy="make room on that disk",
        )


CHECKS: tuple[Callable[[], None], ...] = (
    check_linux, check_root, check_tools, check_namespaces, check_checkpoint_restore, check_overlayfs, check_disk,
)  # fmt: skip


def _try(command: list[str]) -> str:
    """Run a command; return what it complained of, or nothing when it went well."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PROBE_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1] if done.returncode else ""


def _missing(message: str, code: str, remedy: str) -> MigratorError:
    return PreconditionFailed(message, code=code, remedy=remedy)
