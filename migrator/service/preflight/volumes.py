"""Bind mounts: each must be declared, and what was declared must be possible, here and on the target."""

from __future__ import annotations

import os
import shutil
import stat
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from migrator.models.phase import JobKind
from migrator.models.preflight import Finding, Grade
from migrator.models.volumes import VOLUME_ROLE, Volume, VolumeKind, VolumePolicy, made_on_target, read_volumes
from migrator.service.preflight.arrival import Arrival, replaced, restored_volumes
from migrator.service.preflight.subject import Subject
from migrator.service.volumes.archive import measure
from migrator.service.volumes.declared import LABEL, Declared, find_declared, is_bind

CHECK = "volumes"
SPARE_BYTES = 64 << 20
HOW = f"one of {', '.join(VolumePolicy)}, by `--volume DESTINATION=POLICY` or the label {LABEL}DESTINATION=POLICY"


def check_volumes(subject: Subject) -> Iterator[Finding]:
    """What a bind mount shows lies outside of the container: somebody must say what becomes of it."""
    declared = declared_by(subject)
    if declared.undeclared:
        fault = f"has bind mounts that nobody declared ({', '.join(declared.undeclared)})"
        yield subject.refusal(CHECK, "bind_mounts", fault, f"declare each as {HOW}")
    if declared.unknown:
        fault = f"has no bind mount at {', '.join(declared.unknown)}"
        yield subject.refusal(CHECK, "volume_unknown", fault, "name destinations that its spec has")
    if declared.bad_labels:
        fault = f"has labels without a known policy ({', '.join(declared.bad_labels)})"
        yield subject.refusal(CHECK, "bad_volume", fault, f"use one of {', '.join(VolumePolicy)}")
    yield from _check_sources(subject, declared)


def check_submounts(subject: Subject) -> Iterator[Finding]:
    """Below a recursive bind mount the host may have mounted more, of which the spec says nothing."""
    spec = subject.spec.get("mounts", [])
    known = {str(mount["destination"]).rstrip("/") for mount in spec}
    binds = tuple(f"{str(mount['destination']).rstrip('/')}/" for mount in spec if is_bind(mount))
    below = [place for place in _mounts(subject.task.pid) if place.startswith(binds) and place not in known]
    if below:
        fault = f"has mounts inside of its bind mounts ({', '.join(below)})"
        yield subject.refusal(CHECK, "volume_submounts", fault, "bind without `rbind`, or unmount them on the host")


def volumes_of(subject: Subject) -> tuple[Volume, ...]:
    """Every declared bind mount that is there; what is copied has a role and a size, which is measured: once a job."""
    found: list[Volume] = []
    for bind, policy in declared_by(subject).policies.items():
        try:
            info = Path(bind.source).stat()
        except OSError:  # `check_volumes` tells of it
            continue
        copied = policy is VolumePolicy.COPY
        found.append(
            Volume(
                bind.destination,
                bind.source,
                policy,
                _kind(info.st_mode),
                mode=stat.S_IMODE(info.st_mode),
                uid=info.st_uid,
                gid=info.st_gid,
                size_bytes=measure(Path(bind.source)) if copied else 0,
                role=f"{VOLUME_ROLE}{len(found)}" if copied else "",
            )
        )
    return tuple(found)


def declared_by(subject: Subject) -> Declared:
    """What job and labels say about the container's bind mounts."""
    return find_declared(subject.spec, subject.request.volumes, subject.container.labels)


def check_places(arrival: Arrival) -> Iterator[Finding]:
    """Look on the target whether there is a place for each volume."""
    if arrival.request.kind is JobKind.DRILL:
        yield from _refuse_shared(arrival)
    if arrival.request.kind is JobKind.REWIND:
        yield from _refuse_made(arrival)
        return
    yield from examine_places(restored_volumes(arrival, arrival.host))


def _refuse_shared(arrival: Arrival) -> Iterator[Finding]:
    """What a drill brings to life must not write into what others use."""
    shared = [
        item.destination for item in restored_volumes(arrival, arrival.host) if item.policy is VolumePolicy.SHARED
    ]
    if shared:
        message = f"a drill would write into volumes that others use: {', '.join(shared)}"
        remedy = f"drill it with --volume {shared[0]}=empty, or take checkpoints with --volume {shared[0]}=copy"
        yield Finding(CHECK, Grade.FAIL, message, "volume_in_use", remedy)


