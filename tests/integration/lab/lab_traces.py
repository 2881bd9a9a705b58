"""What the kernel and the disk still know of a lab, found without asking the lab's own code."""

from __future__ import annotations

from pathlib import Path


def find_traces(name: str) -> list[str]:
    """Every process, mount, cgroup and directory that belongs to the lab `name`."""
    return [*_processes(name), *_mounts(name), *_cgroups(name), *_directories(name)]


def lives(pid: int) -> bool:
    """False for a zombie too: it runs nothing, holds nothing, and waits only for the machine's init to count it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _processes(name: str) -> list[str]:
    found = []
    for file in Path("/proc").glob("[0-9]*/cgroup"):
        try:
            if f"/migrator-lab.{name}/" in file.read_text() and lives(int(file.parent.name)):
                found.append(f"process {file.parent.name}: {(file.parent / 'comm').read_text().strip()}")
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def _mounts(name: str) -> list[str]:
    """In any mount namespace of the machine, not only in ours."""
    marks = (f"/run/migrator-lab/{name}/", f"/labs/{name}/")
    found = set()
    for file in Path("/proc").glob("[0-9]*/mountinfo"):
        try:
            lines = file.read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError, OSError):
            continue
        found |= {f"mount {line}" for line in lines if any(mark in line for mark in marks)}
    return sorted(found)


def _cgroups(name: str) -> list[str]:
    return [f"cgroup {directory}" for directory in Path("/sys/fs/cgroup").rglob(f"migrator-lab.{name}")]


def _directories(name: str) -> list[str]:
    places = [Path("/run/migrator-lab") / name, Path("/var/lib/migrator-lab/labs") / name]
    return [f"directory {place}" for place in places if place.exists()]
