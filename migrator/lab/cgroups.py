"""The cgroups of a lab: one directory for each host in every hierarchy, under the cgroup of whoever starts the lab.

Nothing is remembered: a lab's directories carry its name, and `find` reads them from the kernel. That is how every
process of a lab is found again after any crash.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from migrator.errors import InternalError, PreconditionFailed

LEAF = "init"
"""In cgroup v2 processes live in leaves; this is the leaf of a host's own services."""
NEEDED_CONTROLLERS = frozenset({"cpu", "memory", "pids"})


@dataclass(frozen=True)
class Hierarchy:
    """One mounted cgroup hierarchy."""

    mount: Path
    unified: bool
    options: str
    """What mounts the same hierarchy again: `cpuset`, `cpu,cpuacct`, `none,name=systemd`; empty for v2."""

    @property
    def key(self) -> str:
        """The middle column of /proc/PID/cgroup for this hierarchy."""
        return "" if self.unified else self.options.removeprefix("none,")


def hierarchies(mountinfo: str | None = None) -> list[Hierarchy]:
    """Return the hierarchies mounted on this machine, whole mounts only.

    Raises:
        PreconditionFailed: No cgroup hierarchy is mounted.
    """
    text = mountinfo if mountinfo is not None else Path("/proc/self/mountinfo").read_text()
    found: dict[str, Hierarchy] = {}
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        fields, (kind, _, super_options) = before.split(), after.split()[:3]
        if kind not in ("cgroup", "cgroup2"):
            continue
        hierarchy = Hierarchy(Path(fields[4]), kind == "cgroup2", "" if kind == "cgroup2" else _names(super_options))
        found.setdefault(hierarchy.key, hierarchy)
    if not found:
        raise PreconditionFailed(
            "no cgroup hierarchy is mounted", code="no_cgroups", remedy="mount cgroup2 on /sys/fs/cgroup"
        )
    return list(found.values())


def _names(super_options: str) -> str:
    ignored = ("rw", "ro", "xattr", "clone_children", "noprefix")
    names = [o for o in super_options.split(",") if o not in ignored and not o.startswith("release_agent=")]
    return "none," + names[0] if names[0].startswith("name=") else ",".join(names)


def own_path(hierarchy: Hierarchy, pid: int | str = "self") -> str:
    """Return the cgroup of a process within a hierarchy, as /proc tells: `/` or `/a/b`."""
    wanted = sorted(hierarchy.key.split(","))
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, key, path = line.split(":", 2)
        if sorted(key.split(",")) == wanted:
            return path
    raise InternalError(f"no cgroup of {hierarchy.mount} in /proc/{pid}/cgroup", code="lab_cgroup_unknown")


def create(cgroup_name: str, host: str) -> list[Path]:
    """Make the directories of one host in every hierarchy; return those its first process must enter.

    Raises:
        PreconditionFailed: The machine has cgroup v2 alone, and not the controllers that containers need.
    """
    entries = []
    mounted = hierarchies()
    for hierarchy in mounted:
        lab = _existing(hierarchy, cgroup_name) or _parent(hierarchy) / cgroup_name
        directory = lab / host
        directory.mkdir(parents=True, exist_ok=True)
        if hierarchy.unified:
            _delegate(lab.parent, lab)  # not the host itself: its first process has to enter it
            if len(mounted) == 1:
                _require_controllers(directory)
        elif "cpuset" in hierarchy.key.split(","):
            _fill_cpuset(lab)
            _fill_cpuset(directory)
        entries.append(directory)
    return entries


def _existing(hierarchy: Hierarchy, cgroup_name: str) -> Path | None:
    found = _search(hierarchy.mount, cgroup_name)
    return found[0] if found else None


def _parent(hierarchy: Hierarchy) -> Path:
    """Choose where the lab's directory goes: below our own cgroup, so that limits set on us hold for the lab too.

    In cgroup v2 a cgroup with processes in it cannot hand controllers on, and a login session has few of them: there it
    is the nearest ancestor that has no processes and all that containers need, in the end the root.
    """
    place = hierarchy.mount / own_path(hierarchy).lstrip("/")
    if not place.is_dir():
        return hierarchy.mount
    while hierarchy.unified and place != hierarchy.mount and not _can_hand_on(place):
        place = place.parent
    return place


