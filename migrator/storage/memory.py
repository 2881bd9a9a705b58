"""A store in memory, with faults on demand; it passes the same suite as the real ones."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from migrator.errors import AlreadyExists, IntegrityError, Unavailable
from migrator.storage.layout import check_key
from migrator.storage.probing import probe_conditional_put
from migrator.storage.store import PIECE_BYTES, SMALL_BYTES, ObjectInfo, Progress, object_not_found
from migrator.storage.verify import checked, size_mismatch


@dataclass
class Faults:
    """What goes wrong from now on."""

    unavailable: bool = False
    delay_s: float = 0.0
    """Every request takes so much longer."""
    fail_upload_after_bytes: int | None = None
    truncate_bytes: int = 0
    """So many bytes are missing at the end of every download."""
    corrupt: bool = False
    """One bit of every download is turned."""


class MemoryStore:
    """Objects in a dictionary."""

    def __init__(self, name: str = "memory"):
        self.location = f"memory://{name}"
        self.faults = Faults()
        self._objects: dict[str, tuple[bytes, datetime]] = {}
        self._lock = threading.Lock()

    def session(self, checkpoint_id: str) -> MemoryStore:
        """See `ObjectStore.session`."""
        del checkpoint_id
        return self

    def probe(self) -> None:
        """See `ObjectStore.probe`."""
        probe_conditional_put(self)

    def head(self, key: str) -> ObjectInfo | None:
        """See `ObjectStore.head`."""
        self._check(key)
        with self._lock:
            found = self._objects.get(key)
        return ObjectInfo(key, len(found[0]), found[1]) if found else None

    def get(self, key: str, limit_bytes: int = SMALL_BYTES) -> bytes:
        """See `ObjectStore.get`."""
        data = self._read(key)
        if len(data) > limit_bytes:
            raise IntegrityError(f"object '{key}' has more than {limit_bytes} bytes", code="object_too_large")
        return data

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        """See `ObjectStore.put`."""
        self._check(key)
        with self._lock:
            if if_absent and key in self._objects:
                raise AlreadyExists(f"object '{key}' exists already", code="object_exists")
            self._objects[key] = (bytes(data), datetime.now(UTC))

    def put_hashed(self, key: str, data: bytes | bytearray, digest: str) -> None:
        """See `ObjectStore.put_hashed`."""
        del digest
        self.put(key, bytes(data))

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
        self._check(key)
        data = bytearray()
        for chunk in checked(chunks, size_bytes=size_bytes, digest=digest, what=f"object '{key}'"):
            data += chunk
            limit = self.faults.fail_upload_after_bytes
            if limit is not None and len(data) > limit:
                raise self._away()
            if on_progress:
                on_progress(len(chunk))
        self.put(key, bytes(data))

    def download(self, key: str, *, size_bytes: int, on_progress: Progress | None = None) -> Iterator[bytes]:
        """See `ObjectStore.download`."""
        data = self._read(key)
        data = data[: len(data) - self.faults.truncate_bytes]
        if self.faults.corrupt and data:
            data = bytes([data[0] ^ 1]) + data[1:]
        if len(data) != size_bytes:
            raise size_mismatch(f"object '{key}'", size_bytes, len(data))
        for start in range(0, len(data), PIECE_BYTES):
            piece = data[start : start + PIECE_BYTES]
            if on_progress:
                on_progress(len(piece))
            yield piece

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        """See `ObjectStore.get_range`."""
        data = self._read(key)[offset : offset + length]
        data = data[: len(data) - self.faults.truncate_bytes]
        if self.faults.corrupt and data:
            data = bytes([data[0] ^ 1]) + data[1:]
        if len(data) != length:
            raise size_mismatch(f"a range of object '{key}'", length, len(data))
        return data

    def scan(self, prefix: str) -> Iterator[ObjectInfo]:
        """See `ObjectStore.scan`."""
        self._check()
        with self._lock:
            found = sorted((key, len(data), at) for key, (data, at) in self._objects.items() if key.startswith(prefix))
        yield from (ObjectInfo(*item) for item in found)

    def hidden(self, prefix: str) -> Iterator[ObjectInfo]:
        """See `ObjectStore.hidden`; no versions are kept here."""
        del prefix
        return iter(())

    def delete(self, key: str) -> bool:
        """See `ObjectStore.delete`."""
        self._check(key)
        with self._lock:
            self._objects.pop(key, None)
        return True

    def abort_uploads(self, prefix: str, older_than_s: float) -> list[str]:
        """See `ObjectStore.abort_uploads`; nothing is ever half-done here."""
        del prefix, older_than_s
        self._check()
        return []

    def _read(self, key: str) -> bytes:
        self._check(key)
        with self._lock:
            found = self._objects.get(key)
        if found is None:
            raise object_not_found(key, self.location)
        return found[0]

    def _check(self, key: str = "all") -> None:
        check_key(key)
        time.sleep(self.faults.delay_s)
        if self.faults.unavailable:
            raise self._away()

    def _away(self) -> Unavailable:
        return Unavailable(f"{self.location} does not answer", code="store_unavailable", remedy="start it")
