"""The acts of the plans on fake hosts: the same effects in the same order as in `service/steps`.

Each act is a generator. It yields the name of the effect that comes next (or the name and how long that takes to
come), so that a fault can hit before, between and after all effects.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass, replace

from migrator.errors import (
    AlreadyExists,
    IntegrityError,
    InternalError,
    NotFound,
    PreconditionFailed,
    ResourceBusy,
    WorkloadFailed,
)
from migrator.models.descriptors import Descriptor
from migrator.models.hooks import RAN_BEFORE
from migrator.models.phase import JobKind
from migrator.models.roles import Role
from migrator.models.values import Facts, Mode
from migrator.service.catalogue import SOURCE_GONE, last_copy, release_chunks
from migrator.service.guards import Guards
from migrator.service.host import Act
from migrator.service.steps.ahead import AHEAD, FETCHED_AHEAD
from migrator.service.steps.chunked import PACK_INDEXES, owner_of, travels_chunked, written_before
from migrator.service.steps.dump_way import PAGELESS_KINDS
from migrator.service.steps.freeze import PAUSES_LATER
from migrator.service.steps.lazy import LAZY, RESTORED, lost
from migrator.simulator import programs
from migrator.simulator.machine import ContainerRecord, Machine, Snapshot, TaskState
from migrator.storage.checkpoints import CheckpointStore
from migrator.storage.chunks.recipes import parse_recipe
from migrator.storage.oci import CheckpointIndex, FactAnnotation
from migrator.storage.own import OwnContent
from migrator.storage.verdicts import Verdicts

Acts = Generator[str | tuple[str, float], None, Facts]
DUMP_S = 0.4
START_S = 0.3
GUARD_STARTS_S = 0.2
SEEN = {TaskState.RUNNING: "done", TaskState.CREATED: "absent"}


@dataclass(frozen=True, slots=True)
class Here:
    """What a step finds on its host."""

    machine: Machine
    guards: Guards
    checkpoints: CheckpointStore
    verdicts: Verdicts


class SimulatedStep:
    """One act; see `service.host.HostStep`."""

    def run(self, here: Here, act: Act) -> Acts:
        """Perform it."""
        raise NotImplementedError

    def undo(self, here: Here, act: Act) -> Acts:
        """Take it back."""
        del here, act
        yield from ()
        return {}

    def observe(self, here: Here, act: Act) -> str:
        """Say what is true."""
        del here, act
        return "unknown"


class InspectSource(SimulatedStep):
    """See `steps.inspect_source`."""

    def run(self, here: Here, act: Act) -> Acts:
        """Look."""
        yield "look"
        record = here.machine.container(str(act.request.container))
        state = here.machine.status(record.name)
        if state is not TaskState.RUNNING:
            raise PreconditionFailed(f"container {record.name} is {state.value}", code="task_not_running")
        here.checkpoints.objects.probe()
        return {
            "image": {"name": programs.IMAGE_NAME, "manifest": programs.MANIFEST.to_oci()},
            "snapshot": {"snapshotter": programs.SNAPSHOTTER, "key": record.snapshot_key, "parent": "base"},
            "estimate_bytes": 1 << 20,
            "memory_bytes": 1 << 20,
            "source_created_at": record.created_at,
            "source_started": here.machine.task(record.name).number,
        }


class InspectTarget(SimulatedStep):
    """See `steps.inspect_target`."""

    def run(self, here: Here, act: Act) -> Acts:
        """Look."""
        yield "look"
        if act.request.kind is not JobKind.REWIND and restored_name(act) in here.machine.containers:
            raise AlreadyExists(f"container {restored_name(act)} exists", code="container_exists")
        if restored_key(act) in here.machine.snapshots:
            raise AlreadyExists(f"snapshot {restored_key(act)} exists", code="snapshot_exists")
        here.checkpoints.objects.probe()
        return {}


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


class Precopy(SimulatedStep):
    """See `steps.ahead`; the round counts, so that each sends something new."""

    def run(self, here: Here, act: Act) -> Acts:
        """Send what a dump may find."""
        name = str(act.request.container)
        yield "read the memory"
        task = here.machine.tasks.get(name)
        if task is None:
            return {}
        if act.request.kind is JobKind.BACKUP:
            yield "copy it"
            here.machine.need_disk()
            here.machine.world.rules.effect(here.machine, act, "ahead")
            here.machine.ahead[act.command.job_id] = task.memory.to_bytes()
            return {}
        rounds = [*act.facts.get(AHEAD, ())]
        guess = [task.memory.to_bytes(), f"changes soon {act.command.job_id} {len(rounds)}".encode()]
        yield "send it ahead"
        with here.checkpoints.chunks.writing(owner_of(act), written_before(act)) as writer:
            note = writer.add_note(writer.add_part(programs.memory_part(), guess).to_bytes())
        act.check_aborted()
        indexes = [*written_before(act), *filter(None, [writer.written.index])]
        return {AHEAD: [*rounds, note.hex()], PACK_INDEXES: indexes}

    def undo(self, here: Here, act: Act) -> Acts:
        """Take it out of the store again."""
        yield "discard what went ahead"
        here.machine.remove_ahead(act)
        release_chunks(here.checkpoints, act.command.job_id, act.facts)
        return {}


class Prefetch(SimulatedStep):
    """See `steps.ahead`."""

    def run(self, here: Here, act: Act) -> Acts:
        """Bring it to this host."""
        yield "read the recipe"
        rounds = act.facts.get(AHEAD, ())
        if not rounds:
            return {}
        recipe = parse_recipe(here.checkpoints.chunks.read_note(bytes.fromhex(rounds[-1])))
        yield "fetch what went ahead"
        data = b"".join(here.checkpoints.chunks.read(recipe))
        here.machine.need_disk()
        act.check_aborted()
        here.machine.world.rules.effect(here.machine, act, "ahead")
        here.machine.ahead[act.command.job_id] = data
        return {FETCHED_AHEAD: len(data)}

    def undo(self, here: Here, act: Act) -> Acts:
        """Remove it."""
        yield "remove what came ahead"
        here.machine.remove_ahead(act)
        return {}


class Again(SimulatedStep):
    """See `steps.ahead`."""

    def __init__(self, first: SimulatedStep):
        self._first = first

    def run(self, here: Here, act: Act) -> Acts:
        """Once more."""
        return self._first.run(here, act)


class Freeze(SimulatedStep):
    """See `steps.freeze`."""

    def run(self, here: Here, act: Act) -> Acts:
        """Arm the guard, pause."""
        machine, name, job = here.machine, str(act.request.container), act.command.job_id
        if machine.status(name) is TaskState.FROZEN and here.guards.state(job) is None:
            raise PreconditionFailed(f"container {name} was paused by somebody else", code="task_paused")
        yield "arm the guard"
        here.guards.arm(job, act.request.namespace, name)
        yield "the guard watches", GUARD_STARTS_S
        act.check_aborted()
        if act.request.kind in PAGELESS_KINDS:
            return {PAUSES_LATER: True}
        yield from pause(here, act)
        return {"pause_s": 0.01}

    def undo(self, here: Here, act: Act) -> Acts:
        """Let it run again, take the verdict back."""
        yield from resume(here, act)
        yield "forget the verdict"
        here.verdicts.forget(act.command.job_id)
        yield "look whether it lives"
        task = here.machine.tasks.get(str(act.request.container))
        return {SOURCE_GONE: task is None or task.number != act.facts["source_started"]}


class BeforeHook(SimulatedStep):
    """See `steps.hooks`."""

    def run(self, here: Here, act: Act) -> Acts:
        """Note it, run it."""
        machine, name = here.machine, str(act.request.container)
        yield "note the hook"
        machine.note_hook(act)
        yield "begin the hook before"
        if machine.status(name) is TaskState.RUNNING:
            machine.lock(act, name)
        yield "end of the hook before", 0.1
        act.check_aborted()
        return {RAN_BEFORE: True}

    def undo(self, here: Here, act: Act) -> Acts:
        """Run the other one if it is owed."""
        machine, name = here.machine, str(act.request.container)
        yield "look whether one is owed"
        if act.command.job_id not in machine.hook_notes:
            return {}
        yield "run the hook after"
        if name in machine.tasks and machine.status(name) is TaskState.RUNNING:
            machine.unlock(act, name)
        yield "forget the note"
        machine.forget_hook(act)
        return {}


class AfterHook(SimulatedStep):
    """See `steps.hooks`."""

    def run(self, here: Here, act: Act) -> Acts:
        """Run it where the program runs."""
        yield "run the hook after"
        name, owed = restored_name(act), act.facts.get(RAN_BEFORE)
        if owed and name in here.machine.tasks and here.machine.status(name) is TaskState.RUNNING:
            here.machine.unlock(act, name)
        yield "forget the note"
        here.machine.forget_hook(act)
        return {}


class Thaw(SimulatedStep):
    """See `steps.freeze`."""

    def run(self, here: Here, act: Act) -> Acts:
        """Let it run again."""
        yield from resume(here, act)
        return {}


class Promise(SimulatedStep):
    """See `steps.freeze`."""

    def run(self, here: Here, act: Act) -> Acts:
        """Promise."""
        yield "promise"
        here.guards.promise(act.command.job_id)
        yield "see it paused"
        check_paused(here, act)
        return {}


class Dump(SimulatedStep):
    """See `steps.dump`."""

    def run(self, here: Here, act: Act) -> Acts:
        """Memory, record and changed files."""
        machine, name, job = here.machine, str(act.request.container), act.command.job_id
        yield "take the lease"
        machine.take_lease(act)
        record = machine.container(name)
        yield "remove former images"
        machine.remove_memory_images(act)
        yield from pause(here, act)
        yield "dump the memory"
        machine.need_disk()
        machine.begin_dump(act, name, DUMP_S)
        yield "memory is dumped", DUMP_S + 0.01
        memory = machine.memory_images.get(job)
        if memory is None:
            raise InternalError("the images are gone")
        parts = [] if travels_chunked(act) else [programs.part(Role.MEMORY, memory)]
        texts = {Role.CONTAINER: programs.record_bytes(name), Role.RW_DIFF: _files(machine, record).encode()}
        for role, data in texts.items():
            part = programs.part(role, data)
            yield f"begin the {role.value}"
            machine.begin_ingest(act, part.digest)
            yield f"keep the {role.value}"
            machine.finish_ingest(act, part.digest, data)
            parts.append(part)
        act.check_aborted()
        here.guards.check(job)
        check_paused(here, act)
        if act.request.kind is JobKind.BACKUP:
            yield from resume(here, act)
        return {"parts": [part.to_oci() for part in parts], "stdio": {}}

    def undo(self, here: Here, act: Act) -> Acts:
        """Give up the lease and the images."""
        yield from let_go(here, act)
        return {}


class Upload(SimulatedStep):
    """See `steps.upload`."""

    def run(self, here: Here, act: Act) -> Acts:
        """Blobs, then the index."""
        command = act.command
        parts = [Descriptor.from_oci(part) for part in act.facts["parts"]]
        for part in parts:
            yield f"upload {_role(part)}"
            data = self._bytes(here, act, part)
            here.checkpoints.put_blob(part.digest, part.size_bytes, [data])
            act.check_aborted()
        packs: set[str] = set()
        indexes = written_before(act)
        if travels_chunked(act):
            yield "upload the memory"
            packs, indexes, memory = self._send_memory(here, act)
            parts.append(memory)
        yield "seal"
        act.check_aborted()
        here.machine.container(str(act.request.container))
        index = self._index(here, act, parts)
        workload_id, checkpoint_id = command.workload_id, str(command.checkpoint_id)
        digest = here.checkpoints.seal(workload_id, checkpoint_id, index, packs=packs, own=indexes, sent_just_now=True)
        size_bytes = sum(part.size_bytes for part in parts) + int(act.facts["image_bytes"])
        return {"index_digest": digest, "checkpoint_bytes": size_bytes, PACK_INDEXES: list(indexes)}

    def _send_memory(self, here: Here, act: Act) -> tuple[set[str], tuple[str, ...], Descriptor]:
        memory = programs.memory_part()
        data = self._bytes(here, act, memory)
        with here.checkpoints.chunks.writing(owner_of(act), written_before(act)) as writer:
            part = here.checkpoints.put_chunked(writer, memory, [data])
        found, _ = here.checkpoints.put_recipe(part, owner_of(act))
        packs = writer.written.relied_on | {pack.name for pack in writer.written.packs}
        return packs, (*written_before(act), *filter(None, [writer.written.index])), found

    def undo(self, here: Here, act: Act) -> Acts:
        """Take it out again, unless it is the last copy."""
        yield "take the checkpoint out"
        workload_id, checkpoint_id = act.command.workload_id, str(act.command.checkpoint_id)
        if act.facts.get(SOURCE_GONE):
            job_id, image_bytes = act.command.job_id, int(act.facts["image_bytes"])
            kept = last_copy(here.checkpoints, job_id, workload_id, checkpoint_id, image_bytes)
            if kept is not None:
                return kept
        parts = [Descriptor.from_oci(part) for part in act.facts.get("parts", [])]
        if "parts" not in act.facts:  # the answer of the dump was lost
            parts = [Descriptor("", digest, 0) for digest in sorted(here.machine.leases.get(act.lease_id, ()))]
        OwnContent(here.checkpoints, act.command.job_id).withdraw(workload_id, checkpoint_id, parts)
        return {}

    def _bytes(self, here: Here, act: Act, part: Descriptor) -> bytes:
        found = (
            here.machine.memory_images.get(act.command.job_id)
            if _role(part) == Role.MEMORY
            else here.machine.content.get(part.digest)
        )
        if found is None:
            raise NotFound(f"part {_role(part)} is gone", code="content_not_found")
        return found

    def _index(self, here: Here, act: Act, parts: list[Descriptor]) -> bytes:
        return programs.index_bytes(
            parts,
            {
                FactAnnotation.HOST: here.machine.name,
                FactAnnotation.CRIU: "4.2",
                FactAnnotation.WORKLOAD: act.command.workload_id,
                FactAnnotation.EPOCH: str(act.command.epoch),
                FactAnnotation.JOB: act.command.job_id,
                FactAnnotation.CREATED: str(act.facts["claimed_at"]),
                FactAnnotation.SNAPSHOT: json.dumps(act.facts["snapshot"], sort_keys=True),
            },
        )


class ReadBack(SimulatedStep):
    """See `steps.read_back`."""

    def run(self, here: Here, act: Act) -> Acts:
        """Verify every part."""
        yield "read the index"
        index = sealed_index(here, act)
        for role in (Role.MEMORY, Role.CONTAINER, Role.RW_DIFF):
            yield f"read the {role.value} back"
            part = index.part(role)
            deque(here.checkpoints.read_part(part), maxlen=0)
            act.check_aborted()
        return {}


class Fetch(SimulatedStep):
    """See `steps.fetch`."""

    def run(self, here: Here, act: Act) -> Acts:
        """Verify and import."""
        machine, job = here.machine, act.command.job_id
        if machine.memory_images.get(job) is not None:
            return {"downloaded_bytes": len(machine.memory_images[job] or b"")}
        yield "take the lease"
        machine.take_lease(act)
        yield "read the index"
        index = sealed_index(here, act)
        for role in (Role.CONTAINER, Role.RW_DIFF):
            yield from fetch_blob(here, act, index.part(role))
            act.check_aborted()
        yield "apply the changed files"
        snapshot = machine.snapshots.get(restored_key(act))
        if snapshot is None:
            raise NotFound(f"snapshot {restored_key(act)} does not exist", code="snapshot_not_found")
        files = machine.content[index.part(Role.RW_DIFF).digest].decode()
        machine.put_snapshot(act, restored_key(act), replace(snapshot, files=files))
        yield "unpack the memory"
        memory = index.part(Role.MEMORY)
        machine.remove_memory_images(act)
        data = b"".join(here.checkpoints.read_part(memory))
        machine.need_disk()
        machine.world.rules.effect(machine, act, "memory images")
        machine.memory_images[job] = data
        return {"downloaded_bytes": len(data)}

    def undo(self, here: Here, act: Act) -> Acts:
        """Drop memory and files."""
        yield "remove the memory images"
        here.machine.remove_memory_images(act)
        yield "drop the snapshot"
        drop_snapshot(here, act)
        return {}


class Restore(SimulatedStep):
    """See `steps.restore`."""

    def run(self, here: Here, act: Act) -> Acts:
        """Create container and task, start it."""
        yield "look whether it runs already"
        if self.observe(here, act) == "done":
            return {"pid": 1}
        index = sealed_index(here, act)
        if index.part(Role.CONTAINER).digest not in here.machine.content:
            raise NotFound("the container's record is gone", code="content_not_found")
        yield from bring_to_life(here, act, restored_key(act))
        if act.request.mode is Mode.LAZY:
            return {"pid": 1, RESTORED: LAZY}
        return {"pid": 1}

    def undo(self, here: Here, act: Act) -> Acts:
        """Remove what this job made."""
        machine, name = here.machine, restored_name(act)
        yield "look"
        record = machine.containers.get(name)
        if record is None or record.job != act.command.job_id:
            return {}
        yield "end the task"
        machine.end_task(act, name)
        machine.coming.pop(act.command.job_id, None)
        yield from delete_container(here, act, name)
        yield "remove the memory images"
        machine.remove_memory_images(act)
        return {}

    def observe(self, here: Here, act: Act) -> str:
        """Tell whether this job's container runs here."""
        record = here.machine.containers.get(restored_name(act))
        if record is None or record.job != act.command.job_id or record.name not in here.machine.tasks:
            return "absent"
        return SEEN.get(here.machine.status(record.name), "unknown")


