"""Watch bytes go by: count them, hash them, and refuse what is not what was announced."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

from migrator.errors import IntegrityError
from migrator.storage.store import Progress


def checked(chunks: Iterable[bytes], *, size_bytes: int, digest: str | None, what: str) -> Iterator[bytes]:
    """Pass chunks on; at the end raise unless they were as announced. The last chunk is held back until then.

    Args:
        chunks: The bytes.
        size_bytes: How many there must be.
        digest: `sha256:HEX` of all of them; None if it is not known.
        what: What they are, for the message.

    Raises:
        IntegrityError: `size_mismatch` or `digest_mismatch`.
    """
    hasher, seen_bytes, held = hashlib.sha256(), 0, b""
    for chunk in chunks:
        seen_bytes += len(chunk)
        if seen_bytes > size_bytes:
            raise size_mismatch(what, size_bytes, seen_bytes)
        if digest is not None:
            hasher.update(chunk)
        if held:
            yield held
        held = chunk
    if seen_bytes != size_bytes:
        raise size_mismatch(what, size_bytes, seen_bytes)
    if digest is not None and f"sha256:{hasher.hexdigest()}" != digest:
        raise digest_mismatch(what, digest)
    yield held


def counted(chunks: Iterable[bytes], on_progress: Progress | None) -> Iterator[bytes]:
    """Pass chunks on and tell how long each was."""
    for chunk in chunks:
        if on_progress:
            on_progress(len(chunk))
        yield chunk


def digest_mismatch(what: str, digest: str) -> IntegrityError:
    """Say that something is not what its digest says."""
    return IntegrityError(
        f"{what} is not what its digest says ({digest})",
        code="digest_mismatch",
        remedy="the bytes were changed on the way or in the store; take a new checkpoint",
    )


def size_mismatch(what: str, wanted_bytes: int, seen_bytes: int) -> IntegrityError:
    """Say that something is shorter or longer than announced."""
    return IntegrityError(
        f"{what} has {seen_bytes} bytes or more instead of {wanted_bytes}"
        if seen_bytes > wanted_bytes
        else f"{what} has {seen_bytes} bytes instead of {wanted_bytes}",
        code="size_mismatch",
        remedy="it was cut short or changed; take a new checkpoint",
    )
