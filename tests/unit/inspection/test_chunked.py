"""A backup's parts are chunks: it looks the same, only what is touched is fetched, and what two share counts once."""

from __future__ import annotations

from dataclasses import replace

from migrator.models.roles import Role
from migrator.service.contents import Opened
from migrator.storage.checkpoints import CheckpointStore
from migrator.storage.chunks.cutting import cut_by_content
from migrator.storage.memory import MemoryStore
from migrator.storage.oci import CheckpointIndex
from migrator.storage.usage import count_users, needs_of, part_usages
from tests.unit.inspection.real import RealCheckpoint


def nothing() -> None:
    """Somebody waits."""


def back_up(store: CheckpointStore, real: RealCheckpoint) -> CheckpointIndex:
    """An index whose memory is chunks."""
    index = real.upload(store)
    memory = index.part(Role.MEMORY)
    with store.chunks.writing() as writer:
        chunked = store.put_chunked(writer, memory, cut_by_content([real.memory]))
    others = [part for part in index.parts if part is not memory]
    recipe, _ = store.put_recipe(chunked)
    return replace(index, parts=(recipe, *others))


def test_a_backup_looks_the_same() -> None:
    store, real = CheckpointStore(MemoryStore()), RealCheckpoint()
    real.touch(1, 0, bytes(range(256)) * 16)
    index = back_up(store, real)
    plain = Opened(store, real.upload(store), nothing).contents()
    assert Opened(store, index, nothing).contents() == plain


def test_what_two_backups_share_is_nobodys_own() -> None:
    store, first, second = CheckpointStore(MemoryStore()), RealCheckpoint("first"), RealCheckpoint("second")
    second.touch(1, 7, bytes(range(256)) * 16)
    needs = [needs_of(store, back_up(store, real)) for real in (first, second)]
    users = count_users(needs)
    before, after = ({part.role: part for part in part_usages(need, users)} for need in needs)
    assert 0 < after["memory"].own_bytes < after["memory"].size_bytes
    assert after["spec"].own_bytes == before["spec"].own_bytes == 0
    together = {name: size for need in needs for name, size in need.all().items()}
    owned = sum(part.own_bytes for part in (*before.values(), *after.values()))
    assert owned < sum(together.values()) < sum(sum(need.all().values()) for need in needs)
