"""What CRIU leaves when it hangs or is killed: processes that outlive what they were for, and mounts."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PROGRAM = "criu"
RUNTIME = "runc"
HOME = "home"
"""The home directory that a runc and its CRIU are given in a directory that CRIU works in."""
LOOK_S = 0.5
UNMOUNT_S = 10.0


def end_criu(*directories: Path) -> None:
    """Kill every CRIU that has something below one of these directories open, even if it was removed since, or that
    waits there until it may begin.

    A task that it held runs on, or stays as frozen as it was: the kernel lets go of it.
    """
    _kill([*_at_work(directories), *_at_home(directories)])


def works_in(*directories: Path) -> bool:
    """Whether a CRIU is at work below one of these directories."""
    return bool(_at_work(directories))


@contextmanager
def ending_lost_criu(*directories: Path) -> Iterator[None]:
    """Meanwhile end every CRIU process whose CRIU was killed.

    CRIU's helpers do not notice its death. They hold its end of the line to runc, which would wait for ever.
    """
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(LOOK_S):
            _end_lost(directories)

    watcher = threading.Thread(target=watch, name="lost-criu", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join()


def remove_tree(directory: Path) -> None:
    """Remove a directory that CRIU worked in; nothing there is fine.

    A restore mounts the machine's cgroups below it. They must not be walked into, so as long as one is mounted there,
    nothing is removed.
    """
    for place in _mounts_below(directory):
        subprocess.run(["umount", "--lazy", place], capture_output=True, timeout=UNMOUNT_S, check=False)
    if not _mounts_below(directory):
        shutil.rmtree(directory, ignore_errors=True)


def _mounts_below(directory: Path) -> list[str]:
    """Where something is mounted below a directory, the deepest first (proc(5), mountinfo)."""
    places = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return sorted((place for place in places if place.startswith(f"{directory}/")), reverse=True)


def _end_lost(directories: tuple[Path, ...]) -> None:
    """End what works there, unless the CRIU that the runtime started is among it."""
    working = _at_work(directories)
    if not any(_was_asked(process) for process in working):
        _kill(working)


def _kill(processes: list[Path]) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(int(process.name), signal.SIGKILL)


def _at_work(directories: tuple[Path, ...]) -> list[Path]:
    found = []
    for process in Path("/proc").iterdir():
        with suppress(OSError):  # it has just ended
            if process.name.isdigit() and _name(process) == PROGRAM and _works_in(process, directories):
                found.append(process)
    return found


def _was_asked(process: Path) -> bool:
    """Whether this is the CRIU that the runtime started. The first process of a restored container also has the runtime
    for a parent, but a pid namespace of its own.
    """
    try:
        parent = Path("/proc") / (process / "stat").read_text().rpartition(")")[2].split()[1]
        beside = os.path.samestat((process / "ns/pid").stat(), (parent / "ns/pid").stat())
        return beside and _name(parent) == RUNTIME
    except OSError:
        return False


def _name(process: Path) -> str:
    return (process / "comm").read_text().strip()


def _works_in(process: Path, directories: tuple[Path, ...]) -> bool:
    return any(opened.startswith(f"{place}/") for opened in _open_files(process) for place in directories)


def _at_home(directories: tuple[Path, ...]) -> list[Path]:
    """The runtimes, and their CRIUs, that were given a home directory there: some wait there and have nothing open."""
    homes = {f"HOME={place / HOME}".encode() for place in directories}
    found = []
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            named = process.name.isdigit() and _name(process) in (PROGRAM, RUNTIME)
            if named and homes & set((process / "environ").read_bytes().split(b"\0")):
                found.append(process)
    return found


def _open_files(process: Path) -> Iterator[str]:
    for descriptor in (process / "fd").iterdir():
        with suppress(OSError):
            yield str(descriptor.readlink())
