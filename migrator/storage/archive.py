"""Export a checkpoint as an OCI archive: a tar that `ctr image import` takes. Nothing is held in memory or on disk."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from migrator.models.descriptors import Descriptor, digest_bytes
from migrator.models.roles import ROLE_ANNOTATION, Role
from migrator.storage import layout
from migrator.storage.checkpoints import CheckpointStore
from migrator.storage.chunks import is_chunked
from migrator.storage.oci import INDEX_TYPES, FactAnnotation, parse_index
from migrator.storage.rebuilding import BuiltPart, built_part

BLOCK = tarfile.BLOCKSIZE
IMAGE_NAME = "image.name"
"""containerd's own annotation of a checkpoint: the name of its base image."""


def export_archive(store: CheckpointStore, workload_id: str, checkpoint_id: str) -> Iterator[bytes]:
    """Give the bytes of the archive; the same checkpoint always gives the same bytes.

    Args:
        store: Where it is.
        workload_id: Its workload.
        checkpoint_id: Its id.

    Returns:
        Pieces of a tar stream. Its errors come before its first byte as far as they concern the index.

    Raises:
        NotFound: `checkpoint_not_found`.
        IntegrityError: A blob is not what its digest says; the stream ends there and is of no use.
    """
    index_bytes = store.read_index_bytes(workload_id, checkpoint_id)
    index = parse_index(index_bytes)
    built = {part.digest: built_part(store, part) for part in index.parts if is_chunked(part)}
    if built:
        index_bytes = _with_parts(index_bytes, [part.descriptor for part in built.values()])
    plain = [_plain(store, part) for part in store.reachable(index) if part.digest not in built]
    blobs = sorted([*plain, *built.values()], key=lambda part: part.descriptor.digest)
    name = archive_name(index.annotations.get(FactAnnotation.CONTAINER, "container"), checkpoint_id)
    named = [_named(Descriptor(INDEX_TYPES[0], digest_bytes(index_bytes), len(index_bytes)), name)]
    if base_name := index.annotations.get(IMAGE_NAME):
        # `ctr container restore` looks for the base image by its name, on a host that perhaps never had it.
        named.append(_named(index.part(Role.IMAGE), base_name))
    return _stream(index_bytes, blobs, named)


def archive_name(container: str, checkpoint_id: str) -> str:
    """The image name under which an import makes the checkpoint known."""
    return f"migrator/checkpoint/{container.lower()}:{checkpoint_id}"


def _named(target: Descriptor, name: str) -> dict[str, Any]:
    notes = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name}
    return replace(target, annotations=notes).to_oci()


def _plain(store: CheckpointStore, part: Descriptor) -> BuiltPart:
    return BuiltPart(part, partial(store.get_blob, part.digest, part.size_bytes))


def _with_parts(index_bytes: bytes, parts: list[Descriptor]) -> bytes:
    """The index with other parts in place of those with the same roles."""
    document = json.loads(index_bytes)
    instead = {part.annotations[ROLE_ANNOTATION]: part.to_oci() for part in parts}
    document["manifests"] = [
        instead.get(item.get("annotations", {}).get(ROLE_ANNOTATION), item) for item in document["manifests"]
    ]
    return json.dumps(document, sort_keys=True).encode()


def _stream(index_bytes: bytes, blobs: list[BuiltPart], named: list[dict[str, Any]]) -> Iterator[bytes]:
    top = json.dumps({"schemaVersion": 2, "manifests": named}, sort_keys=True).encode()
    yield from _file(layout.OCI_LAYOUT, layout.OCI_LAYOUT_CONTENT)
    yield from _file("index.json", top)
    yield from _file(layout.blob_key(digest_bytes(index_bytes)), index_bytes)
    for blob in blobs:
        yield _header(layout.blob_key(blob.descriptor.digest), blob.descriptor.size_bytes)
        yield from blob.read()
        yield _padding(blob.descriptor.size_bytes)
    yield bytes(2 * BLOCK)


def _file(name: str, data: bytes) -> Iterator[bytes]:
    yield _header(name, len(data))
    yield data
    yield _padding(len(data))


def _header(name: str, size_bytes: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size_bytes
    info.mode = 0o600
    return info.tobuf(tarfile.PAX_FORMAT)


def _padding(size_bytes: int) -> bytes:
    return bytes(-size_bytes % BLOCK)
