"""The base image: whether it still is the one that the container was made from, and who lacks what of it."""

from __future__ import annotations

from collections.abc import Iterator

from migrator.containerd import Container, ContainerdClient, Descriptor, chain_id, read_manifest, resolve_manifest
from migrator.errors import NotFound, PreconditionFailed
from migrator.models.phase import JobKind
from migrator.models.preflight import Finding, Grade
from migrator.models.values import Facts
from migrator.service.preflight.arrival import Arrival
from migrator.service.preflight.subject import Subject
from migrator.storage.oci import DOCUMENT_LIMIT_BYTES, children


def check_image(subject: Subject) -> Iterator[Finding]:
    """The image must be known here, and each of its blobs must be here or in the object store.

    Raises:
        NotFound: `image_not_found`.
        PreconditionFailed: `image_moved`.
    """
    manifest = find_manifest(subject.runtime, subject.container)
    blobs = image_blobs(subject.runtime, manifest)
    lost = [blob for blob in blobs if not _can_be_had(subject, blob)]
    if lost:
        size_bytes = sum(blob.size_bytes for blob in lost)
        amount = f"{len(lost)} of {len(blobs)}, {size_bytes / 1e6:.1f} MB"
        place = "neither on this host nor in the object store"
        fault = f"blobs of image '{subject.container.image}' are {place} ({amount})"
        remedy = "pull the image again: containerd has discarded its layers"
        yield Finding("image", Grade.FAIL, fault, "content_not_found", remedy, NotFound.__name__)


def check_base_image(arrival: Arrival) -> Iterator[Finding]:
    """What the target lacks of the base image comes by way of the object store."""
    lacking_bytes = missing_image_bytes(arrival).get("image_download_bytes")
    if lacking_bytes is not None:
        said = f"{lacking_bytes / 1e6:.1f} MB come by way of the object store" if lacking_bytes else "here already"
        yield Finding("base-image", Grade.PASS, said)


def find_manifest(runtime: ContainerdClient, container: Container) -> Descriptor:
    """Return the manifest that the container was made from: a name may mean another image by now.

    Raises:
        NotFound: `image_not_found`.
        PreconditionFailed: `image_moved`.
    """
    try:
        image = runtime.images.get(container.image)
    except NotFound as error:
        raise NotFound(
            f"container '{container.id}' was made from image '{container.image}', which has no name here any more",
            code="image_not_found",
            remedy="pull or import it again, or name it: ctr images tag",
        ) from error
    manifest = resolve_manifest(runtime, image.target)
    parent = runtime.snapshots(container.snapshotter).stat(container.snapshot_key).parent
    if chain_id(read_manifest(runtime, manifest.digest).diff_ids) != parent:
        raise PreconditionFailed(
            f"the name '{container.image}' means another image now than when container '{container.id}' was made",
            code="image_moved",
            remedy="give the name back to the image it was made from: ctr images tag --force IMAGE NAME",
        )
    return manifest


def image_blobs(runtime: ContainerdClient, manifest: Descriptor) -> list[Descriptor]:
    """List a manifest, its config and its layers; the manifest must be in the content store.

    Raises:
        NotFound: `content_not_found`.
    """
    data = runtime.content.read_all(manifest.digest, DOCUMENT_LIMIT_BYTES)
    return [manifest, *children(manifest, data)]


def image_sizes(subject: Subject, manifest: Descriptor) -> Facts:
    """The blobs, and what of them the store lacks; for a forecast only, since it asks the store for each."""
    if subject.request.kind is not JobKind.PREFLIGHT:
        return {}
    blobs = image_blobs(subject.runtime, manifest)
    store = subject.host.checkpoints
    lacking = [blob.size_bytes for blob in blobs if not store.has_blob(blob.digest, blob.size_bytes)]
    return {
        "image_upload_bytes": sum(lacking),
        "image_blobs": [[blob.digest, blob.size_bytes] for blob in blobs],
    }


def _can_be_had(subject: Subject, blob: Descriptor) -> bool:
    store = subject.host.checkpoints
    return subject.runtime.content.exists(blob.digest) or store.has_blob(blob.digest, blob.size_bytes)


def missing_image_bytes(arrival: Arrival) -> Facts:
    """What the target would have to fetch; asked for a forecast only."""
    blobs = arrival.facts.get("image_blobs")
    if arrival.request.kind is not JobKind.PREFLIGHT or blobs is None:
        return {}
    here = arrival.runtime.content
    lacking = [int(size_bytes) for digest, size_bytes in blobs if not here.exists(digest)]
    return {"image_download_bytes": sum(lacking)}
