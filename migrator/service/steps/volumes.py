"""Volumes within the steps: their content is taken while the task is frozen, and made on the target by the fetch."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from migrator.containerd import Descriptor, with_role
from migrator.containerd.mediatypes import VOLUME
from migrator.errors import Cancelled, PreconditionFailed
from migrator.models.values import Facts
from migrator.models.volumes import Volume, VolumeKind, VolumePolicy, made_on_target, read_volumes
from migrator.service.host import Act, Host
from migrator.service.preflight.arrival import restored_name, restored_volumes
from migrator.service.steps.streams import SETTLE_S, is_log, logs_of
from migrator.service.steps.work import volume_directory
from migrator.service.volumes.archive import pack_volume, unpack_volume
from migrator.service.volumes.places import Places

Chunks = Callable[[str], Iterator[bytes]]
"""Gives the bytes of the part with a role."""


def volumes_of_job(facts: Facts) -> tuple[Volume, ...]:
    """The volumes that preflight found, or that the checkpoint tells of."""
    return read_volumes(facts.get("volumes", []))


def copied_bytes(volumes: tuple[Volume, ...]) -> int:
    """How much the volumes add to a checkpoint, as measured before the freeze."""
    return sum(volume.size_bytes for volume in made_on_target(volumes))


@contextmanager
def packing_volumes(host: Host, act: Act) -> Iterator[Future[list[Descriptor]]]:
    """Pack what is copied, beside whatever else is done meanwhile; given up when that fails."""
    stop = threading.Event()
    with ThreadPoolExecutor(1) as beside:
        try:
            yield beside.submit(_pack, host, act, stop)
        except BaseException:
            stop.set()
            raise


def volume_file(host: Host, act: Act, role: str) -> Path:
    """Where the content of a copied volume lies between dump and upload."""
    return volume_directory(host, act) / role


def make_volumes(host: Host, act: Act, logs: tuple[Volume, ...], chunks: Chunks) -> None:
    """Make what is copied or empty on this host and go on with logs, after removing what a former attempt made.

    Raises:
        PreconditionFailed: `volume_exists`.
        IntegrityError: The content is not what was sealed, or cannot be kept here as it was.
    """
    places, container = places_of(host, act), f"{act.request.namespace}/{restored_name(act)}"
    places.take_back()
    for volume in made_on_target(restored_volumes(act, host)):
        places.make(volume, container, partial(_fill, volume, chunks))
    for log in logs:
        places.append(log, container, partial(_fill, log, chunks))


def places_of(host: Host, act: Act) -> Places:
    """What this job made of volumes on this host."""
    return Places(host.settings.state_dir / "volumes", act.command.job_id)


def _pack(host: Host, act: Act, stop: threading.Event) -> list[Descriptor]:
    wanted = [item for item in made_on_target(volumes_of_job(act.facts)) if item.policy is VolumePolicy.COPY]
    if logs := [log for log in logs_of(act.facts.get("stdio") or {}) if is_log(log)]:
        time.sleep(SETTLE_S)
    deadline = time.monotonic() + host.settings.freeze_budget_s
    parts: list[Descriptor] = []
    for volume in (*wanted, *logs):
        file = volume_file(host, act, volume.role)
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        pack_volume(volume, file, partial(_check_wanted, act, stop, deadline, volume))
        parts.append(_describe(file, volume.role))
    return parts


def _check_wanted(act: Act, stop: threading.Event, deadline: float, volume: Volume) -> None:
    act.check_aborted()
    if stop.is_set():
        raise Cancelled(f"volume {volume.destination} is not wanted any more")
    if time.monotonic() > deadline:
        raise PreconditionFailed(
            f"volume {volume.destination} is not copied before the freeze budget is spent",
            code="volume_too_large",
            remedy="raise MIGRATOR_FREEZE_BUDGET_S, or share the volume",
        )


def _describe(file: Path, role: str) -> Descriptor:
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    return with_role(Descriptor(VOLUME, f"sha256:{digest}", file.stat().st_size), role)


def _fill(volume: Volume, chunks: Chunks, stage: Path) -> None:
    if volume.policy is VolumePolicy.COPY:
        unpack_volume(chunks(volume.role), stage)
        return
    empty = stage
    if volume.kind is VolumeKind.FILE:
        empty = stage / "file"
        empty.touch()
    os.chown(empty, volume.uid, volume.gid)
    empty.chmod(volume.mode)
