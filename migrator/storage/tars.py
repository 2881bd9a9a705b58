"""Tars from the object store, read without unpacking. Their headers are read in bounded memory, whatever they claim."""

from __future__ import annotations

import io
import tarfile
import zlib
from collections.abc import Collection, Iterable, Iterator
from typing import BinaryIO, cast

from migrator.errors import IntegrityError
from migrator.models.descriptors import LARGEST_BYTES

HEADERS_LIMIT_BYTES = 4 << 20
"""What precedes the content of one file, its long names and attributes included."""
COPY_BYTES = 1 << 20
UNPACKED_LIMIT_BYTES = 1 << 40
"""A compressed tar that grows longer is not read to its end."""


class TarFiles:
    """The plain files in the top level of a tar, each at its place.

    Args:
        file: The tar, which can be read at any place.
        what: What it is, for messages.
        code: The code of what is wrong with it.
        limit: How many files there may be.

    Raises:
        IntegrityError: It is no tar, holds something else than plain files, or a name twice.
    """

    def __init__(self, file: BinaryIO, what: str, *, code: str, limit: int):
        self._file = file
        self._what = what
        self._code = code
        self._places: dict[str, tuple[int, int]] = {}
        for member in headers(file, what, code=code, limit=limit):
            self._enter(member)

    def names(self) -> Collection[str]:
        """Return the names of the files."""
        return self._places.keys()

    def size_of(self, name: str) -> int:
        """Return how long a file is.

        Raises:
            IntegrityError: It is not there.
        """
        return self._place(name)[1]

    def read(self, name: str, limit_bytes: int) -> bytes:
        """Read a whole file.

        Raises:
            IntegrityError: It is not there, or longer than that.
        """
        _, size_bytes = self._place(name)
        if size_bytes > limit_bytes:
            raise self._wrong(f"{name[:100]!r} has {size_bytes} bytes, more than {limit_bytes}")
        return self.read_at(name, 0, size_bytes)

    def read_at(self, name: str, offset: int, length: int) -> bytes:
        """Read a piece of a file.

        Raises:
            IntegrityError: It is not there, or ends before.
        """
        start, size_bytes = self._place(name)
        if offset + length > size_bytes:
            raise self._wrong(f"{name[:100]!r} ends before byte {offset + length}")
        self._file.seek(start + offset)
        data = self._file.read(length)
        if len(data) != length:
            raise self._wrong(f"{name[:100]!r} is cut off")
        return data

    def _enter(self, member: tarfile.TarInfo) -> None:
        name = member.name.removeprefix("./").rstrip("/")
        if member.isdir() and name in ("", "."):
            return
        if not member.isreg() or member.issparse() or "/" in name or name in ("", ".", ".."):
            raise self._wrong(f"{name[:100]!r} is not a plain file")
        if name in self._places:
            raise self._wrong(f"{name[:100]!r} is there twice")
        self._places[name] = (member.offset_data, member.size)

    def _place(self, name: str) -> tuple[int, int]:
        if name not in self._places:
            raise self._wrong(f"{name[:100]!r} is not there")
        return self._places[name]

    def _wrong(self, why: str) -> IntegrityError:
        return IntegrityError(f"{self._what} cannot be read: {why}", code=self._code)


def headers(file: BinaryIO, what: str, *, code: str, limit: int) -> Iterator[tarfile.TarInfo]:
    """Give the header of each member of a tar; contents are passed over.

    Args:
        file: The tar.
        what: What it is, for messages.
        code: The code of what is wrong with it.
        limit: How many members there may be.

    Raises:
        IntegrityError: It is no tar, or beyond a limit.
    """
    bounded = _BoundedFile(file, what, code)
    try:
        with tarfile.open(fileobj=bounded, mode="r:") as archive:
            for _ in range(limit + 1):
                member = archive.next()
                if member is None:
                    return
                archive.members = []  # type: ignore[attr-defined]  # nobody asks for them again
                if not 0 <= member.size <= LARGEST_BYTES:
                    raise IntegrityError(f"{what} holds a file of {member.size} bytes", code=code)
                bounded.renew()
                yield member
    except (tarfile.TarError, ValueError, ArithmeticError, EOFError, LookupError) as error:
        # Some malformed headers end in tarfile's own arithmetic.
        raise IntegrityError(f"{what} is no tar: {error}", code=code) from error
    raise IntegrityError(f"{what} holds more than {limit} files", code=code)


def gunzipped(file: BinaryIO, what: str, code: str) -> BinaryIO:
    """Open what a gzip file holds, to be read from front to back in bounded memory.

    Reading raises:
        IntegrityError: It is none, is cut off, or unpacks to more than `UNPACKED_LIMIT_BYTES`.
    """
    return cast("BinaryIO", _ForwardFile(_gunzip(file, what, code)))


class _BoundedFile(io.RawIOBase):
    """A tar as `tarfile` may read it: no more than so much between two members.

    Args:
        file: The tar.
        what: What it is, for messages.
        code: The code of a header that is too long.
    """

    def __init__(self, file: BinaryIO, what: str, code: str):
        self._inner = file
        self._what = what
        self._code = code
        self._left_bytes = HEADERS_LIMIT_BYTES

    def renew(self) -> None:
        """A member has come to its end."""
        self._left_bytes = HEADERS_LIMIT_BYTES

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._inner.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._inner.seek(offset, whence)

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= self._left_bytes:
            raise IntegrityError(f"{self._what} holds headers that do not end", code=self._code)
        self._left_bytes -= size
        return self._inner.read(size)


class _ForwardFile(io.RawIOBase):
    """Chunks as a file that is read from front to back; what is passed over is thrown away.

    Args:
        chunks: The bytes.
    """

    def __init__(self, chunks: Iterable[bytes]):
        self._chunks = iter(chunks)
        self._rest = memoryview(b"")
        self._place = 0

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence != io.SEEK_SET or offset < self._place:
            raise ValueError("this file is read from front to back")
        while self._place < offset and self._fill():
            self._take(offset - self._place)
        return self._place

    def read(self, size: int = -1) -> bytes:
        found = bytearray()
        while len(found) < size and self._fill():
            found += self._take(size - len(found))
        return bytes(found)

    def _fill(self) -> bool:
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return False
            self._rest = memoryview(chunk)
        return True

    def _take(self, size: int) -> memoryview:
        taken, self._rest = self._rest[:size], self._rest[size:]
        self._place += len(taken)
        return taken


def _gunzip(file: BinaryIO, what: str, code: str) -> Iterator[bytes]:
    opener, total_bytes = zlib.decompressobj(31), 0
    while not opener.eof:
        packed = opener.unconsumed_tail or file.read(COPY_BYTES)
        try:
            piece = opener.decompress(packed, COPY_BYTES)
        except zlib.error as error:
            raise IntegrityError(f"{what} is not compressed as it says: {error}", code=code) from error
        total_bytes += len(piece)
        if total_bytes > UNPACKED_LIMIT_BYTES:
            raise IntegrityError(f"{what} unpacks to more than {UNPACKED_LIMIT_BYTES} bytes", code=code)
        if not packed and not piece and not opener.eof:
            raise IntegrityError(f"{what} is cut off", code=code)
        yield piece
