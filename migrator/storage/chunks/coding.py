"""How a chunk gets its name and how it is stored: BLAKE3-256, and zstd where that pays."""

from __future__ import annotations

import threading
from typing import Protocol

import zstandard
from blake3 import blake3

from migrator.errors import IntegrityError

RAW = 0
ZSTD = 1
LEVEL = 3
PAYS = 31 / 32
"""What does not get shorter than this is kept as it is: nobody should have to decompress it."""
TRIED = 4
"""So many chunks in a row must fail to get shorter before some are left out."""
MOST_SKIPPED = 64


class ChunkCoding(Protocol):
    """Turns chunks into what is stored, and back. May be used by several threads at once."""

    def name(self, chunk: bytes | memoryview) -> bytes:
        """Return the 32 bytes by which a chunk is known."""

    def encode(self, chunk: bytes) -> tuple[int, bytes]:
        """Return codec and stored form of a chunk."""

    def decode(self, name: bytes, codec: int, stored: bytes, size_bytes: int) -> bytes:
        """Return a chunk from its stored form.

        Raises:
            IntegrityError: `chunk_damaged`, it is not the one with that name and length.
        """


class PlainCoding:
    """Compressed where it pays, not encrypted."""

    def __init__(self) -> None:
        self._local = threading.local()

    def name(self, chunk: bytes | memoryview) -> bytes:
        """See `ChunkCoding.name`."""
        return blake3(chunk).digest()

    def encode(self, chunk: bytes) -> tuple[int, bytes]:
        """See `ChunkCoding.encode`."""
        packed = self._compressor().compress(chunk)
        return (ZSTD, packed) if len(packed) < len(chunk) * PAYS else (RAW, chunk)

    def decode(self, name: bytes, codec: int, stored: bytes, size_bytes: int) -> bytes:
        """See `ChunkCoding.decode`."""
        chunk = self._unpack(name, codec, stored, size_bytes)
        if len(chunk) != size_bytes or self.name(chunk) != name:
            raise chunk_damaged(name, "its bytes are not what its name says")
        return chunk

    def _unpack(self, name: bytes, codec: int, stored: bytes, size_bytes: int) -> bytes:
        if codec == RAW:
            return stored
        if codec != ZSTD:
            raise chunk_damaged(name, f"it has the unknown codec {codec}")
        try:
            # A frame may claim any length, and room for it would be made at once, whatever `max_output_size` says.
            if zstandard.frame_content_size(stored) > size_bytes:
                raise chunk_damaged(name, "it is longer than it should be")
            return self._decompressor().decompress(stored, max_output_size=size_bytes)
        except zstandard.ZstdError as error:
            raise chunk_damaged(name, f"it cannot be decompressed ({error})") from error

    def _compressor(self) -> zstandard.ZstdCompressor:
        """One for each thread: it may not be shared, and is slow to make."""
        if not hasattr(self._local, "compressor"):
            self._local.compressor = zstandard.ZstdCompressor(LEVEL)
        found: zstandard.ZstdCompressor = self._local.compressor
        return found

    def _decompressor(self) -> zstandard.ZstdDecompressor:
        if not hasattr(self._local, "decompressor"):
            self._local.decompressor = zstandard.ZstdDecompressor()
        found: zstandard.ZstdDecompressor = self._local.decompressor
        return found


class Sampling:
    """Encodes chunks that follow each other; where none gets shorter, ever fewer are tried.

    Memory lies in stretches of a kind: keys, pictures and what is compressed already are long. For one thread.
    """

    def __init__(self, coding: ChunkCoding):
        self._coding = coding
        self._failed = 0
        self._skipping = 1
        self._left = 0

    def encode(self, chunk: bytes) -> tuple[int, bytes]:
        """Return codec and stored form of the next chunk."""
        if self._left:
            self._left -= 1
            return RAW, chunk
        codec, stored = self._coding.encode(chunk)
        if codec != RAW:
            self._failed, self._skipping = 0, 1
        else:
            self._failed += 1
            if self._failed >= TRIED:
                self._left = self._skipping
                self._skipping = min(2 * self._skipping, MOST_SKIPPED)
        return codec, stored


def chunk_damaged(name: bytes, why: str) -> IntegrityError:
    """Say that a chunk cannot be used."""
    return IntegrityError(
        f"chunk {name.hex()} is damaged: {why}",
        code="chunk_damaged",
        remedy="the bytes were changed in the store or on the way; use another backup",
    )
