"""Cut a stream of bytes by its content, so that an insertion changes the chunks around it and no others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pyfastcdc import FastCDC

AVERAGE_BYTES = 32 << 10
SHORTEST_BYTES = 8 << 10
LONGEST_BYTES = 128 << 10


def cut_by_content(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Give the same bytes in chunks whose borders depend on the content alone.

    Args:
        pieces: The bytes, in pieces of any length.
    """
    cutter = FastCDC(AVERAGE_BYTES, min_size=SHORTEST_BYTES, max_size=LONGEST_BYTES)
    for chunk in cutter.cut_stream(_Reader(pieces)):
        yield bytes(chunk.data)


class _Reader:
    """Pieces, to be read from front to back."""

    def __init__(self, pieces: Iterable[bytes]):
        self._pieces = iter(pieces)
        self._rest = memoryview(b"")

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes; none at the end."""
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._rest = memoryview(piece)
        found, self._rest = self._rest[:size], self._rest[size:]
        return bytes(found)
