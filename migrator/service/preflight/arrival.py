"""What a check on the target looks at, and whether there is a place for the container: a name and room."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from migrator.containerd import ContainerdClient
from migrator.errors import AlreadyExists, NotFound, ResourceExhausted
from migrator.models.phase import JobKind
from migrator.models.preflight import Finding, Grade
from migrator.models.values import Facts, JobRequest
from migrator.models.volumes import Volume, read_volumes, relocated
from migrator.service.host import Act, Host
from migrator.service.preflight.traits import Traits
from migrator.service.rewinding import REPLACED
from migrator.service.room import ROOM, check_content_room, check_image_room, free_memory_bytes


@dataclass(frozen=True, slots=True)
class Arrival:
    """This host as the place that a container is to come to."""

    host: Host
    request: JobRequest
    runtime: ContainerdClient
    facts: Facts
    """What the source, or the checkpoint, told. A preflight of a container that fails there may know less."""
    traits: Traits | None = None


def restored_name(act: Act | Arrival) -> str:
    """The name that the container has after the restore."""
    return act.request.new_name or act.request.container or str(act.facts["source_name"])


def restored_snapshot_key(act: Act | Arrival) -> str:
    """The key of its rw snapshot after the restore."""
    return act.request.new_name or str(act.facts["snapshot"]["key"])


def restored_volumes(act: Act | Arrival, host: Host) -> tuple[Volume, ...]:
    """Its volumes after the restore: those of a drill lie apart, those of a copy where the job wants them."""
    known, request = read_volumes(act.facts.get("volumes", [])), act.request
    if request.kind is JobKind.DRILL:
        return relocated(known, str(host.settings.state_dir / "drills" / restored_name(act)))
    place = f"{request.volumes_at.rstrip('/')}/{restored_name(act)}" if request.volumes_at else ""
    return relocated(known, place)


def replaced(arrival: Arrival) -> Facts:
    """What a rewind knows of the container that runs here and is to be displaced; nothing in other jobs."""
    known: Facts = arrival.facts.get(REPLACED, {})
    return known


def moved_bytes(arrival: Arrival) -> Facts:
    """What a rewind moves in all: one container each way. It decides how long its steps may take."""
    if arrival.request.kind is not JobKind.REWIND:
        return {}
    return {"estimate_bytes": int(arrival.facts["estimate_bytes"]) + int(replaced(arrival)["estimate_bytes"])}


def check_name(arrival: Arrival) -> Iterator[Finding]:
    """Name and snapshot key must be free here; in a rewind the name is given away by who has it.

    Raises:
        AlreadyExists: `container_exists` or `snapshot_exists`.
    """
    name, namespace = restored_name(arrival), arrival.request.namespace
    if arrival.request.kind is not JobKind.REWIND and arrival.runtime.containers.list(f"id=={name}"):
        raise AlreadyExists(
            f"a container named '{name}' already exists in namespace '{namespace}'",
            code="container_exists",
            remedy="remove it there, choose another target, or restore under another name"
            + (", or in its place (--replace)" if arrival.request.kind is JobKind.RESTORE else ""),
        )
    key = restored_snapshot_key(arrival)
    try:
        arrival.runtime.snapshots(str(arrival.facts["snapshot"]["snapshotter"])).stat(key)
    except NotFound:
        yield from ()
        return
    raise AlreadyExists(
        f"a snapshot with the key '{key}' already exists in namespace '{namespace}'",
        code="snapshot_exists",
        remedy=f"remove it there: ctr -n {namespace} snapshots rm {key}",
    )


def check_memory(arrival: Arrival) -> Iterator[Finding]:
    """The program needs its memory here, and its images lie beside it in memory until it runs."""
    images_bytes = int(arrival.facts["memory_bytes"])
    yield from compare_memory(int(arrival.facts.get("anonymous_bytes", 0)), images_bytes, free_memory_bytes())


def compare_memory(own_bytes: int, resident_bytes: int, free_bytes: int) -> Iterator[Finding]:
    """Refuse what certainly does not fit, and warn of what may not.

    Args:
        own_bytes: What the program needs at least: shared pages and files are not counted.
        resident_bytes: The same with everything that several processes share counted for each.
        free_bytes: What is available here.
    """
    amounts = f"{own_bytes / 1e6:.0f} MB of memory, and {free_bytes / 1e6:.0f} MB are available here"
    remedy = "free memory there, or choose another target"
    if own_bytes > free_bytes:
        yield Finding(
            "memory", Grade.FAIL, f"the container has {amounts}", "no_memory", remedy, ResourceExhausted.__name__
        )
    elif own_bytes + resident_bytes * ROOM > free_bytes:
        fault = f"the container has {amounts}: with its images beside it that may not be enough"
        yield Finding("memory", Grade.WARN, fault, "tight_memory", remedy)
    else:
        yield Finding("memory", Grade.PASS, f"{free_bytes / 1e6:.0f} MB available")


def check_huge_pages(arrival: Arrival) -> Iterator[Finding]:
    """Huge pages come from a pool that is set aside on each host.

    Raises:
        ResourceExhausted: `no_huge_pages`.
    """
    needed_bytes = int(arrival.facts.get("huge_bytes", 0))
    free_bytes = free_huge_bytes(Path("/proc/meminfo").read_text()) if needed_bytes else 0
    if needed_bytes > free_bytes:
        raise ResourceExhausted(
            f"the container has {needed_bytes / 1e6:.0f} MB in huge pages, and {free_bytes / 1e6:.0f} MB are free here",
            code="no_huge_pages",
            remedy="set more of them aside there: sysctl vm.nr_hugepages",
        )
    yield from ()


def free_huge_bytes(meminfo: str) -> int:
    """Read proc(5), meminfo."""
    fields = {line.partition(":")[0]: line.split()[1] for line in meminfo.splitlines() if line}
    return int(fields.get("HugePages_Free", 0)) * int(fields.get("Hugepagesize", 0)) * 1024


def check_room(arrival: Arrival) -> Iterator[Finding]:
    """Images lie in memory or on disk until the restore; changed files in containerd's content store.

    Raises:
        ResourceExhausted: `no_room`.
    """
    memory_bytes = int(arrival.facts["memory_bytes"])
    check_image_room(arrival.host, memory_bytes + int(replaced(arrival).get("memory_bytes", 0)))
    elsewhere_bytes = memory_bytes + int(arrival.facts.get("volume_bytes", 0))
    check_content_room(arrival.runtime, int(arrival.facts["estimate_bytes"]) - elsewhere_bytes)
    yield from ()