class Displace(SimulatedStep):
    """See `steps.displace`."""

    def run(self, here: Here, act: Act) -> Acts:
        """Set the record aside, end the task, give its name free."""
        machine, name, mark = here.machine, str(act.request.container), aside(act)
        yield "look at the images"
        if machine.memory_images.get(act.command.job_id) is None:
            raise PreconditionFailed("the images are gone", code="images_gone")
        record = machine.containers.get(name)
        if record is None and mark in machine.containers:
            return {}
        if record is None or record.created_at != act.facts["source_created_at"]:
            raise PreconditionFailed(f"container {name} is not the one that was frozen", code="container_changed")
        if record.job != mark:
            yield "see it paused"
            check_paused(here, act)
            yield "set the record aside"
            machine.put_container(act, replace(record, name=mark, job=mark))
            yield "mark the original"
            machine.put_container(act, replace(record, job=mark))
        yield "end the task"
        machine.end_task(act, name)
        yield "delete its record"
        machine.delete_container(act, name)
        return {}

    def undo(self, here: Here, act: Act) -> Acts:
        """Bring it back from its images, or at least its record."""
        machine, name, mark = here.machine, str(act.request.container), aside(act)
        yield "look"
        if mark in machine.containers:
            record = machine.containers.get(name)
            if record is None or record.job in (mark, act.command.job_id):
                yield from self._bring_back(here, act)
            yield "delete what was set aside"
            machine.delete_container(act, mark)
        yield "see what runs"
        task = machine.tasks.get(name)
        return {"source_started": task.number} if task else {}

    def _bring_back(self, here: Here, act: Act) -> Acts:
        machine, name = here.machine, str(act.request.container)
        kept = machine.containers[aside(act)]
        own = replace(kept, name=name, job=None)
        if not self._runs(here, act):
            yield "end the half ended"
            machine.end_task(act, name)
            yield "delete its record"
            machine.delete_container(act, name)
            yield from self._revive(here, act, kept.snapshot_key)
        yield "put the record back"
        known = machine.containers.get(name)
        machine.put_container(act, replace(own, created_at=known.created_at) if known else own)
        return {}

    def _revive(self, here: Here, act: Act, key: str) -> Acts:
        if here.machine.memory_images.get(act.command.job_id) is not None:
            try:
                yield from bring_to_life(here, act, key)
            except NotFound as error:
                raise ResourceBusy(f"it died on its way back: {error}", code="not_brought_back") from error
        return {}

    def _runs(self, here: Here, act: Act) -> bool:
        machine, name = here.machine, str(act.request.container)
        record = machine.containers.get(name)
        if record is None or record.job != act.command.job_id or name not in machine.tasks:
            return False
        if machine.status(name) is TaskState.UNKNOWN:
            raise ResourceBusy(f"the task of {name} is unclear", code="task_unclear")
        return machine.status(name) is TaskState.RUNNING


