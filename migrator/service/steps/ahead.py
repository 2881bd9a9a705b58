"""Move memory ahead of the freeze: the source reads it while the program runs, the target keeps it for the restore.

It is a guess. What the dump finds is cut and named in the same way, and what was guessed right is not sent again; see
decision 0032.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from migrator.containerd import with_role
from migrator.containerd.mediatypes import CHECKPOINT_MEMORY
from migrator.criu.layers import CannotLayer, Layer, Pieces, unpack_layer
from migrator.criu.live_memory import look_at, offer_memory, share_known
from migrator.models.descriptors import Descriptor
from migrator.models.roles import Role
from migrator.models.values import Facts, Mode
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
from migrator.storage.chunks.recipes import Recipe, parse_recipe

ROUNDS = 2
"""So many times a migration does this; the freeze follows."""
WORTH_A_ROUND = 0.3
"""Of a program that has kept less since the last round, the freeze would find nothing as it was sent in one more."""
AHEAD = "ahead"
"""Fact: the names under which the recipes of what went ahead can be read, a round each."""
SENT_AHEAD = "sent_ahead_bytes"
"""Fact: what all rounds have added to the store."""
FETCHED_AHEAD = "fetched_ahead_bytes"
"""Fact: what of all rounds has come to the target."""
RECENT_CHUNKS = 1 << 18
"""So many chunks of layers are remembered, some 50 MB; 8 GiB of memory have as many."""


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
            name = store.chunks.name
            if act.facts.get(AHEAD) and share_known(memories, name, writer.knows) < WORTH_A_ROUND:
                return {AHEAD: [*act.facts[AHEAD], act.facts[AHEAD][-1]]}
            offers = offer_memory(memories, cut_by_content, name, writer.knows)
            recipe = writer.add_named(part, offers, progress.add).to_bytes()
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
        host.checkpoints.chunks.learn(written_before(act))
        recipe = parse_recipe(host.checkpoints.chunks.read_note(bytes.fromhex(rounds[-1])))
        came_bytes = 0 if rounds[-1] in rounds[:-1] else _lay_down(host, act, recipe, len(rounds))
        if len(rounds) == ROUNDS and act.request.mode is not Mode.LAZY:
            touch_memory(host, recipe.size_bytes)  # for the restored program
        return {FETCHED_AHEAD: int(act.facts.get(FETCHED_AHEAD, 0)) + came_bytes}

    def undo(self, host: Host, act: Act) -> Facts:
        """Remove it."""
        remove_work_directory(host, act)
        return {}


def _lay_down(host: Host, act: Act, recipe: Recipe, number: int) -> int:
    """Lay a round's images over those of the last one; return the bytes that came."""
    below = layer_below(host, act, number)
    directory = ahead_directory(host, act, number, recipe.size_bytes)
    progress = Progress(act, recipe.size_bytes)
    under = below or Layer(directory)
    pieces = CountedPieces(host.checkpoints.read_unless_known(recipe, under.places, under.groups, progress.add))
    try:
        layer = unpack_layer(pieces, directory, below)
        layer.save(directory.with_suffix(LAYER))
        _RECENT.keep(layer)
    except CannotLayer:
        shutil.rmtree(directory, ignore_errors=True)
    return recipe.size_bytes - pieces.known_bytes


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

    def __init__(self, pieces: Iterable[Pieces]):
        self._pieces = pieces
        self.known_bytes = 0

    def __iter__(self) -> Iterator[Pieces]:
        for pieces in self._pieces:
            _, sizes, _, fetched_bytes, _ = pieces
            self.known_bytes += sum(sizes) - fetched_bytes
            yield pieces


class _Recent:
    """The last layers that this process has laid down: what follows lies over one of them, and need not read it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._layers: dict[Path, Layer] = {}

    def keep(self, layer: Layer) -> None:
        with self._lock:
            self._layers.pop(layer.directory, None)
            self._layers[layer.directory] = layer
            while len(self._layers) > 1 and self._chunks() > RECENT_CHUNKS:
                del self._layers[next(iter(self._layers))]

    def take(self, directory: Path) -> Layer | None:
        with self._lock:
            return self._layers.pop(directory, None)

    def _chunks(self) -> int:
        return sum(len(layer.places) for layer in self._layers.values())


_RECENT = _Recent()


def layer_below(host: Host, act: Act, before: int) -> Layer | None:
    """What came last ahead of the freeze, before a round or what follows all of them; None if nothing did."""
    directory = newest_ahead(host, act, before)
    if directory is None:
        return None
    return _RECENT.take(directory) or Layer.load(directory, directory.with_suffix(LAYER))
