"""What a runtime that died in the middle leaves of a container without a task: processes in its cgroup, and a shim.

A CRIU that is killed while it restores leaves the program half-made, or even running, and only the kernel knows of it.
A containerd that dies after it started a shim and before it wrote down where that listens never finds it again.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from migrator.containerd.values import Container
from migrator.errors import ResourceBusy

CGROUPS = Path("/sys/fs/cgroup")
END_S = 5.0


def end_remains(container: Container, namespace: str) -> None:
    """Kill whatever is left of a container that has no task, and return when it is gone.

    Raises:
        ResourceBusy: `remains_alive`, a process outlives SIGKILL.
    """
    _end_processes(container)
    _end_shims(namespace, container.id)


def _end_processes(container: Container) -> None:
    path = str(container.spec_json().get("linux", {}).get("cgroupsPath", ""))
    places = list(_places(path)) if path.strip("/") else []
    deadline = time.monotonic() + END_S
    while pids := {pid for place in places for pid in _processes(place)}:
        if time.monotonic() > deadline:
            raise ResourceBusy(
                f"process {min(pids)} of container '{container.id}' does not end",
                code="remains_alive",
                remedy=f"look at /proc/{min(pids)}/stack",
            )
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for place in places:
            _thaw(place)
        time.sleep(0.01)
    for place in places:
        with suppress(OSError):
            place.rmdir()


def _places(path: str) -> Iterator[Path]:
    """The directories of a cgroup in all hierarchies; the spec has a path, or systemd's `SLICE:PREFIX:NAME`."""
    if path.count(":") == 2:
        slices, prefix, name = path.split(":")
        words = slices.removesuffix(".slice").split("-")
        parents = ["-".join(words[: number + 1]) + ".slice" for number in range(len(words))]
        path = "/".join([*parents, f"{prefix}-{name}.scope"])
    for top in (CGROUPS, *CGROUPS.iterdir()):
        place = top / path.lstrip("/")
        if (place / "cgroup.procs").exists():
            yield place


def _processes(place: Path) -> list[int]:
    try:
        return [pid for pid in map(int, (place / "cgroup.procs").read_text().split()) if pid]
    except OSError:
        return []


def _thaw(place: Path) -> None:
    """After the signal: a frozen process dies only when it is thawed, and runs not one more line of its program."""
    for name, word in (("freezer.state", "THAWED"), ("cgroup.freeze", "0")):
        with suppress(OSError):
            if (place / name).exists():
                (place / name).write_text(word)


def _end_shims(namespace: str, container: str) -> None:
    """End the shims of this mount namespace that have no process below them; any other serves somebody."""
    for pid in _shims(namespace, container):
        with suppress(OSError):
            if os.path.samestat(Path(f"/proc/{pid}/ns/mnt").stat(), Path("/proc/self/ns/mnt").stat()):
                _end_if_idle(pid)


def _shims(namespace: str, container: str) -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            words = _command_line(entry)
            named = _option(words, "-namespace") == namespace and _option(words, "-id") == container
            if named and Path(words[0]).name.startswith("containerd-shim-"):
                yield int(entry.name)


def _end_if_idle(pid: int) -> None:
    threads = Path(f"/proc/{pid}/task").iterdir()
    if not any((thread / "children").read_text().strip() for thread in threads):
        os.kill(pid, signal.SIGKILL)


def _command_line(process: Path) -> list[str]:
    try:
        return (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:  # it has just ended
        return []


def _option(words: list[str], name: str) -> str | None:
    return words[words.index(name) + 1] if name in words[:-1] else None