class RemoveDisplaced(SimulatedStep):
    """See `steps.displace`."""

    def run(self, here: Here, act: Act) -> Acts:
        """Remove record and snapshot, send the guard away, let go."""
        yield from delete_container(here, act, aside(act))
        yield "send the guard away"
        here.guards.release(act.command.job_id)
        yield from let_go(here, act)
        return {}


class Prove(SimulatedStep):
    """See `steps.restore`."""

    def run(self, here: Here, act: Act) -> Acts:
        """See it running."""
        yield "look"
        state = here.machine.status(restored_name(act))
        if state is not TaskState.RUNNING:
            raise PreconditionFailed(f"container was restored but is {state.value}", code="ended_after_restore")
        here.machine.world.rules.proved(act)
        return {"processes": 1}


class Fill(SimulatedStep):
    """See `steps.lazy`."""

    def run(self, here: Here, act: Act) -> Acts:
        """Wait until all of the memory has come."""
        machine, job, name = here.machine, act.command.job_id, restored_name(act)
        for _ in range(3):
            yield "see how much is there", 0.2
            if job in machine.coming and name not in machine.tasks:
                del machine.coming[job]
                raise lost(act)  # it has ended, however: as who cannot have its pages is ended
        if job not in machine.coming and act.request.mode is Mode.LAZY and name not in machine.tasks:
            raise lost(act)
        yield "all is there"
        machine.coming.pop(job, None)
        return {}


