"""The encrypted object, to the byte: see docs/format.md.

header   magic (8) · id of the data key (16) · salt (32)
segments AES-256-GCM of 64 KiB each, the last one shorter or equal
         nonce: 7 zero bytes · counter (4, big-endian) · 1 in the last segment, else 0

The segment key is derived from the data key, the salt and the object's key, so no two objects share one: a segment that
was changed, moved within its object or into another, and an object that was cut, lengthened or renamed do not open.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from migrator.errors import IntegrityError
from migrator.storage.encryption.ring import derive

MAGIC = b"MGRENC01"
ID_BYTES = 16
SALT_BYTES = 32
HEADER_BYTES = len(MAGIC) + ID_BYTES + SALT_BYTES
SEGMENT_BYTES = 64 << 10
TAG_BYTES = 16
STORED_BYTES = SEGMENT_BYTES + TAG_BYTES
"""A whole segment as it is stored."""
GROUP = 16
"""Segments handed on together."""
LARGEST_BYTES = SEGMENT_BYTES << 32


@dataclass(frozen=True, slots=True)
class Header:
    """What stands before the segments."""

    data_key_id: bytes
    salt: bytes

    def pack(self) -> bytes:
        """Return its bytes."""
        return MAGIC + self.data_key_id + self.salt

    @classmethod
    def fresh(cls, data_key_id: bytes) -> Header:
        """Make the header of a new object."""
        return cls(data_key_id, secrets.token_bytes(SALT_BYTES))


def parse_header(data: bytes, key: str) -> Header:
    """Read a header.

    Raises:
        IntegrityError: `object_damaged`.
    """
    if len(data) < HEADER_BYTES or not data.startswith(MAGIC):
        raise damaged(key)
    start = len(MAGIC)
    return Header(data[start : start + ID_BYTES], data[start + ID_BYTES : HEADER_BYTES])


class SegmentCipher:
    """Encrypts and decrypts the segments of one object.

    Args:
        secret: The data key.
        header: The object's.
        key: The object's key, which it is bound to.
    """

    def __init__(self, secret: bytes, header: Header, key: str):
        self._cipher = AESGCM(derive(secret, f"migrator object v1\0{key}", 32, header.salt))
        self._key = key

    def encrypt(self, chunks: Iterable[bytes], size_bytes: int) -> Iterator[bytes]:
        """Encrypt exactly `size_bytes` of plaintext."""
        count, room = segment_count(size_bytes), _Room(STORED_BYTES)
        segments = _cut(chunks, SEGMENT_BYTES) if size_bytes else iter([b""])
        for number, segment in enumerate(segments):
            place = room.next(len(segment) + TAG_BYTES)
            self._cipher.encrypt_into(nonce(number, last=number == count - 1), segment, None, place)
            if room.full:
                yield room.empty()
        if room.used_bytes:
            yield room.empty()

    def decrypt(
        self, chunks: Iterable[bytes], size_bytes: int, first: int = 0, last: int | None = None
    ) -> Iterator[bytes]:
        """Decrypt segments.

        Args:
            chunks: Their bytes.
            size_bytes: Of the whole object.
            first: Which segment they begin with.
            last: Which they end with; None: the object's last.

        Raises:
            IntegrityError: `object_damaged`.
        """
        count, number, room = segment_count(size_bytes), first - 1, _Room(SEGMENT_BYTES)
        for number, segment in enumerate(_cut(chunks, STORED_BYTES), start=first):
            try:
                place = room.next(len(segment) - TAG_BYTES)
                self._cipher.decrypt_into(nonce(number, last=number == count - 1), segment, None, place)
            except (InvalidTag, ValueError) as error:
                raise damaged(self._key) from error
            if room.full:
                yield room.empty()
        if number != (count - 1 if last is None else last):
            raise damaged(self._key)
        if room.used_bytes:
            yield room.empty()


class _Room:
    """Where segments are put side by side before they are handed on: fresh memory for each would cost more than AES.

    Args:
        segment_bytes: How long a whole one is.
    """

    def __init__(self, segment_bytes: int):
        self._memory = memoryview(bytearray(GROUP * segment_bytes))
        self.used_bytes = 0

    @property
    def full(self) -> bool:
        return self.used_bytes == len(self._memory)

    def next(self, size_bytes: int) -> memoryview:
        if size_bytes < 0:
            raise ValueError("too short for a segment")
        start, self.used_bytes = self.used_bytes, self.used_bytes + size_bytes
        return self._memory[start : self.used_bytes]

    def empty(self) -> bytes:
        held, self.used_bytes = bytes(self._memory[: self.used_bytes]), 0
        return held


def nonce(number: int, *, last: bool) -> bytes:
    """Return a segment's nonce; its key is used for this object alone, so a counter does."""
    return bytes(7) + number.to_bytes(4, "big") + bytes([last])


def segment_count(size_bytes: int) -> int:
    """How many segments so much plaintext has; an empty object has one, which vouches for its emptiness."""
    return max(1, -(-size_bytes // SEGMENT_BYTES))


def stored_size(size_bytes: int) -> int:
    """The size of an encrypted object by that of its plaintext."""
    return HEADER_BYTES + size_bytes + TAG_BYTES * segment_count(size_bytes)


def plain_size(stored_bytes: int) -> int:
    """The size of the plaintext by that of the encrypted object; 0 for sizes that no such object has."""
    body_bytes = stored_bytes - HEADER_BYTES
    count = max(1, -(-body_bytes // STORED_BYTES))
    size_bytes = body_bytes - TAG_BYTES * count
    return size_bytes if size_bytes >= 0 and stored_size(size_bytes) == stored_bytes else 0


def damaged(key: str) -> IntegrityError:
    """Say that an object does not open."""
    return IntegrityError(
        f"object '{key}' does not decrypt: its bytes were changed, cut or exchanged",
        code="object_damaged",
        remedy="somebody changed the object store; use another checkpoint or take a new one",
    )


def _cut(chunks: Iterable[bytes], size_bytes: int) -> Iterator[bytes | memoryview]:
    """Cut a stream into pieces of one size, the last one shorter; what lies whole in a chunk is not copied."""
    held = bytearray()
    for chunk in chunks:
        rest = memoryview(chunk)
        if held:
            taken = min(size_bytes - len(held), len(rest))
            held += rest[:taken]
            rest = rest[taken:]
            if len(held) < size_bytes:
                continue
            yield bytes(held)
            held = bytearray()
        whole = len(rest) - len(rest) % size_bytes
        for start in range(0, whole, size_bytes):
            yield rest[start : start + size_bytes]
        held += rest[whole:]
    if held:
        yield bytes(held)
