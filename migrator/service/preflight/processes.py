"""What /proc tells of a task's processes: read once, judged by many checks."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

PROC = Path("/proc")
BLOCK_BYTES = 512
UPROBES = "[uprobes]"
DELETED = " (deleted)"


@dataclass(frozen=True, slots=True)
class OpenFile:
    """One open file of a process."""

    fd: int
    target: str
    """What /proc/PID/fd shows: a path, or a kind and a number such as `socket:[17]` or `anon_inode:[eventpoll]`."""
    mode: int = 0
    """Type and rights, as in `st_mode`; 0 for what is no path."""
    links: int = 1
    device: int = 0
    """`st_dev`: the file system that it lies on."""
    node: int = 0
    """`st_rdev`: of a device node, which device it is."""
    size_bytes: int = 0
    """What its blocks take: holes do not count."""
    protocol: str = ""
    """Of a socket, the kernel's name of its protocol, such as `TCP`, `UNIX-STREAM` or `NETLINK`."""
    watches: tuple[Watch, ...] = ()
    """Of an inotify or fanotify file, what it watches."""


@dataclass(frozen=True, slots=True)
class Watch:
    """A file or directory that is watched."""

    inode: int
    device: int
    kind: str
    """`inotify` or `fanotify`."""


@dataclass(frozen=True, slots=True)
class Process:
    """One process, or a thread group as the kernel has it."""

    pid: int
    name: str
    parent: int = 0
    tracer: int = 0
    depth: int = 2
    """In how many pid namespaces it has a number: 2 for a process right in the container."""
    stuck_threads: tuple[int, ...] = ()
    """Threads in a sleep that nothing ends but what they wait for."""
    anonymous_bytes: int = 0
    """Memory of its own, of no file (proc(5), RssAnon)."""
    huge_bytes: int = 0
    namespaces: tuple[tuple[str, int], ...] = ()
    """Kind and inode number."""
    files: tuple[OpenFile, ...] = ()
    mapped: frozenset[str] = frozenset()
    """Names of its mappings: files, devices, `anon_inode:…`, `/SYSV…`."""

    def __str__(self) -> str:
        return f"process {self.pid} ({self.name})"


def read_processes(pids: Iterable[int], proc: Path = PROC) -> tuple[Process, ...]:
    """Read all of a task's processes; one that ends meanwhile is left out, and its children are another's."""
    found = [process for pid in pids if (process := _read(proc / str(pid))) is not None]
    known = {process.pid for process in found}
    looked_at = (process if process.parent in known else _look_again(process, proc) for process in found)
    return tuple(process for process in looked_at if process is not None)


def _look_again(process: Process, proc: Path) -> Process | None:
    """A process whose parent is not among the others: one of both may have ended since it was read."""
    try:
        return replace(process, parent=int(read_status(proc / str(process.pid) / "status")["PPid"]))
    except (FileNotFoundError, ProcessLookupError):
        return None


def _read(place: Path) -> Process | None:
    try:
        status = read_status(place / "status")
        return Process(
            pid=int(place.name),
            name=status["Name"],
            parent=int(status["PPid"]),
            tracer=int(status.get("TracerPid", 0)),
            depth=len(status.get("NSpid", "0 0").split()),
            stuck_threads=tuple(_sleeping_hard(place)),
            anonymous_bytes=_bytes(status, "RssAnon"),
            huge_bytes=_bytes(status, "HugetlbPages"),
            namespaces=tuple(_namespaces(place)),
            files=tuple(_files(place)),
            mapped=_mapped(place),
        )
    except (FileNotFoundError, ProcessLookupError):
        return None


def read_status(file: Path) -> dict[str, str]:
    """Read the status of a process or thread (proc(5)) by field."""
    lines = (line.partition(":") for line in file.read_text().splitlines())
    return {name: value.strip() for name, _, value in lines}


def _bytes(status: dict[str, str], name: str) -> int:
    return int(status.get(name, "0 kB").split()[0]) * 1024


def _sleeping_hard(place: Path) -> Iterator[int]:
    """Threads in state D (proc(5)); whether they stay there, `settle` finds out."""
    for thread in (place / "task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):
            if thread_state(thread)[0] == "D":
                yield int(thread.name)


def thread_state(thread: Path) -> tuple[str, str]:
    """Return the state of a thread and how often it went to sleep: the same numbers mean the same sleep."""
    status = read_status(thread / "status")
    return status["State"][:1], status.get("voluntary_ctxt_switches", "")


def _namespaces(place: Path) -> Iterator[tuple[str, int]]:
    for kind in ("mnt", "net", "ipc", "uts", "pid", "user", "time", "cgroup"):
        with suppress(OSError):
            yield kind, (place / "ns" / kind).stat().st_ino


def _files(place: Path) -> Iterator[OpenFile]:
    for link in sorted((place / "fd").iterdir(), key=lambda link: int(link.name)):
        with suppress(OSError):  # closed meanwhile
            target = str(link.readlink())
            found = link.stat() if target.startswith("/") else None
            yield OpenFile(
                fd=int(link.name),
                target=target,
                mode=found.st_mode if found else 0,
                links=found.st_nlink if found else 1,
                device=found.st_dev if found else 0,
                node=found.st_rdev if found else 0,
                size_bytes=found.st_blocks * BLOCK_BYTES if found else 0,
                protocol=_protocol(link) if target.startswith("socket:") else "",
                watches=tuple(parse_watches((place / "fdinfo" / link.name).read_text())) if "notify" in target else (),
            )


def _protocol(link: Path) -> str:
    try:
        return os.getxattr(link, "system.sockprotoname").rstrip(b"\0").decode()
    except OSError:
        return ""


def parse_watches(fdinfo: str) -> Iterator[Watch]:
    """Read what an inotify or fanotify file watches (proc(5), fdinfo); whole mounts have no inode."""
    for line in fdinfo.splitlines():
        found = re.match(r"(inotify|fanotify) .*?ino:([0-9a-f]+) sdev:([0-9a-f]+)", line)
        if found:
            yield Watch(int(found[2], 16), device_number(int(found[3], 16)), found[1])


def device_number(kernels: int) -> int:
    """Turn the kernel's own form of a device number into that of stat(2)."""
    return os.makedev(kernels >> 20, kernels & 0xFFFFF)


def _mapped(place: Path) -> frozenset[str]:
    """What a process has mapped, without the parts that every process has."""
    names = (line.split(maxsplit=5)[5:] for line in (place / "maps").read_text().splitlines())
    found = {name[0].strip() for name in names if name}
    return frozenset(name for name in found if name == UPROBES or not name.startswith("["))
