"""Turns one process into a lab host: enters its namespaces, builds its mounts, becomes its init.

Run as a program of its own, with the machine's Python and nothing but the standard library, because namespaces are
entered by a process as a whole and the caller has threads. Takes one JSON argument (see `host.boot_plan`); says on
stderr in one line what failed.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

_LIBC = ctypes.CDLL(None, use_errno=True)

CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x02000000, 0x04000000, 0x08000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 1, 2, 4, 8, 32
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
MNT_DETACH = 2
INSIDE_PYTHON = "/usr/bin/python3"


def _check(result: int, what: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def mount(source: str, target: Path | str, kind: str = "", flags: int = 0, data: str = "") -> None:
    """Mount a file system; arguments as in the system call."""
    done = _LIBC.mount(source.encode(), str(target).encode(), kind.encode(), ctypes.c_ulong(flags), data.encode())
    _check(done, f"mounting {kind or source} on {target}")


def bind(source: str, target: Path, *, read_only: bool = False) -> None:
    """Show `source` at `target`, which is made if it is not there."""
    target.mkdir(parents=True, exist_ok=True)
    mount(source, target, flags=MS_BIND)
    if read_only:
        mount(source, target, flags=MS_BIND | MS_REMOUNT | MS_RDONLY)


def enter_namespaces(plan: dict[str, Any]) -> None:
    """Join the host's cgroups and network, then take new mount, UTS, IPC and cgroup namespaces.

    The cgroup namespace comes last: its root is the cgroup the process is in at that moment.
    """
    for directory in plan["cgroups"]:
        (Path(directory) / "cgroup.procs").write_text("0")
    with Path(plan["network"]).open() as network:
        _check(_LIBC.setns(network.fileno(), 0), "entering the host's network namespace")
    _check(_LIBC.unshare(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWCGROUP), "making namespaces")
    socket.sethostname(plan["name"])


def build_root(plan: dict[str, Any]) -> Path:
    """Mount the host's root file system and all that belongs in it; return where it is."""
    mount("none", "/", flags=MS_REC | MS_PRIVATE)
    disk = Path(plan["disk"])
    root = disk / "root"
    for part in ("upper", "work", "root"):
        (disk / part).mkdir(parents=True, exist_ok=True)
    layers = f"lowerdir={plan['lower']},upperdir={disk}/upper,workdir={disk}/work"
    mount("overlay", root, "overlay", data=layers)
    mount("proc", root / "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    mount("sysfs", root / "sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    mount("/dev", root / "dev", flags=MS_BIND | MS_REC)
    if (root / "dev/shm").is_dir():
        mount("tmpfs", root / "dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")
    mount("tmpfs", root / "run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755")
    (root / "run/lock").mkdir(mode=0o1777)
    for source, target, read_only in plan["binds"]:
        bind(source, root / target.lstrip("/"), read_only=read_only)
    (root / "etc/hosts").write_text(plan["hosts_text"])
    (root / "etc/hostname").write_text(plan["name"] + "\n")
    return root


def mount_cgroups(plan: dict[str, Any], root: Path) -> None:
    """Mount every hierarchy afresh, so that the host's own cgroup is the root of what it sees."""
    base = root / "sys/fs/cgroup"
    flags = MS_NOSUID | MS_NODEV | MS_NOEXEC
    kinds = plan["hierarchies"]
    if len(kinds) == 1 and kinds[0]["unified"]:
        mount("cgroup2", base, "cgroup2", flags)
        _enter_leaf(base, plan["leaf"])
        return
    mount("tmpfs", base, "tmpfs", flags, "mode=755")
    for kind in kinds:
        place = base / kind["place"]
        place.mkdir()
        if kind["unified"]:
            mount("cgroup2", place, "cgroup2", flags)
            _enter_leaf(place, plan["leaf"])
        else:
            mount("cgroup", place, "cgroup", flags, kind["options"])
            for controller in kind["place"].split(",") if "," in kind["place"] else ():
                (base / controller).symlink_to(kind["place"])


def _enter_leaf(base: Path, leaf: str) -> None:
    (base / leaf).mkdir(exist_ok=True)
    (base / leaf / "cgroup.procs").write_text("0")
    for controller in (base / "cgroup.controllers").read_text().split():
        # A controller that cannot be handed on is then missing on the host, as on any machine without it.
        with contextlib.suppress(OSError):
            (base / "cgroup.subtree_control").write_text(f"+{controller}")


def pivot(root: Path) -> None:
    """Make `root` the root directory. Not chroot: CRIU refuses tasks whose root is not their mount namespace's."""
    os.chdir(root)
    _check(_LIBC.pivot_root(b".", b"."), "pivot_root")
    _check(_LIBC.umount2(b".", MNT_DETACH), "leaving the machine's root")
    os.chdir("/")


def _start_time(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


def become_host(plan: dict[str, Any]) -> None:
    """Do all of it, then replace this process by the host's init."""
    enter_namespaces(plan)
    pid_file = Path(plan["pid_file"])
    pid_file.parent.mkdir(parents=True, exist_ok=True)
    pid_file.write_text(f"{os.getpid()} {_start_time(os.getpid())}\n")
    root = build_root(plan)
    mount_cgroups(plan, root)
    pivot(root)
    os.umask(0o022)
    os.execve(INSIDE_PYTHON, [INSIDE_PYTHON, "-I", "-S", plan["init"]], plan["environment"])


def main() -> int:
    """Detach twice, so that init belongs to nobody; wait until it runs or fails."""
    plan = json.loads(sys.argv[1])
    reading, writing = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        os.setsid()
        if os.fork() == 0:
            _run_child(plan, writing)
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading) as report:
        failure = report.read()  # ends without a word when exec closes the pipe
    if failure:
        print(failure, file=sys.stderr)
    return 1 if failure else 0


def _run_child(plan: dict[str, Any], writing: int) -> None:
    try:
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        become_host(plan)
    except BaseException as error:  # noqa: BLE001 - told to the waiting parent, then this process ends
        os.write(writing, f"{type(error).__name__}: {error}".encode())
        os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
