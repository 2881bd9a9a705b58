"""Data keys: one for each checkpoint, at rest wrapped by a key of the ring. Rotation touches these small objects alone.

keys/data/HEX       JSON: which key of the ring wraps it, nonce, wrapped key; HEX is its id
keys/ring.json      which deployment's keys this store was encrypted with, so that nobody writes with others
"""

from __future__ import annotations

import json
import secrets
import threading
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Iterator, Set
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from migrator.errors import AlreadyExists, IntegrityError, NotFound, PermissionDenied, PreconditionFailed
from migrator.storage.encryption.ring import KeyRing, RingKey
from migrator.storage.encryption.source import RingSource
from migrator.storage.layout import DATA_KEYS, RING_MARK
from migrator.storage.store import ObjectStore

VERSION = 1
SECRET_BYTES = 32
NONCE_BYTES = 12
RECORD_LIMIT_BYTES = 4096
KNOWN_LIMIT = 10_000
"""Data keys kept in memory; the oldest go first."""


@dataclass(frozen=True, repr=False)
class DataKey:
    """A key that objects are encrypted with. Never printed: it has no repr."""

    id: bytes
    secret: bytes


class DataKeys:
    """The data keys of a store.

    Args:
        objects: The store itself, not the encrypted one.
        source: The ring that wraps them.
    """

    def __init__(self, objects: ObjectStore, source: RingSource):
        self._objects = objects
        self._source = source
        self._known: dict[bytes, DataKey] = {}
        self._lock = threading.Lock()

    def for_purpose(self, purpose: str) -> DataKey:
        """Return the data key for a purpose (a checkpoint's id), made now if there is none: of several, one wins.

        It is in the store before anything is encrypted with it.
        """
        ring = self._source.current()
        key_id = ring.data_key_id(purpose)
        with self._lock:
            if key_id in self._known:
                return self._known[key_id]
        active_id = self.check_ring(write=True)
        try:
            return self.with_id(key_id)
        except NotFound as error:
            if error.code != "data_key_missing":
                raise
        made = DataKey(key_id, secrets.token_bytes(SECRET_BYTES))
        try:
            self._objects.put(
                data_key_path(key_id), wrap(made, self._source.current().key(str(active_id))), if_absent=True
            )
        except AlreadyExists:
            return self.with_id(key_id)  # somebody else's, or our own whose answer got lost
        return self._remember(made)

    def with_id(self, key_id: bytes) -> DataKey:
        """Return a data key.

        Raises:
            NotFound: `data_key_missing`.
            PermissionDenied: `store_key_unknown`, the ring has no key that unwraps it.
            IntegrityError: `data_key_damaged`.
        """
        with self._lock:
            if key_id in self._known:
                return self._known[key_id]
        record = self.record(key_id)
        ring = self._source.current()
        if not ring.knows(wrapped_by(record, key_id)):
            ring = self._source.again()
        return self._remember(unwrap(record, key_id, ring, self._source.place))

    def record(self, key_id: bytes) -> bytes:
        """Return a data key as it lies in the store, wrapped."""
        try:
            return self._objects.get(data_key_path(key_id), RECORD_LIMIT_BYTES)
        except NotFound as error:
            if error.code != "object_not_found":
                raise
            raise NotFound(
                f"data key {key_id.hex()} is not in {self._objects.location}",
                code="data_key_missing",
                remedy="it was removed, or an object's header was changed; restore objects below keys/ from a copy",
            ) from error

    def ids(self) -> Iterator[bytes]:
        """List all data keys."""
        for info in self._objects.scan(DATA_KEYS):
            yield bytes.fromhex(info.key.removeprefix(DATA_KEYS))

    def unused(
        self, used: Callable[[], Set[bytes]], written_before: datetime, checkpoints: Iterable[str]
    ) -> set[bytes]:
        """List data keys that no object needs, but for young ones, and those of this month and the last.

        A checkpoint is not written any more when its data key is old; what belongs to none goes on to be.

        Args:
            used: Reads which are needed. It looks at every object, so it is asked only if there is any doubt.
            written_before: Only older ones.
            checkpoints: Ids of checkpoints that are there: theirs are needed without a look.
        """
        ring, now = self._source.current(), datetime.now(UTC)
        months = (now, now.replace(day=1) - timedelta(days=1))
        purposes = [*map(general_purpose, months), *map(checkpoint_purpose, checkpoints)]
        old = {
            bytes.fromhex(info.key.removeprefix(DATA_KEYS))
            for info in self._objects.scan(DATA_KEYS)
            if info.modified_at < written_before
        }
        doubtful = old - {ring.data_key_id(purpose) for purpose in purposes}
        return doubtful - used() if doubtful else doubtful

    def remove(self, key_id: bytes) -> bool:
        """Remove a data key; False if the store must keep it for now."""
        try:
            self._objects.delete(data_key_path(key_id))
        except PreconditionFailed:
            return False
        with self._lock:
            self._known.pop(key_id, None)
        return True

    def rewrap(self, key_id: bytes, ring: KeyRing) -> bool:
        """Wrap a data key by the active key unless it is so already; tell whether it was done now."""
        record = self.record(key_id)
        if wrapped_by(record, key_id) == ring.active_id:
            return False
        self._objects.put(data_key_path(key_id), wrap(unwrap(record, key_id, ring, self._source.place), ring.active))
        return True

    def check_ring(self, *, write: bool = False) -> str | None:
        """Make sure that this store was encrypted with our keys, and return the key that is active.

        The first writer leaves a note that says so; rotation changes it. It counts more than the ring, which on this
        host may be older.

        Args:
            write: Leave that note if there is none.

        Returns:
            The key's id; None if there is no note yet.

        Raises:
            PermissionDenied: `store_key_unknown`.
        """
        ring = self._source.current()
        try:
            told = self._objects.get(RING_MARK, RECORD_LIMIT_BYTES)
        except NotFound as error:
            if error.code != "object_not_found":
                raise
            if not write:
                return None
            self._mark(ring)
            told = self._objects.get(RING_MARK, RECORD_LIMIT_BYTES)
        return self._compare(told, ring)

    def mark_active(self, ring: KeyRing) -> None:
        """Let everybody who looks at the store know which key is active."""
        self._objects.put(RING_MARK, _mark_of(ring))

    def _mark(self, ring: KeyRing) -> None:
        try:
            self._objects.put(RING_MARK, _mark_of(ring), if_absent=True)
        except AlreadyExists:
            return

    def _compare(self, told: bytes, ring: KeyRing) -> str:
        try:
            mark = json.loads(told)
            names, active = str(mark["names"]), str(mark["active"])
        except (ValueError, KeyError, TypeError) as error:
            raise IntegrityError(
                f"'{RING_MARK}' of {self._objects.location} is damaged",
                code="data_key_damaged",
                remedy="remove it: it is written anew",
            ) from error
        if names != ring.fingerprint:
            raise _unknown(f"{self._objects.location} is encrypted with the keys of another deployment", self._source)
        if not ring.knows(active) and not self._source.again().knows(active):
            raise _unknown(f"{self._objects.location} is encrypted with key {active[:40]}", self._source)
        return active

    def _remember(self, key: DataKey) -> DataKey:
        with self._lock:
            if len(self._known) >= KNOWN_LIMIT:
                del self._known[next(iter(self._known))]
            return self._known.setdefault(key.id, key)