def _can_hand_on(place: Path) -> bool:
    return not (place / "cgroup.procs").read_text() and _controllers(place) >= NEEDED_CONTROLLERS


def _controllers(directory: Path) -> set[str]:
    return set((directory / "cgroup.controllers").read_text().split())


def _delegate(*chain: Path) -> None:
    for directory in chain:
        for controller in _controllers(directory):
            # One that an ancestor does not hand on is missing below; `_require_controllers` tells of those that matter.
            with contextlib.suppress(OSError):
                (directory / "cgroup.subtree_control").write_text(f"+{controller}")


def _require_controllers(directory: Path) -> None:
    missing = NEEDED_CONTROLLERS - _controllers(directory)
    if missing:
        raise PreconditionFailed(
            f"no cgroup v2 controller {', '.join(sorted(missing))} for the lab, and containers need it",
            code="no_cgroup_controllers",
            remedy="run it outside any container, or give the container the machine's cgroup namespace",
        )


def _fill_cpuset(directory: Path) -> None:
    for name in ("cpus", "mems"):
        prefixed, plain = directory / f"cpuset.{name}", directory / name
        file = prefixed if prefixed.exists() else plain
        if not file.read_text().strip():
            file.write_text((directory.parent / file.name).read_text())


def find(cgroup_name: str, host: str | None = None) -> list[Path]:
    """Return the directories of a lab, or of one host of it, in all hierarchies."""
    labs = [found for hierarchy in hierarchies() for found in _search(hierarchy.mount, cgroup_name)]
    return labs if host is None else [lab / host for lab in labs if (lab / host).is_dir()]


def of_process(pid: int, suffix: str) -> list[Path]:
    """Return, for each hierarchy, the directory ending in `suffix` that a process is in or below."""
    found = []
    for hierarchy in hierarchies():
        head, mark, _ = own_path(hierarchy, pid).partition(suffix)
        if mark:
            found.append(hierarchy.mount / (head + mark).lstrip("/"))
    return found


def _search(mount: Path, name: str) -> list[Path]:
    found = []
    for directory, children, _ in os.walk(mount):
        if name in children:
            found.append(Path(directory) / name)
            children.remove(name)
    return found


def processes(directories: list[Path]) -> set[int]:
    """Return the ids of all processes in these directories and below."""
    pids: set[int] = set()
    for directory in directories:
        for current, _, files in os.walk(directory):
            if "cgroup.procs" in files:
                # A threaded cgroup refuses the read; its processes are listed in the domain above it.
                with contextlib.suppress(OSError):
                    pids.update(map(int, (Path(current) / "cgroup.procs").read_text().split()))
    return pids - {0}


def destroy(directories: list[Path], timeout_s: float = 15.0) -> None:
    """Thaw and kill everything in these directories, and remove them.

    Raises:
        InternalError: A process outlived SIGKILL, or a directory could not be removed, within `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        # Again each time: a host that was just booting may still be on its way in.
        _kill(directories)
        held = [directory for directory in directories if not _removed(directory)]
        if not held:
            return
        if time.monotonic() > deadline:
            raise InternalError(
                f"cannot remove cgroup {held[0]}, in it are processes {sorted(processes(held))}",
                code="lab_cgroup_left",
                remedy="look at /proc/PID/stack of these processes, then run `migrator lab down` again",
            )
        time.sleep(0.01)


def _kill(directories: list[Path]) -> None:
    for pid in processes(directories):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    # After the signal, not before: not one more line of a frozen program is run.
    _thaw(directories)


def _thaw(directories: list[Path]) -> None:
    for directory in directories:
        for current, _, files in os.walk(directory):
            for name, word in (("freezer.state", "THAWED"), ("cgroup.freeze", "0")):
                if name in files:
                    with contextlib.suppress(OSError):  # it went away meanwhile
                        (Path(current) / name).write_text(word)


def _removed(directory: Path) -> bool:
    for current, _, _ in os.walk(directory, topdown=False):
        try:
            Path(current).rmdir()
        except FileNotFoundError:
            continue
        except OSError as error:
            if error.errno == errno.EBUSY:  # something lives in it, or died a moment ago
                return False
            raise InternalError(f"cannot remove cgroup {current}: {error}", code="lab_cgroup_left") from error
    return True
