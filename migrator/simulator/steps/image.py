"""See `steps.image`."""

from __future__ import annotations

from migrator.errors import (
    AlreadyExists,
)
from migrator.models.descriptors import Descriptor
from migrator.service.host import Act
from migrator.simulator import programs
from migrator.simulator.machine import Snapshot
from migrator.simulator.steps.naming import restored_key
from migrator.simulator.steps.step import Acts, Here, SimulatedStep


class PublishImage(SimulatedStep):
    """See `steps.image`."""

    def run(self, here: Here, act: Act) -> Acts:
        """Put the base image into the store."""
        for blob, data in programs.IMAGE.values():
            yield f"publish {blob.digest[7:13]}"
            here.checkpoints.put_blob(blob.digest, blob.size_bytes, [data])
            act.check_aborted()
        return {"image_bytes": sum(blob.size_bytes for blob, _ in programs.IMAGE.values())}


class Prepare(SimulatedStep):
    """See `steps.image`."""

    def run(self, here: Here, act: Act) -> Acts:
        """Fetch the base image, make the snapshot."""
        machine = here.machine
        yield "take the lease"
        machine.take_lease(act)
        for blob, _ in programs.IMAGE.values():
            yield from fetch_blob(here, act, blob)
            act.check_aborted()
        yield "name the image"
        machine.images |= programs.IMAGE.keys()
        yield "make the snapshot"
        made = machine.snapshots.get(restored_key(act))
        if made is not None and made.job != act.command.job_id:
            raise AlreadyExists(f"snapshot {restored_key(act)} exists", code="snapshot_exists")
        if made is None:
            machine.put_snapshot(act, restored_key(act), Snapshot(act.command.job_id))
        return {}

    def undo(self, here: Here, act: Act) -> Acts:
        """Drop snapshot and lease."""
        yield "drop the snapshot"
        drop_snapshot(here, act)
        yield "drop the lease"
        here.machine.drop_lease(act)
        return {}


def drop_snapshot(here: Here, act: Act) -> None:
    """Remove the job's snapshot unless a container owns it."""
    key = restored_key(act)
    owned = any(record.snapshot_key == key for record in here.machine.containers.values())
    if not owned and key in here.machine.snapshots and here.machine.snapshots[key].job == act.command.job_id:
        here.machine.remove_snapshot(act, key)


def fetch_blob(here: Here, act: Act, blob: Descriptor) -> Acts:
    """Bring a blob from the store into the content store."""
    yield f"begin to fetch {blob.digest[7:13]}"
    here.machine.begin_ingest(act, blob.digest)
    yield f"fetch {blob.digest[7:13]}"
    data = here.machine.content.get(blob.digest)
    if data is None:
        data = b"".join(here.checkpoints.get_blob(blob.digest, blob.size_bytes))
    here.machine.finish_ingest(act, blob.digest, data)
    return {}
