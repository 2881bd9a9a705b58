"""What CRIU leaves when it hangs or is killed: processes that outlive what they were for, and mounts."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

PROGRAM = "criu"
UNMOUNT_S = 10.0


def end_criu(*directories: Path) -> None:
    """Kill every CRIU that has something below one of these directories open, even if it was removed since.

    A task that it held runs on, or stays as frozen as it was: the kernel lets go of it.
    """
    for process in Path("/proc").iterdir():
        with suppress(OSError):  # it has just ended
            if process.name.isdigit() and _is_criu(process) and _works_in(process, directories):
                os.kill(int(process.name), signal.SIGKILL)


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


def _is_criu(process: Path) -> bool:
    return (process / "comm").read_text().strip() == PROGRAM


def _works_in(process: Path, directories: tuple[Path, ...]) -> bool:
    return any(opened.startswith(f"{place}/") for opened in _open_files(process) for place in directories)


def _open_files(process: Path) -> Iterator[str]:
    for descriptor in (process / "fd").iterdir():
        with suppress(OSError):
            yield str(descriptor.readlink())
