"""Move memory ahead of the freeze: the source reads it while the program runs, the target keeps it for the restore.

It is a guess. What the dump finds is cut and named in the same way, and what was guessed right is not sent again; see
decision 0032.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator

from migrator.containerd import with_role
from migrator.containerd.mediatypes import CHECKPOINT_MEMORY
from migrator.criu.layers import CannotLayer, Layer, NamedChunk, unpack_layer
from migrator.criu.live_memory import cut_memory, look_at
from migrator.models.descriptors import Descriptor
from migrator.models.roles import Role
from migrator.models.values import Facts
from migrator.service.catalogue import release_chunks
from migrator.service.host import Act, Host, HostStep
from migrator.service.room import touch_memory
from migrator.service.steps.chunked import PACK_INDEXES, owner_of, travels_chunked, written_before
from migrator.service.steps.lazy import offer_server
from migrator.service.steps.memory_dump import keep_ahead, keeps_extents, processes_of
from migrator.service.steps.sources import Progress
from migrator.service.steps.work import LAYER, ahead_directory, newest_ahead, remove_work_directory, store_of
from migrator.storage.chunks import cut_by_content
from migrator.storage.chunks.format import CHUNK_LIMIT_BYTES
from migrator.storage.chunks.recipes import parse_recipe

ROUNDS = 2
"""So many times a migration does this; the freeze follows."""
AHEAD = "ahead"
"""Fact: the names under which the recipes of what went ahead can be read, a round each."""
SENT_AHEAD = "sent_ahead_bytes"
"""Fact: what all rounds have added to the store."""
FETCHED_AHEAD = "fetched_ahead_bytes"
"""Fact: what of all rounds has come to the target."""


class Precopy(HostStep):
    """Read the memory of the running program and send what the store lacks of it.

    A backup sends nothing yet: what changes before its freeze would stay in the store. It keeps a copy on the host.
    """

    name = "precopy"

    def run(self, host: Host, act: Act) -> Facts:
        """Return where the recipe is, and the bytes really sent.

        Raises:
            Unavailable: `store_unavailable`, the store does not answer.
        """
        if not travels_chunked(act):
            return {}
        if keeps_extents(act):
            keep_ahead(host, act)
            return {}
        task = host.runtime(act.request.namespace).task(str(act.request.container))
        memories = look_at(processes_of(task))
        total_bytes = sum(memory.size_bytes for memory in memories)
        if not total_bytes:
            return {}
        store, progress = store_of(host, act), Progress(act, total_bytes)
        part = with_role(Descriptor(CHECKPOINT_MEMORY, "", 0), Role.MEMORY)
        with store.chunks.writing(owner_of(act), written_before(act)) as writer:
            recipe = writer.add_part(part, cut_memory(memories, cut_by_content), progress.add).to_bytes()
            note = writer.add_note(recipe) if len(recipe) <= CHUNK_LIMIT_BYTES else None
        indexes = (*written_before(act), *filter(None, [writer.written.index]))
        rounds = [*act.facts.get(AHEAD, ()), *([note.hex()] if note else [])]
        sent_bytes = int(act.facts.get(SENT_AHEAD, 0)) + writer.written.stored_bytes
        return {AHEAD: rounds, PACK_INDEXES: list(indexes), SENT_AHEAD: sent_bytes}

    def undo(self, host: Host, act: Act) -> Facts:
        """Take what was sent out of the store again, unless the sealed checkpoint is the last copy of the program."""
        if keeps_extents(act):
            remove_work_directory(host, act)
        else:
            release_chunks(host.checkpoints, act.command.job_id, act.facts)
        return {}


class Prefetch(HostStep):
    """Bring what went ahead to the target, as images that the dump's own can lie over."""

    name = "prefetch"

    def run(self, host: Host, act: Act) -> Facts:
        """Return the bytes that went ahead."""
        rounds = act.facts.get(AHEAD, ())
        if act.command.step != self.name:
            offer_server(host, act)
        if not rounds:
            return {}
        recipe = parse_recipe(host.checkpoints.chunks.read_note(bytes.fromhex(rounds[-1])))
        below = layer_below(host, act, len(rounds))
        known = below.places if below else {}
        directory = ahead_directory(host, act, len(rounds), recipe.size_bytes)
        progress = Progress(act, recipe.size_bytes)
        pieces = CountedPieces(host.checkpoints.read_recipe_unless_known(recipe, known, progress.add))
        try:
            unpack_layer(pieces, directory, below).save(directory.with_suffix(LAYER))
        except CannotLayer:
            shutil.rmtree(directory, ignore_errors=True)
        if len(rounds) == ROUNDS:
            touch_memory(host, recipe.size_bytes)  # for the restored program
        return {FETCHED_AHEAD: int(act.facts.get(FETCHED_AHEAD, 0)) + recipe.size_bytes - pieces.known_bytes}

    def undo(self, host: Host, act: Act) -> Facts:
        """Remove it."""
        remove_work_directory(host, act)
        return {}


class Again(HostStep):
    """The same once more, for what changed meanwhile."""

    def __init__(self, name: str, first: HostStep):
        self.name = name
        self._first = first

    def run(self, host: Host, act: Act) -> Facts:
        """See the step that it repeats."""
        return self._first.run(host, act)


class CountedPieces:
    """Pieces on their way, and how many bytes of them were here already."""

    def __init__(self, pieces: Iterable[NamedChunk]):
        self._pieces = pieces
        self.known_bytes = 0

    def __iter__(self) -> Iterator[NamedChunk]:
        for name, size_bytes, content in self._pieces:
            self.known_bytes += size_bytes if content is None else 0
            yield name, size_bytes, content


def layer_below(host: Host, act: Act, before: int) -> Layer | None:
    """What came last ahead of the freeze, before a round or what follows all of them; None if nothing did."""
    directory = newest_ahead(host, act, before)
    return Layer.load(directory, directory.with_suffix(LAYER)) if directory else None
