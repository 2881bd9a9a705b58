"""Is everything there that a checkpoint needs, and is it what it should be? Each object is looked at once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from migrator.errors import IntegrityError, MigratorError, NotFound
from migrator.storage import layout
from migrator.storage.checkpoints import CheckpointStore
from migrator.storage.chunks.format import read_pack_directory, read_pack_index
from migrator.storage.chunks.store import PACK_INDEX_LIMIT_BYTES
from migrator.storage.oci import CheckpointIndex, parse_index

Pulse = Callable[[], None]
PACK_LIMIT_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Subset:
    """Which objects are read to their last byte: those whose name falls into the share.

    Of `share` 0.05, by another `seed` each time, one in twenty; of `number` 2 and `of` 5, the second fifth.
    """

    share: float = 0.0
    seed: str = ""
    number: int = 0
    of: int = 0

    def has(self, name: str) -> bool:
        """Whether an object belongs to it."""
        drawn = int.from_bytes(hashlib.sha256(f"{self.seed}{name}".encode()).digest()[:6], "big") / 2**48
        if self.of:
            return int(drawn * self.of) == self.number - 1
        return drawn < self.share


@dataclass(slots=True)
class Found:
    """What a checkpoint needs, and what is wrong with it."""

    damage: str = ""
    keys: set[str] = field(default_factory=set)
    """Its blobs and packs."""


class Checker:
    """Checks checkpoints against one look at the whole store.

    Args:
        checkpoints: The store.
        pulse: Called before each request that may take its time.
    """

    def __init__(self, checkpoints: CheckpointStore, pulse: Pulse):
        self._checkpoints = checkpoints
        self._objects = checkpoints.objects
        self._pulse = pulse
        checkpoints.chunks.refresh()  # what was read long ago may name packs that a prune has replaced
        self.sizes = {
            info.key: info.size_bytes for prefix in (layout.BLOBS, layout.PACKS) for info in self._objects.scan(prefix)
        }

    def check(self, workload_id: str, checkpoint_id: str, index_digest: str) -> Found:
        """Check the index, and that all blobs and packs are there with the right size."""
        found = Found()
        try:
            self._check(workload_id, checkpoint_id, index_digest, found)
        except (IntegrityError, NotFound) as error:
            found.damage = error.message
        return found

    def _check(self, workload_id: str, checkpoint_id: str, index_digest: str, found: Found) -> None:
        self._pulse()
        index = parse_index(self._checkpoints.read_index_bytes(workload_id, checkpoint_id))
        if index.digest != index_digest:
            raise IntegrityError("its index is not the one that was sealed", code="index_changed")
        for blob in self._checkpoints.reachable(index):
            key = layout.blob_key(blob.digest)
            found.keys.add(key)
            self._expect(key, blob.size_bytes)
        try:
            found.keys |= self._find_packs(index)
        except IntegrityError:  # or replaced just now
            self._checkpoints.chunks.refresh()
            found.keys |= self._find_packs(index)

    def _find_packs(self, index: CheckpointIndex) -> set[str]:
        keys = {layout.pack_key(name) for name in self._checkpoints.chunks.packs_of(self._checkpoints.recipes(index))}
        for key in sorted(keys):
            self._expect(key, None)
        return keys

    def _expect(self, key: str, size_bytes: int | None) -> None:
        there = self.sizes.get(key)
        if there is None and (late := self._objects.head(key)):  # written since the store was listed
            there = self.sizes[key] = late.size_bytes
        if there is None:
            raise IntegrityError(f"{key} is gone", code="blob_missing")
        if size_bytes is not None and there != size_bytes:
            raise IntegrityError(f"{key} has {there} bytes instead of {size_bytes}", code="size_mismatch")

    def read(self, keys: Iterable[str], subset: Subset) -> Iterator[tuple[str, str]]:
        """Read those that belong to a subset to their last byte; give each with what is wrong, empty when nothing."""
        for key in sorted(keys):
            if subset.has(key):
                self._pulse()
                yield key, self._read(key)

    def _read(self, key: str) -> str:
        """The name of blobs and packs is the SHA-256 of their bytes."""
        digest = hashlib.sha256()
        try:
            for piece in self._objects.download(key, size_bytes=self.sizes[key]):
                digest.update(piece)
                self._pulse()
        except (NotFound, IntegrityError) as error:
            return error.message
        return "" if key.endswith(digest.hexdigest()) else f"{key} is not what its name says"


def mend_pack_indexes(checkpoints: CheckpointStore, pulse: Pulse) -> list[str]:
    """Write the index of every pack that none names, from what the pack says of itself; return these packs.

    Pack indexes that cannot be read count as none, and go when what they told of is told again.
    """
    listed, unreadable = _read_pack_indexes(checkpoints)
    there = [info.key.removeprefix(layout.PACKS) for info in checkpoints.objects.scan(layout.PACKS)]
    mended = []
    for name in [name for name in there if name not in listed]:
        pulse()
        try:
            pack = read_pack_directory(name, checkpoints.objects.get(layout.pack_key(name), PACK_LIMIT_BYTES))
        except (IntegrityError, NotFound):
            continue  # nothing can be learned from it
        checkpoints.chunks.put_pack_index([pack])
        mended.append(name)
    for name in set(unreadable) & set(
        _read_pack_indexes(checkpoints)[1]
    ):  # what was written just now may have its name
        checkpoints.objects.delete(layout.pack_index_key(name))
    return mended


def _read_pack_indexes(checkpoints: CheckpointStore) -> tuple[set[str], list[str]]:
    """The packs that pack indexes name, and the names of those indexes that cannot be read."""
    listed, unreadable = set[str](), []
    for info in checkpoints.objects.scan(layout.PACK_INDEXES):
        name = info.key.removeprefix(layout.PACK_INDEXES)
        try:
            listed |= {p.name for p in read_pack_index(name, checkpoints.objects.get(info.key, PACK_INDEX_LIMIT_BYTES))}
        except NotFound:
            continue  # replaced since it was listed
        except IntegrityError:
            unreadable.append(name)
    return listed, unreadable


def remove_bad_blob(checkpoints: CheckpointStore, key: str) -> bool:
    """Take a damaged blob away, so that the next upload that needs it does not take it for what it should be."""
    if not key.startswith(layout.BLOBS):
        return False
    try:
        checkpoints.objects.delete(key)
    except MigratorError:
        return False
    return True