def general_purpose(month: datetime) -> str:
    """The purpose of the data key for what belongs to no checkpoint that is kept."""
    return f"general/{month:%Y-%m}"


def checkpoint_purpose(checkpoint_id: str) -> str:
    """The purpose of the data key of a checkpoint."""
    return f"checkpoint/{checkpoint_id}"


def data_key_path(key_id: bytes) -> str:
    """Return where a data key lies."""
    return f"{DATA_KEYS}{key_id.hex()}"


def wrap(key: DataKey, by: RingKey) -> bytes:
    """Return a data key's record."""
    nonce = secrets.token_bytes(NONCE_BYTES)
    wrapped = AESGCM(by.wrapping_key).encrypt(nonce, key.secret, _bound(key.id, by.id))
    record = {
        "version": VERSION,
        "key": by.id,
        "nonce": b64encode(nonce).decode(),
        "wrapped": b64encode(wrapped).decode(),
    }
    return json.dumps(record).encode()


def wrapped_by(record: bytes, key_id: bytes) -> str:
    """Return the id of the ring's key that wraps a data key.

    Raises:
        IntegrityError: `data_key_damaged`.
    """
    return _parse(record, key_id)[0]


def unwrap(record: bytes, key_id: bytes, ring: KeyRing, place: str) -> DataKey:
    """Open a data key's record.

    Raises:
        PermissionDenied: `store_key_unknown`.
        IntegrityError: `data_key_damaged`.
    """
    by, nonce, wrapped = _parse(record, key_id)
    if not ring.knows(by):
        raise PermissionDenied(
            f"data key {key_id.hex()} is wrapped by key {by}, which the {place} lacks",
            code="store_key_unknown",
            remedy="bring this host's key ring up to date: copy it from where `migrator keys rotate` ran",
        )
    try:
        secret = AESGCM(ring.key(by).wrapping_key).decrypt(nonce, wrapped, _bound(key_id, by))
    except (InvalidTag, ValueError) as error:
        raise _damaged(key_id, f"it does not open with key {by}") from error
    return DataKey(key_id, secret)


def _bound(key_id: bytes, by: str) -> bytes:
    return b"migrator data key v1\0" + key_id + by.encode()


def _parse(record: bytes, key_id: bytes) -> tuple[str, bytes, bytes]:
    try:
        document = json.loads(record)
        if document["version"] != VERSION:
            raise _damaged(key_id, "its record is of another version")
        nonce, wrapped = (b64decode(document[name], validate=True) for name in ("nonce", "wrapped"))
        return str(document["key"])[:40], nonce, wrapped
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged(key_id, "its record is malformed") from error


def _damaged(key_id: bytes, why: str) -> IntegrityError:
    return IntegrityError(
        f"data key {key_id.hex()} cannot be used: {why}",
        code="data_key_damaged",
        remedy="the key ring is another one, or somebody changed the object store; put back keys/ from a copy",
    )


def _mark_of(ring: KeyRing) -> bytes:
    return json.dumps({"version": 1, "names": ring.fingerprint, "active": ring.active_id}).encode()


def _unknown(what: str, source: RingSource) -> PermissionDenied:
    return PermissionDenied(
        f"{what}, which the {source.place} lacks",
        code="store_key_unknown",
        remedy="give this process the key ring that the store was encrypted with",
    )
