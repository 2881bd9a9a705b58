"""An object store that encrypts: around any other, with the same verbs and the same promises."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

from migrator.errors import IntegrityError, MigratorError, NotFound
from migrator.storage.encryption.data_keys import DataKeys, checkpoint_purpose, general_purpose
from migrator.storage.encryption.names import NameCipher
from migrator.storage.encryption.segments import (
    HEADER_BYTES,
    SEGMENT_BYTES,
    STORED_BYTES,
    Header,
    SegmentCipher,
    damaged,
    parse_header,
    plain_size,
    stored_size,
)
from migrator.storage.encryption.source import RingSource
from migrator.storage.layout import CHECKPOINTS, ENCRYPTED, KEYS, check_key
from migrator.storage.probing import PROBES
from migrator.storage.store import SMALL_BYTES, ObjectInfo, ObjectStore, Progress, object_not_found
from migrator.storage.verify import checked, size_mismatch

PARALLEL_LOOKS = 8
OPENINGS_LIMIT = 10_000
"""Objects of which ranges are read whose key and size are kept in memory."""


class EncryptedStore:
    """Objects of another store, encrypted under hidden names.

    Args:
        inner: The store that holds them.
        source: The deployment's keys.
    """

    def __init__(self, inner: ObjectStore, source: RingSource):
        self.location = f"{inner.location} (encrypted)"
        self.inner = inner
        self.data_keys = DataKeys(inner, source)
        self._names = NameCipher(source.current().names_key)
        self._purpose: str | None = None
        self._ring_seen = False
        self._openings: dict[str, tuple[SegmentCipher, int]] = {}

    def session(self, checkpoint_id: str) -> EncryptedStore:
        """Return the same store; what is written through it is encrypted with the data key of one checkpoint."""
        other = object.__new__(EncryptedStore)
        other.__dict__ |= self.__dict__ | {"_purpose": checkpoint_purpose(checkpoint_id)}
        other.data_keys.for_purpose(
            str(other._purpose)
        )  # now: what is written later may keep a frozen container waiting
        return other

    def probe(self) -> None:
        """See `ObjectStore.probe`.

        Raises:
            PermissionDenied: `store_key_unknown`, it was encrypted with other keys, or with a newer one.
        """
        self.inner.probe()
        self.data_keys.check_ring()

    def head(self, key: str) -> ObjectInfo | None:
        """See `ObjectStore.head`."""
        with self._named(key) as stored:
            found = self.inner.head(stored)
        return ObjectInfo(key, plain_size(found.size_bytes), found.modified_at) if found else None

    def get(self, key: str, limit_bytes: int = SMALL_BYTES) -> bytes:
        """See `ObjectStore.get`."""
        with self._named(key) as stored:
            try:
                data = self.inner.get(stored, stored_size(limit_bytes))
            except NotFound as error:
                raise self._explained(key, error) from error
            size_bytes = plain_size(len(data))
            if stored_size(size_bytes) != len(data):
                raise damaged(key)
            cipher = self._opening(key, data)
            return b"".join(cipher.decrypt([data[HEADER_BYTES:]], size_bytes))

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        """See `ObjectStore.put`."""
        with self._named(key) as stored:
            self.inner.put(stored, b"".join(self._sealed(key, [data], len(data))), if_absent=if_absent)

    def put_hashed(self, key: str, data: bytes | bytearray, digest: str) -> None:
        """See `ObjectStore.put_hashed`. What is stored has another digest."""
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
        with self._named(key) as stored:
            plain = checked(chunks, size_bytes=size_bytes, digest=digest, what=f"object '{key}'")
            self.inner.upload(
                stored,
                self._sealed(key, plain, size_bytes),
                size_bytes=stored_size(size_bytes),
                digest=None,  # known only when it is all gone by; the plaintext is held against its own
                on_progress=on_progress and _plain_progress(on_progress, size_bytes),
            )

    def download(self, key: str, *, size_bytes: int, on_progress: Progress | None = None) -> Iterator[bytes]:
        """See `ObjectStore.download`."""
        with self._named(key) as stored:
            found = self.inner.head(stored)
            if found is None:
                raise object_not_found(key, self.location)
            if found.size_bytes != stored_size(size_bytes):
                raise size_mismatch(f"object '{key}'", size_bytes, plain_size(found.size_bytes))
            pieces = self.inner.download(stored, size_bytes=found.size_bytes)
            try:
                for piece in self._opened(key, pieces, size_bytes):
                    if on_progress:
                        on_progress(len(piece))
                    yield piece
            finally:
                _close(pieces)

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        """See `ObjectStore.get_range`. An object's key is kept, so that its next range is one request."""
        with self._named(key) as stored:
            known = self._openings.get(key)
            if known is not None:
                with suppress(IntegrityError):  # the object may be another one by now
                    return self._read_range(key, stored, known, offset, length)
            found = self.inner.head(stored)
            if found is None:
                raise object_not_found(key, self.location)
            cipher = self._opening(key, self.inner.get_range(stored, 0, HEADER_BYTES))
            if len(self._openings) >= OPENINGS_LIMIT:
                self._openings.clear()
            self._openings[key] = cipher, plain_size(found.size_bytes)
            return self._read_range(key, stored, self._openings[key], offset, length)

    def _read_range(self, key: str, stored: str, known: tuple[SegmentCipher, int], offset: int, length: int) -> bytes:
        cipher, size_bytes = known
        if offset + length > size_bytes:
            raise size_mismatch(f"a range of object '{key}'", length, max(0, size_bytes - offset))
        if not length:
            return b""
        first, last = offset // SEGMENT_BYTES, (offset + length - 1) // SEGMENT_BYTES
        start = HEADER_BYTES + first * STORED_BYTES
        end = min(start + (last - first + 1) * STORED_BYTES, stored_size(size_bytes))
        plain = b"".join(cipher.decrypt([self.inner.get_range(stored, start, end - start)], size_bytes, first, last))
        return plain[offset - first * SEGMENT_BYTES :][:length]

    def scan(self, prefix: str) -> Iterator[ObjectInfo]:
        """See `ObjectStore.scan`. What lies there under names that are not ours is left out.

        Probes are not hidden.
        """
        if prefix.startswith(PROBES):
            yield from self.inner.scan(prefix)
            return
        if not self._ring_seen:  # with other keys everything would seem to be gone
            self._ring_seen = self.data_keys.check_ring() is not None
        yield from self._read_names(self.inner.scan(self._directory(prefix)), prefix)

    def hidden(self, prefix: str) -> Iterator[ObjectInfo]:
        """See `ObjectStore.hidden`. Sizes are those of what is stored."""
        yield from self._read_names(self.inner.hidden(self._directory(prefix)), prefix, plain=False)

    def _read_names(self, stored: Iterable[ObjectInfo], prefix: str, *, plain: bool = True) -> list[ObjectInfo]:
        found = []
        for info in stored:
            key = self._names.read(info.key.removeprefix(ENCRYPTED))
            if key is not None and key.startswith(prefix):
                size_bytes = plain_size(info.size_bytes) if plain else info.size_bytes
                found.append(ObjectInfo(key, size_bytes, info.modified_at))
        return sorted(found, key=lambda info: info.key)

    def delete(self, key: str) -> bool:
        """See `ObjectStore.delete`."""
        with self._named(key) as stored:
            return self.inner.delete(stored)
        raise AssertionError

    def abort_uploads(self, prefix: str, older_than_s: float) -> list[str]:
        """See `ObjectStore.abort_uploads`. A prefix is empty, a directory with its slash, or a whole key."""
        if prefix and not prefix.endswith("/"):
            aborted = self.inner.abort_uploads(ENCRYPTED + self._names.hide(prefix), older_than_s)
        else:
            aborted = self.inner.abort_uploads(self._directory(prefix), older_than_s)
        keys = [self._names.read(name.removeprefix(ENCRYPTED)) or name for name in aborted]
        return sorted(keys) + ([] if prefix else self.inner.abort_uploads(KEYS, older_than_s))

    def data_keys_used(self) -> set[bytes]:
        """Read which data keys any object needs: the first bytes of every object."""

        def read(info: ObjectInfo) -> bytes | None:
            try:
                return parse_header(self.inner.get_range(info.key, 0, HEADER_BYTES), info.key).data_key_id
            except (NotFound, IntegrityError):
                return None  # gone since it was listed, or no object of ours

        with ThreadPoolExecutor(PARALLEL_LOOKS) as pool:
            return {key_id for key_id in pool.map(read, self.inner.scan(ENCRYPTED)) if key_id}

    def _directory(self, prefix: str) -> str:
        """The stored name of the directory in which all keys with a prefix are, with its slash."""
        above = prefix.rpartition("/")[0]
        return f"{ENCRYPTED}{self._names.hide(above)}/" if above else ENCRYPTED

    def _sealed(self, key: str, chunks: Iterable[bytes], size_bytes: int) -> Iterator[bytes]:
        purpose = self._purpose or general_purpose(datetime.now(UTC))
        data_key = self.data_keys.for_purpose(purpose)
        header = Header.fresh(data_key.id)
        yield header.pack()
        yield from SegmentCipher(data_key.secret, header, key).encrypt(chunks, size_bytes)

    def _opened(self, key: str, chunks: Iterator[bytes], size_bytes: int) -> Iterator[bytes]:
        """Decrypt a whole object."""
        first = b""
        while len(first) < HEADER_BYTES:
            piece = next(chunks, None)
            if piece is None:
                raise damaged(key)
            first += piece
        cipher = self._opening(key, first)

        def body() -> Iterator[bytes]:
            yield first[HEADER_BYTES:]
            yield from chunks

        return cipher.decrypt(body(), size_bytes)

    def _opening(self, key: str, data: bytes) -> SegmentCipher:
        header = parse_header(data, key)
        try:
            data_key = self.data_keys.with_id(header.data_key_id)
        except NotFound as error:
            if error.code != "data_key_missing":
                raise
            raise IntegrityError(
                f"object '{key}' does not decrypt: {error.message}", code="object_damaged", remedy=error.remedy
            ) from error
        return SegmentCipher(data_key.secret, header, key)

    def _explained(self, key: str, error: NotFound) -> NotFound:
        """Say of a checkpoint from before there were keys that it is there, and why it is not read all the same.

        To read it here would let whoever can write to the store put a readable one in the place of any other.
        """
        if error.code != "object_not_found" or not key.startswith(CHECKPOINTS) or self.inner.head(key) is None:
            return error
        return NotFound(
            f"'{key}' lies unencrypted in {self.inner.location}: an encrypted store does not read what is from before "
            "there were keys",
            code="object_not_encrypted",
            remedy="to restore it, run with MIGRATOR_ENCRYPTION=false and MIGRATOR_ACCEPT_UNPROTECTED=true, then take "
            "a new checkpoint; see docs/encryption.md",
        )

    @contextmanager
    def _named(self, key: str) -> Iterator[str]:
        """Give the stored name of a key; an error that tells it tells the key instead."""
        stored = key if key.startswith(PROBES) else ENCRYPTED + self._names.hide(check_key(key))
        try:
            yield stored
        except MigratorError as error:
            error.message = error.message.replace(stored, key)
            raise


def _plain_progress(on_progress: Progress, size_bytes: int) -> Progress:
    """Tell how much of the plaintext went by, by what went by of the encrypted object, perhaps in several threads."""
    lock, total_bytes = threading.Lock(), stored_size(size_bytes)
    seen_bytes = told_bytes = 0

    def count(moved_bytes: int) -> None:
        nonlocal seen_bytes, told_bytes
        with lock:
            seen_bytes += moved_bytes
            fresh_bytes = size_bytes * seen_bytes // total_bytes - told_bytes
            told_bytes += fresh_bytes
        on_progress(fresh_bytes)

    return count


def _close(pieces: Iterator[bytes]) -> None:
    """End a transfer at once, where somebody left early."""
    close: Callable[[], None] | None = getattr(pieces, "close", None)
    if close is not None:
        close()
