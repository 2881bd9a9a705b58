"""A store in a local directory: for one machine, and for trying."""

from __future__ import annotations

import errno
import os
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from migrator.errors import (
    AlreadyExists,
    IntegrityError,
    MigratorError,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
)
from migrator.storage.probing import probe_conditional_put
from migrator.storage.store import PIECE_BYTES, SMALL_BYTES, ObjectInfo, Progress, object_not_found
from migrator.storage.verify import checked, size_mismatch

UPLOADS = ".uploads"
FULL = (errno.ENOSPC, errno.EDQUOT)


class DirectoryStore:
    """Objects as files. A file gets its name only when its bytes are on the disk.

    Args:
        root: The directory; made if absent.
    """

    def __init__(self, root: Path):
        self.location = f"file://{root}"
        self._root = root

    def probe(self) -> None:
        """See `ObjectStore.probe`."""
        probe_conditional_put(self)

    def head(self, key: str) -> ObjectInfo | None:
        """See `ObjectStore.head`."""
        try:
            with self._translated():
                stat = self._path(key).stat()
        except FileNotFoundError:
            return None
        return ObjectInfo(key, stat.st_size, datetime.fromtimestamp(stat.st_mtime, UTC))

    def get(self, key: str, limit_bytes: int = SMALL_BYTES) -> bytes:
        """See `ObjectStore.get`."""
        with self._reading(key) as file:
            data = os.read(file, limit_bytes + 1)
            while len(data) <= limit_bytes and (more := os.read(file, limit_bytes + 1 - len(data))):
                data += more
        if len(data) > limit_bytes:
            raise IntegrityError(f"object '{key}' has more than {limit_bytes} bytes", code="object_too_large")
        return data

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        """See `ObjectStore.put`."""
        self._write(key, [data], if_absent=if_absent, on_progress=None)

    def upload(
        self, key: str, chunks: Iterable[bytes], *, size_bytes: int, digest: str, on_progress: Progress | None = None
    ) -> None:
        """See `ObjectStore.upload`."""
        whole = checked(chunks, size_bytes=size_bytes, digest=digest, what=f"object '{key}'")
        self._write(key, whole, if_absent=False, on_progress=on_progress)

    def download(self, key: str, *, size_bytes: int, on_progress: Progress | None = None) -> Iterator[bytes]:
        """See `ObjectStore.download`."""
        with self._reading(key) as file:
            found_bytes = os.fstat(file).st_size
            if found_bytes != size_bytes:
                raise size_mismatch(f"object '{key}'", size_bytes, found_bytes)
            while piece := os.read(file, PIECE_BYTES):
                if on_progress:
                    on_progress(len(piece))
                yield piece

    def scan(self, prefix: str) -> Iterator[ObjectInfo]:
        """See `ObjectStore.scan`."""
        with self._translated():
            files = sorted(path for path in self._root.rglob("*") if path.is_file())
        for path in files:
            key = path.relative_to(self._root).as_posix()
            if key.startswith(prefix) and not key.startswith(UPLOADS) and (info := self.head(key)):
                yield info

    def delete(self, key: str) -> None:
        """See `ObjectStore.delete`."""
        with self._translated():
            self._path(key).unlink(missing_ok=True)

    def abort_uploads(self, prefix: str, older_than_s: float) -> list[str]:
        """See `ObjectStore.abort_uploads`. Half-done files do not tell their key, so all that are old enough go."""
        del prefix
        old, oldest = [], time.time() - older_than_s
        with self._translated():
            for path in (self._root / UPLOADS).glob("*"):
                if path.stat().st_mtime < oldest:
                    path.unlink(missing_ok=True)
                    old.append(path.name)
        return old

    def _write(self, key: str, chunks: Iterable[bytes], *, if_absent: bool, on_progress: Progress | None) -> None:
        """Write beside, flush, then give it its name: a link fails where a name exists, a rename replaces it."""
        path, temporary = self._path(key), self._root / UPLOADS / secrets.token_hex(12)
        with self._translated():
            for directory in (path.parent, temporary.parent):
                directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            try:
                _fill(temporary, chunks, on_progress)
                if if_absent:
                    path.hardlink_to(temporary)
                else:
                    temporary.rename(path)
                _flush_directory(path.parent)
            except FileExistsError as error:
                raise AlreadyExists(f"object '{key}' exists already", code="object_exists") from error
            finally:
                temporary.unlink(missing_ok=True)

    @contextmanager
    def _reading(self, key: str) -> Iterator[int]:
        try:
            with self._translated():
                file = os.open(self._path(key), os.O_RDONLY)
        except FileNotFoundError as error:
            raise object_not_found(key, self.location) from error
        try:
            yield file
        finally:
            os.close(file)

    def _path(self, key: str) -> Path:
        return self._root / key

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn the system's errors into ours; a missing file is for the caller to judge."""
        try:
            yield
        except (FileNotFoundError, FileExistsError):
            raise
        except OSError as error:
            raise self._fault(error) from error

    def _fault(self, error: OSError) -> MigratorError:
        if error.errno in FULL:
            return ResourceExhausted(f"{self.location} is full", code="store_full", remedy="make room on that disk")
        if isinstance(error, PermissionError):
            return PermissionDenied(
                f"{self.location} may not be used: {error.strerror}",
                code="store_credentials",
                remedy="give this user the right to write there",
            )
        return Unavailable(
            f"{self.location} cannot be used: {error.strerror}",
            code="store_unavailable",
            remedy="see MIGRATOR_STORE_URL",
        )


def _fill(path: Path, chunks: Iterable[bytes], on_progress: Progress | None) -> None:
    with path.open("xb") as file:
        for chunk in chunks:
            file.write(chunk)
            if on_progress:
                on_progress(len(chunk))
        file.flush()
        os.fsync(file.fileno())


def _flush_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
