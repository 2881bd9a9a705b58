"""Write a stream into a file that appears only when it is whole."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path

from migrator.errors import AlreadyExists, ResourceExhausted


def write_file(chunks: Iterable[bytes], file: Path, *, force: bool) -> int:
    """Write the chunks and return their size in bytes; `-` is standard output.

    Raises:
        AlreadyExists: `file_exists`.
        ResourceExhausted: `file_unwritable`.
    """
    if str(file) == "-":
        return sum(sys.stdout.buffer.write(chunk) for chunk in chunks)
    if file.exists() and not force:
        raise AlreadyExists(f"{file} exists already", code="file_exists", remedy="name another, or give --force")
    partial = file.with_name(f"{file.name}.partial")
    try:
        with partial.open("wb") as target:
            size_bytes = sum(target.write(chunk) for chunk in chunks)
            target.flush()
            os.fsync(target.fileno())
        partial.rename(file)
    except OSError as error:
        raise ResourceExhausted(
            f"{file} cannot be written: {error.strerror}", code="file_unwritable", remedy="see the path and the disk"
        ) from error
    finally:
        partial.unlink(missing_ok=True)
    return size_bytes
