"""Read what was sealed once more before what runs is given up for something else than its own copy.

A migration need not: its target fetches the checkpoint, and verifies every byte of it, before the source is given away.
A rewind restores another checkpoint. Nobody else would ever look at this one before it is the last copy.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor

from migrator.models.descriptors import Descriptor
from migrator.models.roles import Role
from migrator.models.values import Facts
from migrator.service.host import Act, Host, HostStep
from migrator.service.steps.fetch import sealed_index
from migrator.service.steps.sources import Progress
from migrator.storage.chunks import part_of

PARALLEL_PARTS = 3


class ReadBack(HostStep):
    """Verify every part of the job's own checkpoint as the store has it; its base image is still on this host."""

    name = "read-back"

    def run(self, host: Host, act: Act) -> Facts:
        """Return the bytes that were read.

        Raises:
            IntegrityError: A part, or the index, is not what was sealed.
        """
        index = sealed_index(host, act)
        parts = [part for part in index.parts if index.role_of(part) != Role.IMAGE]
        total_bytes = sum(part_of(part).size_bytes for part in parts)
        progress = Progress(act, total_bytes)

        def read(part: Descriptor) -> None:
            deque(host.checkpoints.read_part(part, on_progress=progress.add), maxlen=0)

        with ThreadPoolExecutor(PARALLEL_PARTS) as pool:
            deque(pool.map(read, parts), maxlen=0)
        return {"read_back_bytes": total_bytes}
