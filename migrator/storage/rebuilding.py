"""Chunked parts as the archive wants them: whole, and changed files in the form that `ctr container restore` knows."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from migrator.models.descriptors import Descriptor
from migrator.models.roles import ROLE_ANNOTATION, Role
from migrator.storage.chunks import part_of
from migrator.storage.parts import PartStore
from migrator.storage.verify import checked

LAYER = "application/vnd.oci.image.layer.v1.tar"
GZIP = 16
"""Added to zlib's window bits: the form is gzip's, its header without name and time."""


@dataclass(frozen=True, slots=True)
class BuiltPart:
    """A blob that is not in the store as such, and how to read it."""

    descriptor: Descriptor
    read: Callable[[], Iterator[bytes]]


def built_part(store: PartStore, descriptor: Descriptor) -> BuiltPart:
    """Say how a chunked part will stand in an archive.

    Changed files, and what nobody knows the digest of, are read once more before.

    Raises:
        IntegrityError: A chunk is missing, or not what its name says.
    """
    part = part_of(descriptor)
    if part.annotations.get(ROLE_ANNOTATION) == Role.RW_DIFF and part.media_type == LAYER:
        packed = replace(part, media_type=f"{LAYER}+gzip")
        return _measured(packed, lambda: compressed(store.read_part(descriptor)))
    if not part.digest:
        return _measured(part, lambda: store.read_part(descriptor))
    return BuiltPart(part, lambda: store.read_part(descriptor))


def _measured(part: Descriptor, read: Callable[[], Iterator[bytes]]) -> BuiltPart:
    """Find digest and length of what is read, and hold the next reading against them."""
    digest, size_bytes = hashlib.sha256(), 0
    for piece in read():
        digest.update(piece)
        size_bytes += len(piece)
    whole = replace(part, digest=f"sha256:{digest.hexdigest()}", size_bytes=size_bytes)
    return BuiltPart(
        whole, lambda: checked(read(), size_bytes=size_bytes, digest=whole.digest, what=f"part {whole.digest}")
    )


def compressed(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Compress a stream; the same bytes always give the same."""
    packer = zlib.compressobj(1, wbits=zlib.MAX_WBITS | GZIP)
    for piece in pieces:
        if packed := packer.compress(piece):
            yield packed
    yield packer.flush()
