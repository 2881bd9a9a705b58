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
    """Say how a chunked part will stand in an archive. Changed files are read once, to know how long they get.

    Raises:
        IntegrityError: A chunk is missing, or not what its name says.
    """
    part = part_of(descriptor)
    if part.annotations.get(ROLE_ANNOTATION) != Role.RW_DIFF or part.media_type != LAYER:
        return BuiltPart(part, lambda: store.read_part(descriptor))
    digest, size_bytes = hashlib.sha256(), 0
    for piece in compressed(store.read_part(descriptor)):
        digest.update(piece)
        size_bytes += len(piece)
    packed = replace(part, media_type=f"{LAYER}+gzip", digest=f"sha256:{digest.hexdigest()}", size_bytes=size_bytes)
    return BuiltPart(packed, lambda: _compressed_again(store, descriptor, packed))


def compressed(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Compress a stream; the same bytes always give the same."""
    packer = zlib.compressobj(1, wbits=zlib.MAX_WBITS | GZIP)
    for piece in pieces:
        if packed := packer.compress(piece):
            yield packed
    yield packer.flush()


def _compressed_again(store: PartStore, descriptor: Descriptor, packed: Descriptor) -> Iterator[bytes]:
    pieces = compressed(store.read_part(descriptor))
    return checked(pieces, size_bytes=packed.size_bytes, digest=packed.digest, what=f"part {packed.digest}")
