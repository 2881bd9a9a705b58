"""The parts of a checkpoint: each is made here, and each carries its role, by which it is found again."""

from __future__ import annotations

import json
import secrets
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING

from google.protobuf.any_pb2 import Any
from google.protobuf.message import DecodeError

from migrator.containerd.ingest import PIECE_BYTES
from migrator.containerd.mediatypes import (
    CHECKPOINT_MEMORY,
    CHECKPOINT_OPTIONS,
    CHECKPOINT_RUNTIME_OPTIONS,
    CHECKPOINT_SPEC,
    CONTAINER_RECORD,
    GC_CONTENT,
    IMAGE_NAME,
    INDEX,
    LAYER_GZIP,
    LAYER_TAR,
    REF_NAME,
    RUNTIME_NAME,
    SNAPSHOTTER_NAME,
    UNCOMPRESSED,
)
from migrator.containerd.snapshots import SnapshotKind, Snapshots
from migrator.containerd.values import Container, Labels, Mount
from migrator.errors import IntegrityError
from migrator.gen.containerd.runc.v1.options_pb2 import Options as RuncOptions
from migrator.gen.containerd.services.containers.v1 import containers_pb2
from migrator.models.descriptors import Descriptor, Platform
from migrator.models.roles import ROLE_ANNOTATION, Role

if TYPE_CHECKING:
    from migrator.containerd.client import ContainerdClient


SPOOL_BYTES = 64 << 20
"""A compressed layer longer than this waits on disk until its length is known."""


SPEC_OBJECTS = ("annotations", "hooks", "linux", "process")
"""What a restore changes in a spec, or looks at."""
_ROLES = {
    CHECKPOINT_MEMORY: Role.MEMORY,
    CHECKPOINT_SPEC: Role.SPEC,
    CHECKPOINT_OPTIONS: Role.CHECKPOINT_OPTIONS,
    CHECKPOINT_RUNTIME_OPTIONS: Role.RUNTIME_OPTIONS,
    CONTAINER_RECORD: Role.CONTAINER,
}
"""Media types that mean one thing only."""


def with_role(part: Descriptor, role: str | None = None) -> Descriptor:
    """Write a part's role into its annotations, and this machine's platform unless it has one."""
    found = role or _ROLES.get(part.media_type)
    notes = {**part.annotations, ROLE_ANNOTATION: str(found)} if found else dict(part.annotations)
    return replace(part, annotations=notes, platform=part.platform or Platform.here())


def by_role(parts: Iterable[Descriptor]) -> dict[str, Descriptor]:
    """Return the parts under their roles.

    Raises:
        IntegrityError: `ambiguous_checkpoint`: two parts claim the same role.
    """
    found: dict[str, Descriptor] = {}
    for part in parts:
        role = part.annotations.get(ROLE_ANNOTATION)
        if role in found:
            raise IntegrityError(f"two parts of the checkpoint are its {role}", code="ambiguous_checkpoint")
        if role:
            found[role] = part
    return found


def write_spec(client: ContainerdClient, container: Container) -> Descriptor:
    """Store the container's spec as the daemon's own checkpoint does; needed after a dump to an image path."""
    return _write_any(client, container.spec, CHECKPOINT_SPEC)


def write_runtime_options(client: ContainerdClient, container: Container) -> Descriptor | None:
    """Store the container's runtime options; nothing when it has none."""
    if container.runtime_options is None or not container.runtime_options.value:
        return None
    return _write_any(client, container.runtime_options, CHECKPOINT_RUNTIME_OPTIONS)


def write_container(client: ContainerdClient, container: Container) -> Descriptor:
    """Store the whole container record: labels and extensions are in no other part."""
    data = container.to_wire().SerializeToString(deterministic=True)
    return with_role(client.content.write_bytes(data, media_type=CONTAINER_RECORD))


def read_record(data: bytes) -> Container:
    """Read what `write_container` wrote, or a stranger.

    Raises:
        IntegrityError: `bad_container_record`, `bad_spec`.
    """
    try:
        found = Container.from_wire(containers_pb2.Container.FromString(data))
        RuncOptions.FromString(found.runtime_options.value if found.runtime_options else b"")
    except (DecodeError, ValueError, OverflowError) as error:
        raise IntegrityError("the checkpoint's container record is malformed", code="bad_container_record") from error
    spec = found.spec_json()
    odd = [name for name in SPEC_OBJECTS if not isinstance(spec.get(name) or {}, dict)]
    if odd or not all(isinstance(item, dict) for item in (spec.get("linux") or {}).get("namespaces") or []):
        raise IntegrityError(f"container {found.id} has a malformed spec", code="bad_spec")
    return found