class TryProbe(SimulatedStep):
    """See `steps.drill`."""

    def run(self, here: Here, act: Act) -> Acts:
        """See it run for a while."""
        for _ in range(3):
            yield "look whether it is well", 0.5
            act.check_aborted()
            name = restored_name(act)
            if name not in here.machine.tasks or here.machine.status(name) is not TaskState.RUNNING:
                raise WorkloadFailed("the restored program ended", code="drill_ended")
        return {"probe_s": 1.5}


class Discard(SimulatedStep):
    """See `steps.drill`."""

    def run(self, here: Here, act: Act) -> Acts:
        """Take back the restore, newest first."""
        for step in (Restore(), Fetch(), Prepare()):
            yield from step.undo(here, act)
        return {}


class Remove(SimulatedStep):
    """See `steps.release`."""

    def run(self, here: Here, act: Act) -> Acts:
        """Remove the frozen source."""
        machine, name = here.machine, str(act.request.container)
        yield "look"
        record = machine.containers.get(name)
        if record is not None and record.created_at == act.facts["source_created_at"]:
            yield "end the task"
            machine.world.rules.source_removed(act)
            machine.end_task(act, name)
            yield from delete_container(here, act, name)
        yield "send the guard away"
        here.guards.release(act.command.job_id)
        yield from let_go(here, act)
        return {}


