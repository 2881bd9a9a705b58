"""Prune in two phases: mark what no checkpoint needs; a grace time later, look again and delete.

Why no checkpoint loses a byte, wherever this stops and whoever uploads meanwhile:

* Blobs. Before the last reading of all indexes the blobs to be deleted are written down as *doomed*. `seal` looks for
  that note after it has written an index. If the index came before the reading, the reading saw it; if it came after,
  `seal` sees the note, takes its index back and fails, and the upload is repeated.
* Packs. The same with each pack's mark, which stands since the first phase. Their chunks are written anew meanwhile.
* Indexes are never touched. A crash leaves marks and notes, which the next prune takes up.
* What is damaged may need anything that only it could tell of: while an index cannot be read no blob and no pack goes,
  while a recipe or a pack index cannot be, no pack does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from migrator.errors import MigratorError, PreconditionFailed
from migrator.storage import layout
from migrator.storage.checkpoints import CheckpointStore
from migrator.storage.chunks.format import Pack, listed_bytes
from migrator.storage.chunks.store import PackIndex
from migrator.storage.prune.notes import PruneLock, doom
from migrator.storage.prune.plan import REPACK_USED_SHARE, Cutoff, PrunePlan
from migrator.storage.prune.repacking import repack
from migrator.storage.prune.survey import Needs, PackUse, Pulse, read_needs, read_pack_use
from migrator.storage.store import ObjectInfo

SMALL_INDEX_BYTES = 1 << 20
MERGED_INDEX_BYTES = 16 << 20
MERGE_FROM = 8
"""So many small pack indexes are worth a larger one: whoever opens the store anew reads each of them."""
DOOMED_TOGETHER = 20_000
"""So many blobs are noted in one object."""

FORGOTTEN = timedelta(days=1)
OWN_NOTES = layout.doomed_key("prune")


class Pruner:
    """Prunes one store.

    Args:
        checkpoints: The store.
        pulse: Called before each request that may take its time; what it raises ends the prune.
    """

    def __init__(self, checkpoints: CheckpointStore, pulse: Pulse = lambda: None):
        self._checkpoints = checkpoints
        self._objects = checkpoints.objects
        self._pulse = pulse

    def plan(self, cutoff: Cutoff) -> PrunePlan:
        """Say what a prune would do now. Writes nothing."""
        return self._survey(cutoff)[0]

    def run(self, cutoff: Cutoff, lock: PruneLock) -> tuple[PrunePlan, int]:
        """Prune; return what was done, and the bytes that it freed.

        Raises:
            ResourceBusy: `prune_busy`, another prune is under way.
        """
        lock.acquire()
        self._pulse = _both(self._pulse, lock.renew)
        try:
            self._clear_notes()
            plan, use = self._survey(cutoff)
            freed_bytes = self._delete_blobs(plan) + self._delete_packs(plan, use)
            self._mark(plan)
            repack(self._checkpoints, use, plan.repack, self._pulse)
            return plan, freed_bytes
        finally:
            with suppress(MigratorError):  # it ends by itself
                lock.release()

    # ---- look

    def _survey(self, cutoff: Cutoff) -> tuple[PrunePlan, PackUse]:
        marked_blobs, marked_packs = self._marks(layout.BLOB_MARKS), self._marks(layout.PACK_MARKS)
        blobs, packs = self._named_by_digest(layout.BLOBS), self._named_by_digest(layout.PACKS)
        needs = read_needs(self._checkpoints, self._pulse)
        use = read_pack_use(self._checkpoints, needs.chunks, set(marked_packs), self._pulse)
        plan = PrunePlan(unclear=sorted({**needs.unreadable, **needs.unclear}), missing_chunks=len(use.missing))
        plan.damaged = _damage(needs, use)
        needed = {digest.removeprefix("sha256:") for digest in needs.blobs}
        self._judge(blobs, needed, marked_blobs, cutoff, plan, (plan.blobs, plan.mark_blobs, plan.unmark_blobs))
        if needs.unreadable:
            plan.leave(plan.blobs, plan.mark_blobs)
        kept = {name for name, chunks in use.used.items() if chunks}
        self._judge(packs, kept, marked_packs, cutoff, plan, (plan.packs, plan.mark_packs, plan.unmark_packs))
        if plan.damaged or use.missing:
            plan.leave(plan.packs, plan.mark_packs)
        else:
            self._choose_repacks(packs, use, set(marked_packs), cutoff, plan)
        small = {i.name for i in use.indexes if i.size_bytes < SMALL_INDEX_BYTES and not i.damage}
        plan.merge = small if len(small) >= MERGE_FROM else set()
        return plan, use

    def _judge(
        self,
        there: dict[str, ObjectInfo],
        needed: set[str],
        marks: dict[str, datetime],
        cutoff: Cutoff,
        plan: PrunePlan,
        into: tuple[dict[str, int], dict[str, int], set[str]],
    ) -> None:
        delete, mark, unmark = into
        for name, info in there.items():
            if name in needed:
                continue
            if name in marks and marks[name] <= cutoff.marked:
                delete[name] = info.size_bytes
            elif name not in marks and info.modified_at <= cutoff.written:
                mark[name] = info.size_bytes
            elif name not in marks:
                plan.kept_young += 1
        unmark |= {name for name in marks if name in needed or name not in there}

    def _choose_repacks(
        self, packs: dict[str, ObjectInfo], use: PackUse, marked: set[str], cutoff: Cutoff, plan: PrunePlan
    ) -> None:
        for name, chunks in use.used.items():
            old = name in packs and packs[name].modified_at <= cutoff.written
            if chunks and old and name not in marked:
                used_bytes = use.used_bytes(name)
                if used_bytes < REPACK_USED_SHARE * use.sizes[name]:
                    plan.repack[name] = use.sizes[name]

    def _named_by_digest(self, prefix: str) -> dict[str, ObjectInfo]:
        """What is there under a prefix, or was deleted and still takes room; objects with other names are not ours."""
        found = {info.key.removeprefix(prefix): info for info in self._objects.hidden(prefix)}
        found |= {info.key.removeprefix(prefix): info for info in self._objects.scan(prefix)}
        return {name: info for name, info in found.items() if layout.HEX.fullmatch(name)}

    def _marks(self, prefix: str) -> dict[str, datetime]:
        return {info.key.removeprefix(prefix): info.modified_at for info in self._objects.scan(prefix)}

    # ---- act

    def _clear_notes(self) -> None:
        """Take away what a prune that died has left: it deletes nothing any more, for we hold the lock.

        A job's own note stays until nobody can be at it: it is taken up when the job's step is tried again.
        """
        for info in list(self._objects.scan(layout.DOOMED)):
            if info.key.startswith(OWN_NOTES) or info.modified_at < datetime.now(UTC) - FORGOTTEN:
                self._objects.delete(info.key)

    def _delete_blobs(self, plan: PrunePlan) -> int:
        freed_bytes, names = 0, sorted(plan.blobs)
        for start in range(0, len(names), DOOMED_TOGETHER):
            freed_bytes += self._delete_doomed(names[start : start + DOOMED_TOGETHER], plan, start)
        return freed_bytes

    def _delete_doomed(self, names: list[str], plan: PrunePlan, number: int) -> int:
        note = f"prune-{number}"
        doom(self._objects, note, (f"sha256:{name}" for name in names))
        needs = read_needs(self._checkpoints, self._pulse)
        rescued = set(names) - self._marks(layout.BLOB_MARKS).keys()
        freed_bytes = 0
        for name in names:
            self._pulse()
            if needs.unreadable or f"sha256:{name}" in needs.blobs or name in rescued:
                plan.blobs.pop(name)
                continue
            if self._may_delete(layout.blob_key(f"sha256:{name}"), plan, plan.blobs[name]):
                freed_bytes += plan.blobs[name]
                self._objects.delete(layout.blob_mark_key(name))
        self._objects.delete(layout.doomed_key(note))
        return freed_bytes

    def _delete_packs(self, plan: PrunePlan, use: PackUse) -> int:
        """Pack indexes are replaced first: nobody may be led to a pack that is gone."""
        held = self._replace_indexes(plan, use)
        freed_bytes = 0
        for name in plan.packs.keys() - held:
            self._pulse()
            if self._may_delete(layout.pack_key(name), plan, plan.packs[name]):
                self._objects.delete(layout.pack_mark_key(name))
                freed_bytes += plan.packs[name]
        return freed_bytes

    def _replace_indexes(self, plan: PrunePlan, use: PackUse) -> set[str]:
        """Write the indexes anew that name packs which go, or are small; the old ones go when the new ones are there.

        Returns:
            The packs that must stay, because the store must keep an index that names them.
        """
        old: list[PackIndex] = []
        staying: dict[str, Pack] = {}
        for index in use.indexes:
            rest = [pack for pack in index.packs if not self._goes(pack, plan, use)]
            if len(rest) < len(index.packs) or index.name in plan.merge:
                old.append(index)
                staying |= {pack.name: pack for pack in rest}
        written = set[str]()
        for packs in _batches([staying[name] for name in sorted(staying)]):
            self._pulse()
            written.add(self._checkpoints.chunks.put_pack_index(packs))
        held: set[str] = set()
        for index in old:
            self._pulse()
            key = layout.pack_index_key(index.name)
            if index.name not in written and not (self._may_delete(key, plan, index.size_bytes) or key in plan.hidden):
                held |= {pack.name for pack in index.packs}
        return held

    def _may_delete(self, key: str, plan: PrunePlan, size_bytes: int) -> bool:
        """Delete an object; False, and it is told, if the store keeps it or its bytes. The next prune tries again."""
        try:
            gone = self._objects.delete(key)
        except PreconditionFailed as error:
            plan.locked.append(error.message)
            return False
        if not gone:
            plan.hidden[key] = size_bytes
        return gone

    def _goes(self, pack: Pack, plan: PrunePlan, use: PackUse) -> bool:
        """Whether a pack is deleted now, or was before a prune died; one that came since they were listed is there."""
        gone = pack.name not in use.sizes and self._objects.head(layout.pack_key(pack.name)) is None
        return gone or pack.name in plan.packs

    def _mark(self, plan: PrunePlan) -> None:
        for name in plan.unmark_blobs:
            self._objects.delete(layout.blob_mark_key(name))
        for name in plan.unmark_packs:
            self._objects.delete(layout.pack_mark_key(name))
        for name in plan.mark_blobs:
            self._pulse()
            self._objects.put(layout.blob_mark_key(name), b"")
        for name in (*plan.mark_packs, *plan.repack):
            self._pulse()
            self._objects.put(layout.pack_mark_key(name), b"")


def _damage(needs: Needs, use: PackUse) -> list[str]:
    checkpoints = {**needs.unreadable, **needs.unclear}
    return [f"checkpoint {name}: {checkpoints[name]}" for name in sorted(checkpoints)] + [
        f"pack index {index.name[:19]}…: {index.damage}" for index in use.indexes if index.damage
    ]


def _batches(packs: list[Pack]) -> Iterator[list[Pack]]:
    """Packs for one index each, none much larger than it should be."""
    some: list[Pack] = []
    for pack in packs:
        some.append(pack)
        if listed_bytes(some) >= MERGED_INDEX_BYTES:
            yield some
            some = []
    if some:
        yield some


def _both(one: Callable[[], None], two: Callable[[], None]) -> Callable[[], None]:
    def call() -> None:
        one()
        two()

    return call
