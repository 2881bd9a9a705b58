"""Preflight on the source: can this container be checkpointed here? Touches nothing."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from typing import Any

from migrator.containerd import (
    Container,
    ContainerdClient,
    Descriptor,
    ProcessState,
    Snapshots,
    Task,
    chain_id,
    read_manifest,
    resolve_manifest,
)
from migrator.criu.program import find_criu
from migrator.errors import InternalError, NotFound, PreconditionFailed
from migrator.models.values import Facts
from migrator.service.host import Act, Host, HostStep
from migrator.service.inspection import memory_bytes
from migrator.service.network.attachment import pack_attachment
from migrator.service.preflight.checks import examine_source, refuse_failures
from migrator.service.preflight.connections import dumps_connections, host_endpoints
from migrator.service.preflight.network import attachment_of
from migrator.service.preflight.subject import Subject
from migrator.service.steps.room import check_content_room
from migrator.service.steps.work import check_room

MEASURES = 20
"""How often changed files are measured until no file vanishes meanwhile."""


class InspectSource(HostStep):
    """Look at the container, its task, CRIU and the object store."""

    name = "inspect-source"

    def run(self, host: Host, act: Act) -> Facts:
        """Return what the steps after need: image, snapshot parent, sizes and versions.

        Raises:
            NotFound: No such namespace, container or image.
            PreconditionFailed: Not running, already paused, or something CRIU cannot carry over.
            ResourceExhausted: `no_room`, its memory would not fit where CRIU puts it.
        """
        runtime = host.runtime(act.request.namespace)
        container = find_container(runtime, act.request)
        task = _running_task(runtime, container)
        subject = Subject(host, act.request, runtime, container, task, container.spec_json())
        refuse_failures(examine_source(subject))
        criu = find_criu(host.settings.criu_path)
        host.objects.probe()
        snapshots = runtime.snapshots(container.snapshotter)
        parent = snapshots.stat(container.snapshot_key).parent
        manifest = _manifest_of(runtime, container, parent)
        used_bytes = memory_bytes(task)
        check_room(host, used_bytes)
        rw_bytes = _measure(snapshots, container.snapshot_key)
        check_content_room(runtime, rw_bytes)
        return {
            "image": {"name": container.image, "manifest": manifest.to_oci()},
            "snapshot": {
                "snapshotter": container.snapshotter,
                "key": container.snapshot_key,
                "parent": parent,
            },
            "runtime": container.runtime_name,
            "estimate_bytes": used_bytes + rw_bytes,
            "memory_bytes": used_bytes,
            "rw_bytes": rw_bytes,
            "network": pack_attachment(attachment_of(subject)),
            "dumps_connections": dumps_connections(subject),
            "endpoints": [asdict(endpoint) for endpoint in host_endpoints(subject)],
            "source_criu": criu.version,
            "source_containerd": runtime.version().version,
            "source_created_at": str(container.created_at),
        }


def find_container(runtime: ContainerdClient, request: Any) -> Container:
    """Find the container, saying precisely what is missing.

    Raises:
        NotFound: `namespace_not_found` or `container_not_found`.
    """
    try:
        return runtime.containers.get(request.container)
    except NotFound as error:
        names = runtime.namespaces.list()
        if request.namespace not in {namespace.name for namespace in names}:
            raise NotFound(
                f"namespace '{request.namespace}' does not exist",
                code="namespace_not_found",
                remedy="name one that `ctr namespaces list` shows with --namespace",
            ) from error
        raise NotFound(
            f"container '{request.container}' does not exist in namespace '{request.namespace}'",
            code="container_not_found",
            remedy="see `migrator containers list` for what runs where",
        ) from error


def _manifest_of(runtime: ContainerdClient, container: Container, parent: str) -> Descriptor:
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
    if chain_id(read_manifest(runtime, manifest.digest).diff_ids) != parent:
        raise PreconditionFailed(
            f"the name '{container.image}' means another image now than when container '{container.id}' was made",
            code="image_moved",
            remedy="give the name back to the image it was made from: ctr images tag --force IMAGE NAME",
        )
    return manifest


def _measure(snapshots: Snapshots, key: str) -> int:
    """Measure the changed files: containerd looks at each, and gives up when the program removes one meanwhile."""
    for _ in range(MEASURES - 1):
        with suppress(InternalError):
            return snapshots.usage(key).size_bytes
    return snapshots.usage(key).size_bytes


def _running_task(runtime: ContainerdClient, container: Container) -> Task:
    try:
        task = runtime.task(container.id)
        state = task.status().state
    except NotFound:
        task, state = None, ProcessState.STOPPED
    if task is not None and state is ProcessState.RUNNING:
        return task
    if state in (ProcessState.PAUSED, ProcessState.PAUSING):
        raise PreconditionFailed(
            f"container '{container.id}' is already paused; it stays so",
            code="task_paused",
            remedy=f"resume it first: ctr tasks resume {container.id}",
        )
    raise PreconditionFailed(
        f"container '{container.id}' is not running (its task is {state.value if task else 'absent'})",
        code="task_not_running",
        remedy=f"start it first: ctr tasks start --detach {container.id}",
    )
