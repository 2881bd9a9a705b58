"""What is in the store, and which checkpoint needs it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from migrator.errors import IntegrityError, NotFound
from migrator.storage import layout
from migrator.storage.checkpoints import CheckpointStore
from migrator.storage.chunks import is_chunked
from migrator.storage.chunks.format import Pack
from migrator.storage.chunks.store import PackIndex
from migrator.storage.oci import parse_index

Pulse = Callable[[], None]


@dataclass(slots=True)
class Needs:
    """What all checkpoints of the store need together."""

    blobs: set[str] = field(default_factory=set)
    """Digests."""
    chunks: set[bytes] = field(default_factory=set)
    """Names."""
    unclear: dict[str, str] = field(default_factory=dict)
    """Checkpoints of which it cannot be said which chunks they need, and why: a document of theirs is damaged."""
    unreadable: dict[str, str] = field(default_factory=dict)
    """Checkpoints whose index cannot be read, as when it does not decrypt: nobody knows which blobs they need."""


def read_needs(checkpoints: CheckpointStore, pulse: Pulse) -> Needs:
    """Read every index, and what it names. Damage hides as little as possible."""
    needs = Needs()
    seen: dict[str, set[str]] = {}
    recipes: set[str] = set()
    for sealed in checkpoints.sealed():
        pulse()
        try:
            data = checkpoints.read_unchecked_index(sealed.workload_id, sealed.checkpoint_id)
        except NotFound:
            continue  # removed since it was listed
        except IntegrityError as error:
            needs.unreadable[sealed.checkpoint_id] = error.message
            continue
        needs.blobs |= checkpoints.blobs_named(data, seen)
        try:
            for part in filter(is_chunked, parse_index(data).parts):
                if part.digest not in recipes:
                    needs.chunks |= set(checkpoints.chunks.names_in(checkpoints.read_recipe(part)))
                    recipes.add(part.digest)
        except (IntegrityError, NotFound) as error:
            needs.unclear[sealed.checkpoint_id] = error.message
    return needs


@dataclass(slots=True)
class PackUse:
    """Which pack is kept for which chunks."""

    sizes: Mapping[str, int]
    """Every pack that is there."""
    listed: dict[str, Pack]
    """What the pack indexes tell of them."""
    indexes: list[PackIndex]
    used: dict[str, set[bytes]]
    """For each pack, the needed chunks that it is kept for; none: nobody needs it."""
    missing: set[bytes]
    """Chunks that are needed and that no pack has, as far as the pack indexes know."""

    def used_bytes(self, name: str) -> int:
        """How much of a pack is needed."""
        wanted = self.used.get(name, set())
        return sum(chunk.stored_bytes for chunk in self.listed[name].chunks if chunk.name in wanted)


def read_pack_use(checkpoints: CheckpointStore, needed: set[bytes], avoided: set[str], pulse: Pulse) -> PackUse:
    """Choose for each needed chunk the pack that is kept for it: one that is not to go, if any such has it."""
    indexes = []
    for found in checkpoints.chunks.pack_indexes():
        pulse()
        indexes.append(found)
    sizes = {info.key.removeprefix(layout.PACKS): info.size_bytes for info in checkpoints.objects.scan(layout.PACKS)}
    listed = {pack.name: pack for index in indexes for pack in index.packs if pack.name in sizes}
    used: dict[str, set[bytes]] = {}
    left = set(needed)
    for name in sorted(listed, key=lambda name: (name in avoided, -_overlap(listed[name], needed), name)):
        mine = {chunk.name for chunk in listed[name].chunks} & left
        used[name] = mine
        left -= mine
    return PackUse(sizes, listed, indexes, used, left)


def _overlap(pack: Pack, needed: Iterable[bytes]) -> int:
    wanted = needed if isinstance(needed, set) else set(needed)
    return sum(chunk.stored_bytes for chunk in pack.chunks if chunk.name in wanted)
