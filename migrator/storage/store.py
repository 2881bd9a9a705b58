"""What the rest of the project wants of an object store: a few verbs, errors that are ours, nothing half-written.

An object is visible only when it is whole. Implementations: `s3`, `directory`, and `memory` for tests; all pass the
suite in `tests/contract/storage`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from migrator.errors import NotFound

PIECE_BYTES = 1 << 20
"""How large the pieces are in which objects are handed on."""
SMALL_BYTES = 4 << 20
"""`get` refuses to read more than this into memory unless told otherwise."""

Progress = Callable[[int], None]
"""Called with the number of bytes that were moved since the last call, perhaps from several threads.

What it raises ends the transfer and reaches the caller.
"""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """An object as listed."""

    key: str
    size_bytes: int
    modified_at: datetime


class ObjectStore(Protocol):
    """A place for objects. May be shared by threads. Keys are plain paths: see `layout.check_key`.

    Every method raises `Unavailable` (`store_unavailable`) when the store does not answer, `PermissionDenied`
    (`store_credentials`) when it refuses us, and `NotFound` (`bucket_not_found`) when there is no such bucket.
    """

    location: str
    """What people call it, for messages: `s3://migrator at http://10.0.0.2:8333`."""

    def session(self, checkpoint_id: str) -> ObjectStore:
        """Return the store for the writes of one checkpoint; to most stores that makes no difference."""

    def probe(self) -> None:
        """Check that the store is reachable, is the right one, lets us write, and honours a conditional PUT.

        Raises:
            PreconditionFailed: `store_unfit`, it lets a second conditional PUT win.
        """

    def head(self, key: str) -> ObjectInfo | None:
        """Return what is known of an object; None when it is not there."""

    def get(self, key: str, limit_bytes: int = SMALL_BYTES) -> bytes:
        """Read a small object.

        Raises:
            NotFound: `object_not_found`.
            IntegrityError: `object_too_large`.
        """

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        """Write a small object. Of several writers with `if_absent` exactly one succeeds.

        Raises:
            AlreadyExists: `object_exists`, with `if_absent`. Our own request, repeated because its answer got lost, may
                say so too: compare the bytes where that matters.
        """

    def put_hashed(self, key: str, data: bytes | bytearray, digest: str) -> None:
        """Write an object of some MiB that lies in memory; its digest is believed, so it is not hashed once more."""

    def upload(
        self,
        key: str,
        chunks: Iterable[bytes],
        *,
        size_bytes: int,
        digest: str | None,
        on_progress: Progress | None = None,
    ) -> None:
        """Write a large object in bounded memory; nothing is visible or left over if it fails.

        What `chunks` raises is passed on as it is. Without a digest only the size is checked: for a caller who looks at
        the bytes himself and raises.

        Raises:
            IntegrityError: `digest_mismatch` or `size_mismatch`, the bytes are not what was announced.
        """

    def download(self, key: str, *, size_bytes: int, on_progress: Progress | None = None) -> Iterator[bytes]:
        """Read a large object in order and in bounded memory. Closing the iterator ends the transfer.

        Raises:
            NotFound: `object_not_found`.
            IntegrityError: `size_mismatch`, the object is shorter or longer.
        """

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        """Read `length` bytes of an object from `offset` on.

        Raises:
            NotFound: `object_not_found`.
            IntegrityError: `size_mismatch`, the object ends before that.
        """

    def scan(self, prefix: str) -> Iterator[ObjectInfo]:
        """List the objects whose keys begin with a prefix, by key."""

    def hidden(self, prefix: str) -> Iterator[ObjectInfo]:
        """List what was deleted though the store keeps versions of it: what these occupy, and when that was."""

    def delete(self, key: str) -> bool:
        """Delete an object; an absent one is fine.

        Returns:
            Whether its bytes are free now; False: nobody sees it any more, and the store keeps versions of it.

        Raises:
            PreconditionFailed: `object_locked`, the store must keep it for now; it is as it was.
        """

    def abort_uploads(self, prefix: str, older_than_s: float) -> list[str]:
        """Remove what uploads of killed processes left, if they began longer ago; return the keys they were for."""


def object_not_found(key: str, location: str) -> NotFound:
    """Say that an object is not there."""
    return NotFound(
        f"object '{key}' is not in {location}",
        code="object_not_found",
        remedy="it was removed or never finished; take a new checkpoint",
    )