class ReleaseSource(SimulatedStep):
    """See `steps.release`."""

    def run(self, here: Here, act: Act) -> Acts:
        """Let go."""
        yield from let_go(here, act)
        return {}


class ReleaseTarget(SimulatedStep):
    """See `steps.release`."""

    def run(self, here: Here, act: Act) -> Acts:
        """Take the mark off, let go."""
        yield "take the mark off"
        record = here.machine.containers.get(restored_name(act))
        if record is not None and record.job == act.command.job_id:
            here.machine.put_container(act, replace(record, job=None))
        yield from let_go(here, act)
        return {}


def bring_to_life(here: Here, act: Act, key: str) -> Acts:
    """Create container and task from this job's images, start it."""
    machine, name, job = here.machine, restored_name(act), act.command.job_id
    yield "create the container"
    known = machine.containers.get(name)
    if known is not None and known.job != job:
        raise AlreadyExists(f"container {name} exists", code="container_exists")
    created_at = known.created_at if known else machine.world.new_moment()
    hooked = ContainerRecord(name, key, created_at, job, hooked=True)
    machine.put_container(act, hooked)
    yield "end what a former attempt left"
    machine.end_task(act, name)
    yield "create the task"
    machine.create_task(act, name)
    yield "give the record its own spec"
    machine.put_container(act, replace(hooked, hooked=False))
    yield "start"
    if act.request.mode is Mode.LAZY:
        machine.coming[job] = name
    machine.start(name, START_S)
    yield "start is under way", 0.05
    yield "it runs", START_S
    if machine.status(name) is not TaskState.RUNNING:
        raise InternalError("it did not start")
    return {}


