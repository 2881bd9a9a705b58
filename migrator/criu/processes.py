"""CRIU's processes that outlived what they were for: one that hangs, or a helper whose CRIU was killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

PROGRAM = "criu"


def end_criu(*directories: Path) -> None:
    """Kill every CRIU that has something below one of these directories open, even if it was removed since.

    A task that it held runs on, or stays as frozen as it was: the kernel lets go of it.
    """
    for process in Path("/proc").iterdir():
        with suppress(OSError):  # it has just ended
            if process.name.isdigit() and _is_criu(process) and _works_in(process, directories):
                os.kill(int(process.name), signal.SIGKILL)


def _is_criu(process: Path) -> bool:
    return (process / "comm").read_text().strip() == PROGRAM


def _works_in(process: Path, directories: tuple[Path, ...]) -> bool:
    return any(opened.startswith(f"{place}/") for opened in _open_files(process) for place in directories)


def _open_files(process: Path) -> Iterator[str]:
    for descriptor in (process / "fd").iterdir():
        with suppress(OSError):
            yield str(descriptor.readlink())
