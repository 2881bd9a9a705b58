"""A store in a local directory: for one machine, and for trying."""

from __future__ import annotations

import errno
import os
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from stat import S_ISREG

from migrator.errors import (
    AlreadyExists,
    IntegrityError,
    MigratorError,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
)
from migrator.storage.durable import flush_directory
from migrator.storage.layout import check_key
from migrator.storage.probing import probe_conditional_put
from migrator.storage.store import PIECE_BYTES, SMALL_BYTES, ObjectInfo, Progress, object_not_found
from migrator.storage.verify import checked, size_mismatch

UPLOAD = ".upload-"
"""How names of unfinished uploads begin; no key has such a segment. Random digits and the object's name follow."""
UPLOAD_NAME_LENGTH = len(UPLOAD) + 17
TRIES = 100
FULL = (errno.ENOSPC, errno.EDQUOT)


class DirectoryStore:
    """Objects as files. A file gets its name only when its bytes are on the disk.

    Checkpoints hold memory, so nobody but the owner may read what is made here.

    Args:
        root: The directory; made by the first write.
    """

    def __init__(self, root: Path):
        self.location = f"file://{root}"
        self._root = root

    def session(self, checkpoint_id: str) -> DirectoryStore:
        """See `ObjectStore.session`."""
        del checkpoint_id
        return self

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
        if not S_ISREG(stat.st_mode):
            return None
        return ObjectInfo(key, stat.st_size, datetime.fromtimestamp(stat.st_mtime, UTC))

    def get(self, key: str, limit_bytes: int = SMALL_BYTES) -> bytes:
        """See `ObjectStore.get`."""
        with self._reading(key) as file:
            data = b"".join(self._pieces(file, limit_bytes + 1))
        if len(data) > limit_bytes:
            raise IntegrityError(f"object '{key}' has more than {limit_bytes} bytes", code="object_too_large")
        return data

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        """See `ObjectStore.put`."""
        self._write(key, [data], if_absent=if_absent, on_progress=None)

    def put_hashed(self, key: str, data: bytes | bytearray, digest: str) -> None:
        """See `ObjectStore.put_hashed`."""
        del digest
        self._write(key, [data], if_absent=False, on_progress=None)

    def upload(
        self,
        key: str,
        chunks: Iterable[bytes],
        *,
        size_bytes: int,
        digest: str | None,
        on_progress: Progress | None = None,
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
            for piece in self._pieces(file, size_bytes):
                if on_progress:
                    on_progress(len(piece))
                yield piece

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        """See `ObjectStore.get_range`."""
        with self._reading(key) as file:
            with self._translated():
                os.lseek(file, offset, os.SEEK_SET)
            data = b"".join(self._pieces(file, length))
        if len(data) != length:
            raise size_mismatch(f"a range of object '{key}'", length, len(data))
        return data

    def scan(self, prefix: str) -> Iterator[ObjectInfo]:
        """See `ObjectStore.scan`."""
        for key in sorted(self._keys(prefix, hidden=False)):
            if info := self.head(key):
                yield info

    def hidden(self, prefix: str) -> Iterator[ObjectInfo]:
        """See `ObjectStore.hidden`; no versions are kept here."""
        del prefix
        return iter(())

    def delete(self, key: str) -> bool:
        """See `ObjectStore.delete`. Directories that become empty go too."""
        path = self._path(key)
        with self._translated():
            path.unlink(missing_ok=True)
        self._prune(path.parent)
        return True

    def abort_uploads(self, prefix: str, older_than_s: float) -> list[str]:
        """See `ObjectStore.abort_uploads`."""
        aborted, oldest = [], time.time() - older_than_s
        for place in sorted(self._keys("", hidden=True)):
            path = self._root / place
            key = path.with_name(path.name[UPLOAD_NAME_LENGTH:]).relative_to(self._root).as_posix()
            with self._translated(), suppress(FileNotFoundError):
                if key.startswith(prefix) and path.stat().st_mtime <= oldest:
                    path.unlink()
                    aborted.append(key)
                    self._prune(path.parent)
        return aborted

    def _keys(self, prefix: str, *, hidden: bool) -> Iterator[str]:
        """Find the files whose keys begin with a prefix; `hidden` means unfinished uploads instead.

        What cannot be read is an error: who removes blobs relies on a full list.
        """
        top = self._root / prefix.rpartition("/")[0]
        with self._translated():
            for directory, _, names in os.walk(top, onerror=_raise_unless_gone):
                for name in names:
                    key = (Path(directory) / name).relative_to(self._root).as_posix()
                    if name.startswith(UPLOAD) is hidden and key.startswith(prefix):
                        yield key

    def _write(
        self, key: str, chunks: Iterable[bytes | bytearray], *, if_absent: bool, on_progress: Progress | None
    ) -> None:
        """Write beside, flush, then give it its name."""
        path = self._path(key)
        file, temporary = self._open_temporary(path)
        try:
            try:
                for chunk in chunks:
                    with self._translated():
                        _write_whole(file, chunk)
                    if on_progress:
                        on_progress(len(chunk))
                with self._translated():
                    os.fsync(file)
            finally:
                os.close(file)
            self._give_name(temporary, path, key, if_absent=if_absent)
        finally:
            with self._translated():
                temporary.unlink(missing_ok=True)
            self._prune(path.parent)

    def _open_temporary(self, path: Path) -> tuple[int, Path]:
        """Make a file beside the one to be; again if somebody who removed a neighbour took the empty directory away."""
        temporary = path.with_name(f"{UPLOAD}{secrets.token_hex(8)}-{path.name}")
        for _ in range(TRIES):
            with self._translated(), suppress(FileNotFoundError, FileExistsError):
                self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
                self._make_directory(path.parent)
                return os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), temporary
        raise self._fault(OSError(errno.EBUSY, f"{path.parent} cannot be made"))

    def _make_directory(self, path: Path) -> None:
        if path != self._root and not path.is_dir():
            self._make_directory(path.parent)
            path.mkdir(mode=0o700, exist_ok=True)
            flush_directory(path.parent)

    def _give_name(self, temporary: Path, path: Path, key: str, *, if_absent: bool) -> None:
        """A link fails where a name exists, a rename replaces it."""
        with self._translated():
            try:
                if if_absent:
                    path.hardlink_to(temporary)
                else:
                    temporary.rename(path)
            except FileExistsError as error:
                raise AlreadyExists(f"object '{key}' exists already", code="object_exists") from error
            except FileNotFoundError as error:  # housekeeping took an upload that it believed dead
                raise self._fault(error) from error
            with suppress(FileNotFoundError):  # somebody removed the object and its empty directory already
                flush_directory(path.parent)

    def _prune(self, directory: Path) -> None:
        """Remove directories that are empty now; the system refuses those that are not."""
        while directory != self._root:
            try:
                directory.rmdir()
            except OSError:
                return
            directory = directory.parent

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

    def _pieces(self, file: int, limit_bytes: int) -> Iterator[bytes]:
        """Read up to a limit, piece by piece."""
        while limit_bytes:
            with self._translated():
                piece = os.read(file, min(PIECE_BYTES, limit_bytes))
            if not piece:
                return
            limit_bytes -= len(piece)
            yield piece

    def _path(self, key: str) -> Path:
        return self._root / check_key(key)

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


def _write_whole(file: int, chunk: bytes | bytearray) -> None:
    rest = memoryview(chunk)
    while rest:
        rest = rest[os.write(file, rest) :]


def _raise_unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error
