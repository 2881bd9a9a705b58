"""Preflight on the source: can this container be checkpointed here? Touches nothing."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any

from migrator.containerd import Container, ContainerdClient, ProcessState, Snapshots, Task
from migrator.errors import InternalError, NotFound, PreconditionFailed
from migrator.models.hooks import HOOKS
from migrator.models.preflight import Finding, Grade
from migrator.models.values import Facts
from migrator.models.volumes import Volume
from migrator.service.guards import started_ticks
from migrator.service.host import Act, Host, HostStep
from migrator.service.inspection import memory_bytes
from migrator.service.network.attachment import Attachment, pack_attachment
from migrator.service.network.sysctls import network_sysctls
from migrator.service.preflight.checks import SOURCE_CHECKS, conclude, examine
from migrator.service.preflight.connections import dumps_connections, host_endpoints
from migrator.service.preflight.hooks import hooks_of
from migrator.service.preflight.host import criu_version
from migrator.service.preflight.image import find_manifest, image_sizes
from migrator.service.preflight.network import SYSCTLS, attachment_of
from migrator.service.preflight.processes import read_processes
from migrator.service.preflight.report import told
from migrator.service.preflight.subject import Subject
from migrator.service.preflight.traits import Traits, read_traits
from migrator.service.preflight.volumes import volumes_of
from migrator.service.steps.streams import log_bytes
from migrator.service.steps.volumes import copied_bytes

MEASURES = 20
"""How often changed files are measured until no file vanishes meanwhile."""


class InspectSource(HostStep):
    """Look at the container, its task, its processes, CRIU and the object store."""

    name = "inspect-source"

    def run(self, host: Host, act: Act) -> Facts:
        """Return what the steps after need: image, snapshot parent, sizes and versions; and what the checks found.

        Raises:
            NotFound: No such namespace, container or image.
            PreconditionFailed: Not running, already paused, or something CRIU cannot carry over.
            ResourceExhausted: `no_room`, its memory would not fit where CRIU puts it.
        """
        subject, traits = _look(host, act)
        findings = conclude(examine(SOURCE_CHECKS, subject), act)
        container = subject.container
        snapshot = subject.runtime.snapshots(container.snapshotter).stat(container.snapshot_key)
        return {
            **_image(subject, findings),
            "snapshot": {
                "snapshotter": container.snapshotter,
                "key": container.snapshot_key,
                "parent": snapshot.parent,
            },
            "runtime": container.runtime_name,
            "estimate_bytes": subject.memory_bytes + subject.changed_bytes + subject.volume_bytes,
            "volume_bytes": subject.volume_bytes,
            "stdio": asdict(subject.task.stdio()),
            "volumes": [volume.to_facts() for volume in _volumes(subject, findings)],
            "memory_bytes": subject.memory_bytes,
            "rw_bytes": subject.changed_bytes,
            "anonymous_bytes": sum(process.anonymous_bytes for process in subject.processes),
            "huge_bytes": sum(process.huge_bytes for process in subject.processes),
            "network": pack_attachment(_attachment(subject, findings)),
            SYSCTLS: list(network_sysctls(subject.spec)),
            "dumps_connections": dumps_connections(subject),
            "endpoints": [asdict(endpoint) for endpoint in host_endpoints(subject)],
            "source_criu": traits.criu,
            "source_containerd": traits.containerd,
            "source_traits": traits.to_facts(),
            "source_created_at": str(container.created_at),
            HOOKS: hooks_of(subject).to_facts() if not _failed(findings, "hooks") else {},
            "source_started": started_ticks(subject.task.pid),
            **told(findings),
        }


def _look(host: Host, act: Act) -> tuple[Subject, Traits]:
    """Read all that the checks judge."""
    runtime = host.runtime(act.request.namespace)
    container = find_container(runtime, act.request)
    task = _running_task(runtime, container)
    traits = read_traits(runtime, criu_version(host))
    subject = Subject(
        host=host,
        request=act.request,
        runtime=runtime,
        container=container,
        task=task,
        spec=container.spec_json(),
        memory_bytes=memory_bytes(task),
        changed_bytes=_measure(runtime.snapshots(container.snapshotter), container.snapshot_key),
        processes=read_processes(process.pid for process in task.pids()),
        traits=traits,
    )
    volumes = volumes_of(subject)
    carried_bytes = copied_bytes(volumes) + log_bytes(asdict(task.stdio()))
    return replace(subject, volumes=volumes, volume_bytes=carried_bytes), traits


def _volumes(subject: Subject, findings: Iterable[Finding]) -> tuple[Volume, ...]:
    """The volumes as the job needs them; a preflight whose checks of them failed has told why there are none."""
    return () if _failed(findings, "volumes", "submounts") else subject.volumes


def _attachment(subject: Subject, findings: Iterable[Finding]) -> Attachment | None:
    """The network as the job needs it; a preflight whose check of the network failed has told why there is none."""
    return None if _failed(findings, "network") else attachment_of(subject)


def _image(subject: Subject, findings: Iterable[Finding]) -> Facts:
    """The image as the job needs it; a preflight whose check of the image failed has told why there is none."""
    if _failed(findings, "image"):
        return {}
    manifest = find_manifest(subject.runtime, subject.container)
    image = {"name": subject.container.image, "manifest": manifest.to_oci()}
    return {"image": image, **image_sizes(subject, manifest)}


def _failed(findings: Iterable[Finding], *checks: str) -> bool:
    return any(finding.check in checks and finding.grade is Grade.FAIL for finding in findings)


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
