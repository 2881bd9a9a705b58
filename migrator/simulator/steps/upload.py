"""See `steps.upload`."""

from __future__ import annotations

import json

from migrator.errors import (
    NotFound,
)
from migrator.models.descriptors import Descriptor
from migrator.models.roles import Role
from migrator.service.catalogue import SOURCE_GONE, last_copy
from migrator.service.host import Act
from migrator.service.steps.chunked import PACK_INDEXES, owner_of, travels_chunked, written_before
from migrator.simulator import programs
from migrator.simulator.steps.step import Acts, Here, SimulatedStep
from migrator.storage.oci import FactAnnotation
from migrator.storage.own import OwnContent


class Upload(SimulatedStep):
    """See `steps.upload`."""

    def run(self, here: Here, act: Act) -> Acts:
        """Blobs, then the index."""
        command = act.command
        parts = [Descriptor.from_oci(part) for part in act.facts["parts"]]
        for part in parts:
            yield f"upload {role_of(part)}"
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
            if role_of(part) == Role.MEMORY
            else here.machine.content.get(part.digest)
        )
        if found is None:
            raise NotFound(f"part {role_of(part)} is gone", code="content_not_found")
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


def role_of(part: Descriptor) -> str:
    """What a part is for."""
    return str(part.annotations.get("io.migrator.role"))
