"""Preflight on the target: can the container be restored here? Touches nothing."""

from __future__ import annotations

from collections.abc import Iterator

from migrator.containerd import ContainerdClient
from migrator.criu.program import find_criu
from migrator.errors import AlreadyExists, NotFound
from migrator.models.preflight import Finding, Grade
from migrator.models.values import Facts, TcpPolicy
from migrator.service.host import Act, Host, HostStep
from migrator.service.network.links import own_addresses
from migrator.service.network.plugins import plugin_for
from migrator.service.network.sockets import Endpoint
from migrator.service.preflight.checks import refuse_failures
from migrator.service.preflight.connections import check_endpoints
from migrator.service.preflight.criu_configuration import contradictions
from migrator.service.steps.criu_options import TCP_ESTABLISHED
from migrator.service.steps.interface import restored_name, wanted_attachment
from migrator.service.steps.room import check_content_room
from migrator.service.steps.work import check_room


class InspectTarget(HostStep):
    """Look for a free name, CRIU and the object store."""

    name = "inspect-target"

    def run(self, host: Host, act: Act) -> Facts:
        """Return the target's versions.

        Raises:
            AlreadyExists: `container_exists` or `snapshot_exists`, the name is taken here.
            PreconditionFailed: No CRIU here, too old, or a snapshotter that this host lacks.
            ResourceExhausted: `no_room`, its memory would not fit where CRIU reads it from.
        """
        runtime = host.runtime(act.request.namespace)
        _refuse_taken_name(runtime, restored_name(act), act)
        criu = find_criu(host.settings.criu_path)
        host.objects.probe()
        check_room(host, int(act.facts["memory_bytes"]))
        check_content_room(runtime, int(act.facts["estimate_bytes"]) - int(act.facts["memory_bytes"]))
        refuse_failures(_examine(act))
        return {"target_criu": criu.version}


def _examine(act: Act) -> Iterator[Finding]:
    """What preflight looks at here."""
    yield from contradictions(act.request.tcp)
    if act.request.tcp is TcpPolicy.REFUSE and TCP_ESTABLISHED in act.facts.get("criu_options", []):
        remedy = "restore it with --tcp close, or keep"
        message = "the checkpoint holds open TCP connections, which the job refuses"
        yield Finding("connections", Grade.FAIL, message, "open_connections", remedy)
    attachment = wanted_attachment(act)
    if attachment is not None:
        yield from plugin_for(attachment).examine(attachment)
    wanted = [Endpoint(**told) for told in act.facts.get("endpoints", [])]
    if wanted:
        yield from check_endpoints(restored_name(act), wanted, own_addresses())


def restored_snapshot_key(act: Act) -> str:
    """The key of its rw snapshot after the restore."""
    return act.request.new_name or str(act.facts["snapshot"]["key"])


def _refuse_taken_name(runtime: ContainerdClient, name: str, act: Act) -> None:
    if runtime.containers.list(f"id=={name}"):
        raise AlreadyExists(
            f"a container named '{name}' already exists in namespace '{act.request.namespace}'",
            code="container_exists",
            remedy="remove it there, choose another target, or restore under another name",
        )
    snapshotter = str(act.facts["snapshot"]["snapshotter"])
    key = restored_snapshot_key(act)
    try:
        runtime.snapshots(snapshotter).stat(key)
    except NotFound:
        return
    raise AlreadyExists(
        f"a snapshot with the key '{key}' already exists in namespace '{act.request.namespace}'",
        code="snapshot_exists",
        remedy=f"remove it there: ctr -n {act.request.namespace} snapshots rm {key}",
    )
