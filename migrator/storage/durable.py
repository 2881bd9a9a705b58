"""Small files that must survive a fall of the machine."""

from __future__ import annotations

import os
from pathlib import Path


def write_durably(path: Path, text: str, temporary: Path) -> None:
    """Replace a file as a whole; after this it is on the disk, name and all.

    Args:
        path: The file.
        text: What it is to hold.
        temporary: Where it is written first, in the same directory.

    Raises:
        OSError: The disk is full, or worse; the file is as it was.
    """
    with temporary.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    flush_directory(path.parent)


def flush_directory(path: Path) -> None:
    """Put on the disk which names a directory holds."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