def image_part(client: ContainerdClient, container: Container) -> Descriptor:
    """The container's image, by descriptor.

    Raises:
        NotFound: `image_not_found`.
    """
    target = client.images.get(container.image).target
    return replace(target, annotations={**target.annotations, ROLE_ANNOTATION: Role.IMAGE.value})


def diff_snapshot(
    client: ContainerdClient,
    snapshotter: str,
    key: str,
    *,
    media_type: str = LAYER_TAR,
    labels: Labels | None = None,
    timeout_s: float | None = None,
) -> Descriptor:
    """Store what a snapshot changed over its parent. Take a lease first.

    The default is not compressed: a frozen container waits for this.
    """
    snapshots = client.snapshots(snapshotter)
    found = snapshots.stat(key)
    with _view(snapshots, found.parent) as lower, _upper(snapshots, key, found.kind) as upper:
        ref = f"migrator-rw-{key}-{secrets.token_hex(8)}"
        layer = client.diffs.create(lower, upper, media_type=media_type, ref=ref, labels=labels, timeout_s=timeout_s)
    return with_role(layer, Role.RW_DIFF)


def compress_layer(client: ContainerdClient, layer: Descriptor, level: int = 1) -> Descriptor:
    """Store the gzip form of an uncompressed layer and return it with the same annotations. Take a lease first.

    `ctr container restore --rw` finds the changed files by the gzip media type alone.
    """
    digest = sha256()
    with tempfile.SpooledTemporaryFile(SPOOL_BYTES) as spool:
        for piece in _gzip(client.content.read(layer.digest) if layer.size_bytes else (), level):
            digest.update(piece)
            spool.write(piece)
        size_bytes = spool.tell()
        spool.seek(0)
        written = client.content.write(
            f"migrator-gzip-{layer.digest}",
            iter(lambda: spool.read(PIECE_BYTES), b""),
            size_bytes=size_bytes,
            digest=f"sha256:{digest.hexdigest()}",
            labels={UNCOMPRESSED: layer.digest},
        )
    return replace(layer, media_type=LAYER_GZIP, digest=written.digest, size_bytes=written.size_bytes)


def write_index(
    client: ContainerdClient, parts: Sequence[Descriptor], annotations: Mapping[str, str] | None = None
) -> Descriptor:
    """Store the index over the parts, labelled so that the collector keeps them. Take a lease first."""
    index = {
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [part.to_oci() for part in parts],
        "annotations": dict(annotations or {}),
    }
    data = json.dumps(index, separators=(",", ":"), sort_keys=True).encode()
    labels = {f"{GC_CONTENT}.{number}": part.digest for number, part in enumerate(parts)}
    return client.content.write_bytes(data, media_type=INDEX, labels=labels)


def index_annotations(container: Container) -> dict[str, str]:
    """What a restore needs beside the parts, under the names that containerd's Go client and `ctr` look for."""
    found = {RUNTIME_NAME: container.runtime_name, SNAPSHOTTER_NAME: container.snapshotter}
    if container.image:
        found |= {IMAGE_NAME: container.image, REF_NAME: container.image}
    return found


def _write_any(client: ContainerdClient, message: Any, media_type: str) -> Descriptor:
    return with_role(client.content.write_bytes(message.SerializeToString(deterministic=True), media_type=media_type))


@contextmanager
def _view(snapshots: Snapshots, parent: str) -> Iterator[list[Mount]]:
    if not parent:  # a snapshot without parent is compared with nothing
        yield []
        return
    key = f"migrator-view-{secrets.token_hex(8)}"
    mounts = snapshots.view(key, parent)
    try:
        yield mounts
    finally:
        snapshots.remove(key)


@contextmanager
def _upper(snapshots: Snapshots, key: str, kind: SnapshotKind) -> Iterator[list[Mount]]:
    if kind is SnapshotKind.COMMITTED:
        with _view(snapshots, key) as mounts:
            yield mounts
    else:
        yield snapshots.mounts(key)


def _gzip(chunks: Iterable[bytes], level: int) -> Iterator[bytes]:
    squeezer = zlib.compressobj(level, zlib.DEFLATED, 31)
    for chunk in chunks:
        if piece := squeezer.compress(chunk):
            yield piece
    yield squeezer.flush()
