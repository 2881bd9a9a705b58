"""Bring the base image to the target before the freeze: it travels by digest, once."""

from __future__ import annotations

from migrator.containerd import Container, ContainerdClient, Descriptor, Image, label_tree, unpack_image
from migrator.errors import AlreadyExists, NotFound
from migrator.models.values import Facts
from migrator.service.host import Act, Host, HostStep
from migrator.service.preflight.arrival import restored_snapshot_key
from migrator.service.preflight.image import image_blobs
from migrator.service.steps.interface import drop_interface, prepare_interface
from migrator.service.steps.work import store_of
from migrator.storage.checkpoints import CheckpointStore


class PublishImage(HostStep):
    """Put those blobs of the base image into the object store that it lacks."""

    name = "publish-image"

    def run(self, host: Host, act: Act) -> Facts:
        """Return the bytes really sent.

        Raises:
            NotFound: `content_not_found`, the host has discarded a layer that the store lacks too.
        """
        runtime = host.runtime(act.request.namespace)
        blobs = image_blobs(runtime, _manifest(act))
        total_bytes = sum(blob.size_bytes for blob in blobs)
        sent_bytes = done_bytes = 0
        store_of(host, act)  # its data key is made while the container runs
        for blob in blobs:
            sent_bytes += _publish(runtime, host.checkpoints, blob)
            done_bytes += blob.size_bytes
            act.progress(done_bytes, total_bytes)
        host.checkpoints.get_ready(_manifest(act))
        return {"image_uploaded_bytes": sent_bytes, "image_bytes": total_bytes}


class Prepare(HostStep):
    """Fetch and unpack the base image on the target and make the container's rw snapshot on top of it."""

    name = "prepare"

    def run(self, host: Host, act: Act) -> Facts:
        """Return the bytes fetched."""
        runtime = host.runtime(act.request.namespace)
        ensure_lease(runtime, act.lease_id)
        leased = runtime.with_lease(act.lease_id)
        fetched_bytes = _fetch_image(host, leased, act)
        label_tree(leased, _manifest(act))  # the image keeps its parts when the lease is gone
        unpack_image(leased, _manifest(act).digest, act.facts["snapshot"]["snapshotter"])
        _name_image(leased, act)
        _make_snapshot(leased, act)
        return {"image_downloaded_bytes": fetched_bytes, **prepare_interface(host, act)}

    def undo(self, host: Host, act: Act) -> Facts:
        """Drop interface, snapshot and lease; the base image stays for the next one if it has a name."""
        drop_interface(host, act)
        runtime = host.runtime(act.request.namespace)
        drop_snapshot(runtime, act)
        drop_lease(runtime, act.lease_id)
        return {}


def ensure_lease(runtime: ContainerdClient, lease_id: str) -> None:
    """Take the job's lease, or keep it if a former attempt took it."""
    try:
        runtime.leases.create(lease_id, expires_in_s=24 * 3600)
    except AlreadyExists:
        return


def drop_lease(runtime: ContainerdClient, lease_id: str) -> None:
    """Give the job's lease back; what only it held is collected."""
    try:
        runtime.leases.delete(lease_id, sync=True)
    except NotFound:
        return


def drop_snapshot(runtime: ContainerdClient, act: Act) -> None:
    """Remove the job's rw snapshot unless a container owns it."""
    key = restored_snapshot_key(act)
    if any(_owns(container, key) for container in runtime.containers.list()):
        return
    snapshots = runtime.snapshots(act.facts["snapshot"]["snapshotter"])
    try:
        if snapshots.stat(key).labels.get(JOB_LABEL) == act.command.job_id:
            snapshots.remove(key)
    except NotFound:
        return


JOB_LABEL = "io.migrator.job"
"""Marks what a job made on a host, so that an undo removes nothing else."""


def _owns(container: Container, key: str) -> bool:
    return container.snapshot_key == key


def _manifest(act: Act) -> Descriptor:
    return Descriptor.from_oci(act.facts["image"]["manifest"])


def _publish(runtime: ContainerdClient, store: CheckpointStore, blob: Descriptor) -> int:
    if store.has_blob(blob.digest, blob.size_bytes):
        return 0
    return store.put_blob(blob.digest, blob.size_bytes, runtime.content.read(blob.digest))


def _fetch_image(host: Host, runtime: ContainerdClient, act: Act) -> int:
    """Fetch what the content store lacks: manifest first, so that the rest is known from it."""
    manifest = _manifest(act)
    fetched_bytes = _fetch_blob(host, runtime, act, manifest)
    for blob in image_blobs(runtime, manifest):
        fetched_bytes += _fetch_blob(host, runtime, act, blob)
        act.progress(fetched_bytes, fetched_bytes)
    return fetched_bytes


def _fetch_blob(host: Host, runtime: ContainerdClient, act: Act, blob: Descriptor) -> int:
    had = runtime.content.exists(blob.digest)
    runtime.content.write(  # what is there already is not read, but held by the lease from now on
        f"{act.lease_id}-{blob.digest}",
        host.checkpoints.get_blob(blob.digest, blob.size_bytes),
        size_bytes=blob.size_bytes,
        digest=blob.digest,
    )
    return 0 if had else blob.size_bytes


def _name_image(runtime: ContainerdClient, act: Act) -> None:
    """Give the image its name here, unless that name means another image on this host already."""
    name, manifest = str(act.facts["image"]["name"]), _manifest(act)
    try:
        runtime.images.create(Image(name=name, target=manifest))
    except AlreadyExists:
        return


def _make_snapshot(runtime: ContainerdClient, act: Act) -> None:
    snapshot = act.facts["snapshot"]
    snapshots = runtime.snapshots(snapshot["snapshotter"])
    key = restored_snapshot_key(act)
    try:
        snapshots.prepare(key, snapshot["parent"], {JOB_LABEL: act.command.job_id})
    except AlreadyExists:
        if snapshots.stat(key).labels.get(JOB_LABEL) != act.command.job_id:
            raise