def aside(act: Act) -> str:
    """What the record of a displaced original is called; also its mark."""
    return f"{act.command.job_id}-displaced"


def restored_name(act: Act) -> str:
    """The name that the container has after the restore."""
    return act.request.new_name or act.request.container or str(act.facts["source_name"])


def restored_key(act: Act) -> str:
    """The key of its snapshot after the restore."""
    return act.request.new_name or str(act.facts["snapshot"]["key"])


def drop_snapshot(here: Here, act: Act) -> None:
    """Remove the job's snapshot unless a container owns it."""
    key = restored_key(act)
    owned = any(record.snapshot_key == key for record in here.machine.containers.values())
    if not owned and key in here.machine.snapshots and here.machine.snapshots[key].job == act.command.job_id:
        here.machine.remove_snapshot(act, key)


def delete_container(here: Here, act: Act, name: str) -> Acts:
    """Snapshot first, then the record, which tells where the snapshot is."""
    yield "remove its snapshot"
    record = here.machine.containers.get(name)
    if record is None:
        return {}
    others = [one for one in here.machine.containers.values() if one.name != name]
    if not any(one.snapshot_key == record.snapshot_key for one in others):
        here.machine.remove_snapshot(act, record.snapshot_key)
    yield "delete its record"
    here.machine.delete_container(act, name)
    return {}


