"""An image's layers as snapshots, named by chain id, as containerd and `ctr` name them."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from migrator.containerd.gclabels import read_json
from migrator.containerd.mediatypes import CONFIG, GC_SNAPSHOT, INDEXES, MANIFEST, SNAPSHOT_REF, UNCOMPRESSED
from migrator.containerd.snapshots import Snapshots
from migrator.containerd.values import Mount
from migrator.errors import AlreadyExists, IntegrityError, MigratorError, NotFound
from migrator.models.descriptors import Descriptor, Platform

if TYPE_CHECKING:
    from migrator.containerd.client import ContainerdClient


@dataclass(frozen=True, slots=True)
class ImageContent:
    """What a manifest says: its config, its layers and each layer's uncompressed digest."""

    config: Descriptor
    layers: tuple[Descriptor, ...]
    diff_ids: tuple[str, ...]


def chain_id(diff_ids: Sequence[str]) -> str:
    """Name a stack of layers, lowest first, as the OCI image spec does; empty for none."""
    chain = ""
    for diff_id in diff_ids:
        chain = f"sha256:{hashlib.sha256(f'{chain} {diff_id}'.encode()).hexdigest()}" if chain else diff_id
    return chain


def resolve_manifest(client: ContainerdClient, target: Descriptor, platform: Platform | None = None) -> Descriptor:
    """Return the manifest for a platform (this machine's when omitted): `target` itself or one its index names.

    Raises:
        NotFound: `manifest_not_found`: the index has none for that platform in the store.
    """
    if target.media_type not in INDEXES:
        return target
    wanted = platform or Platform.here()
    for entry in read_json(client, target).get("manifests", ()):
        child = Descriptor.from_oci(entry)
        fits = child.platform is None or (child.platform.os, child.platform.architecture) == (
            wanted.os,
            wanted.architecture,
        )
        if fits and client.content.exists(child.digest):
            with suppress(NotFound):
                return resolve_manifest(client, child, wanted)
    raise NotFound(
        f"image {target.digest} has no content for {wanted.os}/{wanted.architecture}", code="manifest_not_found"
    )


def read_manifest(client: ContainerdClient, manifest_digest: str) -> ImageContent:
    """Read a manifest and its config.

    Raises:
        NotFound: `content_not_found`.
        IntegrityError: `bad_manifest`: layers and diff ids do not match.
    """
    manifest = read_json(client, Descriptor(MANIFEST, manifest_digest, 0))
    config = Descriptor.from_oci(manifest.get("config", {}))
    layers = tuple(Descriptor.from_oci(layer) for layer in manifest.get("layers", ()))
    rootfs = read_json(client, Descriptor(CONFIG, config.digest, 0)).get("rootfs", {})
    diff_ids = tuple(map(str, rootfs.get("diff_ids", ()))) if isinstance(rootfs, dict) else ()
    if len(layers) != len(diff_ids):
        raise IntegrityError(
            f"manifest {manifest_digest} has {len(layers)} layers and {len(diff_ids)} diff ids", code="bad_manifest"
        )
    return ImageContent(config, layers, diff_ids)


def unpack_image(client: ContainerdClient, manifest_digest: str, snapshotter: str = "overlayfs") -> str:
    """Make the snapshots of an image whose content is in the store. Take a lease first.

    May be repeated: layers that are there are left alone. The config is labelled so that it keeps the snapshots.

    Returns:
        The chain id: the parent for a container's own snapshot.

    Raises:
        IntegrityError: `layer_mismatch`: a layer is not what the config says.
    """
    image = read_manifest(client, manifest_digest)
    snapshots = client.snapshots(snapshotter)
    for number, layer in enumerate(image.layers):
        parent, name = chain_id(image.diff_ids[:number]), chain_id(image.diff_ids[: number + 1])
        if not _exists(snapshots, name):
            _unpack_layer(client, snapshots, layer, image.diff_ids[number], parent, name)
    chain = chain_id(image.diff_ids)
    if chain:
        client.content.update_labels(image.config.digest, {f"{GC_SNAPSHOT}.{snapshotter}": chain})
    return chain


def _exists(snapshots: Snapshots, name: str) -> bool:
    try:
        snapshots.stat(name)
    except NotFound:
        return False
    return True


def _unpack_layer(
    client: ContainerdClient, snapshots: Snapshots, layer: Descriptor, diff_id: str, parent: str, name: str
) -> None:
    with _scratch(snapshots, parent, name) as (key, mounts):
        applied = client.diffs.apply(layer, mounts)
        if applied.digest != diff_id:
            raise IntegrityError(
                f"layer {layer.digest} unpacks to {applied.digest}, but its image says {diff_id}", code="layer_mismatch"
            )
        if layer.digest != diff_id:
            client.content.update_labels(layer.digest, {UNCOMPRESSED: diff_id})
        try:
            snapshots.commit(name, key, {SNAPSHOT_REF: name})
        except AlreadyExists:  # somebody else was faster with the same bytes
            snapshots.remove(key)


@contextmanager
def _scratch(snapshots: Snapshots, parent: str, name: str) -> Iterator[tuple[str, list[Mount]]]:
    """A writable snapshot that goes away if it is not committed."""
    key = f"extract-{secrets.token_hex(8)} {name}"
    mounts = snapshots.prepare(key, parent)
    try:
        yield key, mounts
    except BaseException:
        with suppress(MigratorError):  # the lease takes it down otherwise
            snapshots.remove(key)
        raise
