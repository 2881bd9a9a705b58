"""The form of CRIU's images: a mark, then entries, each with its length before it. Nothing of them is trusted."""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Iterator
from typing import Protocol, TypeVar

from google.protobuf.message import DecodeError, Message

from migrator.errors import IntegrityError

COMMON_MARK = 0x54564319
"""Opens every image since version 1.1, before the image's own mark; the inventory alone goes without."""
IMAGE_LIMIT_BYTES = 64 << 20
"""An image that is read whole may not be longer. Pages are never read whole."""
ENTRIES_LIMIT = 1_000_000
_WORD = struct.Struct("<I")
Entry = TypeVar("Entry", bound=Message)


class Images(Protocol):
    """CRIU's images, wherever they lie."""

    def names(self) -> Collection[str]:
        """Return what is there."""

    def size_of(self, name: str) -> int:
        """Return how long an image is.

        Raises:
            IntegrityError: `bad_images`, it is not there.
        """

    def read(self, name: str, limit_bytes: int) -> bytes:
        """Read an image.

        Raises:
            IntegrityError: `bad_images`, it is not there or longer than that.
        """

    def read_at(self, name: str, offset: int, length: int) -> bytes:
        """Read a piece of an image.

        Raises:
            IntegrityError: `bad_images`, it is not there or ends before.
        """


def read_entries(images: Images, name: str, mark: int, kind: type[Entry]) -> list[Entry]:
    """Read all entries of an image.

    Raises:
        IntegrityError: `bad_images`, naming the image.
    """
    return [parse_entry(name, text, kind) for text in entry_texts(name, images.read(name, IMAGE_LIMIT_BYTES), mark)]


def read_entry(images: Images, name: str, mark: int, kind: type[Entry]) -> Entry:
    """Read the first entry of an image.

    Raises:
        IntegrityError: `bad_images`, naming the image.
    """
    text = next(entry_texts(name, images.read(name, IMAGE_LIMIT_BYTES), mark), None)
    if text is None:
        raise damaged(name, "it has no entry")
    return parse_entry(name, text, kind)


def entry_texts(name: str, data: bytes, mark: int) -> Iterator[bytes]:
    """Give the bytes of each entry of an image."""
    view, place, number = memoryview(data), _skip_marks(name, data, mark), 0
    while place < len(data):
        number += 1
        if number > ENTRIES_LIMIT:
            raise damaged(name, f"it has more than {ENTRIES_LIMIT} entries")
        if place + _WORD.size > len(data):
            raise damaged(name, f"the length of entry {number} is cut off")
        (size_bytes,) = _WORD.unpack_from(data, place)
        place += _WORD.size
        if place + size_bytes > len(data):
            raise damaged(name, f"entry {number} claims {size_bytes} bytes and {len(data) - place} are left")
        yield bytes(view[place : place + size_bytes])
        place += size_bytes


def write_entries(mark: int, entries: Iterable[Message]) -> bytes:
    """Return the bytes of an image, as CRIU writes them since version 1.1."""
    pieces = [_WORD.pack(COMMON_MARK), _WORD.pack(mark)]
    for text in (entry.SerializeToString() for entry in entries):
        pieces += _WORD.pack(len(text)), text
    return b"".join(pieces)


def parse_entry(name: str, text: bytes, kind: type[Entry]) -> Entry:
    """Read one entry."""
    try:
        return kind.FromString(text)
    except DecodeError as error:
        raise damaged(name, f"an entry is not what belongs there ({error})") from error


def damaged(name: str, why: str) -> IntegrityError:
    """Say that an image is not what it should be."""
    return IntegrityError(
        f"CRIU's image {name[:100]!r} is malformed: {why}",
        code="bad_images",
        remedy="it was made by another CRIU, or damaged; a restore would be refused by CRIU",
    )


def text_of(name: bytes) -> str:
    """A path or name as text; what is not UTF-8 is written as escapes."""
    return name.split(b"\0")[0].decode(errors="backslashreplace")


def _skip_marks(name: str, data: bytes, mark: int) -> int:
    words = [COMMON_MARK, mark]
    if len(data) >= _WORD.size and _WORD.unpack_from(data)[0] == mark:
        words = [mark]  # version 1, and the inventory
    place = 0
    for word in words:
        if len(data) < place + _WORD.size or _WORD.unpack_from(data, place)[0] != word:
            raise damaged(name, "it does not begin with its mark")
        place += _WORD.size
    return place
