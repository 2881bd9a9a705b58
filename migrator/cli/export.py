"""Write a stream into a file that appears only when it is whole."""

from __future__ import annotations

import errno
import os
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from migrator.errors import AlreadyExists, InvalidRequest, MigratorError, PermissionDenied, ResourceExhausted

STDOUT = Path("-")
KINDS: dict[int, type[MigratorError]] = {
    errno.ENOSPC: ResourceExhausted,
    errno.EDQUOT: ResourceExhausted,
    errno.EACCES: PermissionDenied,
    errno.EPERM: PermissionDenied,
    errno.EROFS: PermissionDenied,
}


def write_file(chunks: Iterable[bytes], file: Path, *, force: bool) -> int:
    """Write the chunks and return their size in bytes. Only the owner may read the file: it holds memory.

    Args:
        chunks: What to write.
        file: Where to; `-` is standard output.
        force: Replace a file that is there.

    Raises:
        AlreadyExists: `file_exists`.
        ResourceExhausted, PermissionDenied, InvalidRequest: `file_unwritable`.
    """
    if file == STDOUT:
        size_bytes = sum(sys.stdout.buffer.write(chunk) for chunk in chunks)
        sys.stdout.buffer.flush()
        return size_bytes
    if file.exists() and not force:
        raise AlreadyExists(f"{file} exists already", code="file_exists", remedy="name another, or give --force")
    try:
        return _write_whole(chunks, file)
    except OSError as error:
        kind = KINDS.get(error.errno or 0, InvalidRequest)
        raise kind(
            f"{file} cannot be written: {error.strerror}", code="file_unwritable", remedy="see the path and the disk"
        ) from error


def _write_whole(chunks: Iterable[bytes], file: Path) -> int:
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name[:200]}.")
    partial = Path(name)
    try:
        with open(descriptor, "wb") as target:  # noqa: PTH123 - it is open already
            size_bytes = sum(target.write(chunk) for chunk in chunks)
            target.flush()
            os.fsync(target.fileno())
        partial.rename(file)
    finally:
        partial.unlink(missing_ok=True)
    return size_bytes