def let_go(here: Here, act: Act) -> Acts:
    """Give back the lease, remove CRIU's files."""
    yield "drop the lease"
    here.machine.drop_lease(act)
    yield "remove the memory images"
    here.machine.remove_memory_images(act)
    here.machine.remove_ahead(act)
    here.machine.forget_hook(act)
    return {}


def pause(here: Here, act: Act) -> Generator[str | tuple[str, float], None, None]:
    """Freeze the task, under the eyes of the guard."""
    machine, name = here.machine, str(act.request.container)
    yield "pause"
    with here.guards.holding(act.command.job_id):
        if machine.status(name) is TaskState.RUNNING:
            machine.pause(act, name)
    yield "see it paused"
    if machine.status(name) is not TaskState.FROZEN:
        raise PreconditionFailed(f"container {name} did not freeze", code="task_not_running")


def resume(here: Here, act: Act) -> Acts:
    """Let the task run if this job froze it; send the guard away once it was seen running."""
    if here.guards.state(act.command.job_id) is None:
        return {}
    yield "thaw"
    failure = here.machine.try_to_thaw(str(act.request.container))
    if failure is not None:
        raise ResourceBusy(f"it does not resume yet: {failure}", code="task_left_frozen")
    yield "send the guard away"
    here.guards.release(act.command.job_id)
    return {}


def check_paused(here: Here, act: Act) -> None:
    """Make sure that the task is paused."""
    state = here.machine.status(str(act.request.container))
    if state is not TaskState.FROZEN:
        raise PreconditionFailed(f"the container is {state.value}", code="guard_resumed")


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


def sealed_index(here: Here, act: Act) -> CheckpointIndex:
    """Read the index and hold it against the digest that was sealed."""
    index = here.checkpoints.read_index(str(act.facts["checkpoint_workload"]), str(act.command.checkpoint_id))
    if index.digest != act.facts["index_digest"]:
        raise IntegrityError("the index is not the one that was sealed", code="index_changed")
    return index


def _role(part: Descriptor) -> str:
    return str(part.annotations.get("io.migrator.role"))


def _files(machine: Machine, record: ContainerRecord) -> str:
    return machine.snapshots[record.snapshot_key].files


STEPS: dict[str, SimulatedStep] = {
    "inspect-source": InspectSource(),
    "inspect-target": InspectTarget(),
    "publish-image": PublishImage(),
    "prepare": Prepare(),
    "precopy": Precopy(),
    "prefetch": Prefetch(),
    "precopy-again": Again(Precopy()),
    "prefetch-again": Again(Prefetch()),
    "before-hook": BeforeHook(),
    "freeze": Freeze(),
    "dump": Dump(),
    "thaw": Thaw(),
    "after-hook": AfterHook(),
    "upload": Upload(),
    "read-back": ReadBack(),
    "fetch": Fetch(),
    "promise": Promise(),
    "displace": Displace(),
    "restore": Restore(),
    "prove": Prove(),
    "fill": Fill(),
    "probe": TryProbe(),
    "discard": Discard(),
    "remove": Remove(),
    "remove-displaced": RemoveDisplaced(),
    "release-source": ReleaseSource(),
    "release-target": ReleaseTarget(),
}
"""The same names as `service.steps.HOST_STEPS`."""