def _refuse_made(arrival: Arrival) -> Iterator[Finding]:
    """What stands in the place of a volume belongs to the program that runs: a rewind could not give it back whole."""
    volumes = (*restored_volumes(arrival, arrival.host), *read_volumes(replaced(arrival).get("volumes", [])))
    made = list(dict.fromkeys(volume.destination for volume in made_on_target(volumes)))
    if made:
        message = f"a rewind leaves volumes as they are, and these would be made anew: {', '.join(made)}"
        flags = " ".join(f"--volume {destination}=shared" for destination in made)
        remedy = f"let them stay as they are now ({flags}), or restore under another name with --volumes-at DIRECTORY"
        yield Finding(CHECK, Grade.FAIL, message, "volume_in_place", remedy)
    else:
        yield from examine_places(restored_volumes(arrival, arrival.host))


def examine_places(volumes: Iterable[Volume]) -> Iterator[Finding]:
    """Look on the target whether shared volumes are there, and whether there is a place for the others."""
    shared = [item for item in volumes if item.policy is VolumePolicy.SHARED]
    missing = [item.source for item in shared if not _is_like(item)]
    if missing:
        message = f"shared volumes are not on the target: {', '.join(missing)}"
        yield Finding(CHECK, Grade.FAIL, message, "volume_missing", "put them there, or declare them copy or empty")
    made = made_on_target(volumes)
    taken = [f"{item.source} ({fault})" for item in made if (fault := _taken(item))]
    if taken:
        message = f"volumes cannot be made on the target, their places are taken: {', '.join(taken)}"
        remedy = "move away what is there, declare the volume shared, or restore with --volumes-at DIRECTORY"
        yield Finding(CHECK, Grade.FAIL, message, "volume_exists", remedy)
    yield from _check_room(made)


def _check_sources(subject: Subject, declared: Declared) -> Iterator[Finding]:
    made: list[str] = []
    for bind, policy in declared.policies.items():
        try:
            kind = _kind(Path(bind.source).stat().st_mode)
        except OSError as error:
            fault = f"shows {bind.source} at {bind.destination}, which is gone ({error.strerror})"
            yield subject.refusal(CHECK, "volume_gone", fault, "put it back")
            continue
        if policy is VolumePolicy.SHARED:
            continue
        if kind is VolumeKind.OTHER:
            fault = f"shows a socket or device at {bind.destination} ({bind.source})"
            yield subject.refusal(CHECK, "volume_not_copied", fault, "declare it shared")
        made.append(bind.source)
    nested = [one for one in made if any(other != one and one.startswith(f"{other.rstrip('/')}/") for other in made)]
    if nested:
        fault = f"has volumes inside of others ({', '.join(nested)})"
        yield subject.refusal(CHECK, "volume_nested", fault, "share one of them, or move them apart")


def _check_room(made: Iterable[Volume]) -> Iterator[Finding]:
    wanted: dict[int, list[Volume]] = defaultdict(list)
    for item in made:
        wanted[_nearest(Path(item.source)).stat().st_dev].append(item)
    for items in wanted.values():
        place = _nearest(Path(items[0].source))
        needed_bytes = sum(item.size_bytes for item in items) + SPARE_BYTES
        if needed_bytes > (free_bytes := shutil.disk_usage(place).free):
            message = f"volumes need {needed_bytes / 1e6:.0f} MB, and {place} has {free_bytes / 1e6:.0f} MB"
            yield Finding(CHECK, Grade.FAIL, message, "no_room", f"make room in {place}")


def _taken(volume: Volume) -> str:
    """Why a volume cannot be made at its place; empty when it can."""
    place = Path(volume.source)
    if place.is_symlink() or (place.exists() and not place.is_dir()):
        return "it exists"
    if not place.exists():
        return "" if _nearest(place).is_dir() else "a file is in its way"
    if volume.kind is not VolumeKind.DIRECTORY:
        return "it is a directory"
    if os.path.ismount(place):
        return "something is mounted there"
    return "it is not empty" if any(place.iterdir()) else ""


def _is_like(volume: Volume) -> bool:
    try:
        return _kind(Path(volume.source).stat().st_mode) is volume.kind
    except OSError:
        return False


def _nearest(place: Path) -> Path:
    """The place itself or the nearest directory above it that exists."""
    return next(path for path in (place, *place.parents) if path.exists())


def _kind(mode: int) -> VolumeKind:
    if stat.S_ISDIR(mode):
        return VolumeKind.DIRECTORY
    return VolumeKind.FILE if stat.S_ISREG(mode) else VolumeKind.OTHER


def _mounts(pid: int) -> list[str]:
    """Where a process sees something mounted (proc(5), mountinfo)."""
    lines: list[Any] = Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
    return [line.split()[4] for line in lines]
