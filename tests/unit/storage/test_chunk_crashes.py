"""A backup dies at each of its writes in turn: what is listed can be read, and the next one succeeds."""

from __future__ import annotations

from pathlib import Path

import pytest

from migrator.errors import MigratorError
from migrator.models.roles import Role
from migrator.storage.checkpoints import CheckpointStore
from migrator.storage.memory import MemoryStore
from tests.unit.storage.chunked import KIB, DyingStore, index_of, read, some_bytes, write

MEMORY = some_bytes(400 * KIB)
LATER = MEMORY[: 200 * KIB] + some_bytes(300 * KIB, 2)


def back_up(store: CheckpointStore, name: str, memory: bytes) -> None:
    parts, _ = write(store, {Role.MEMORY: memory, Role.RW_DIFF: memory[: 50 * KIB]})
    store.seal("w", name, index_of(parts, name))


def check_all(objects: MemoryStore, wanted: dict[str, bytes]) -> set[str]:
    """Read every listed backup with the eyes of a host that knows nothing; return which there are."""
    store, listed = CheckpointStore(objects), set()
    for sealed in store.sealed():
        index = store.read_index(sealed.workload_id, sealed.checkpoint_id)
        assert read(store, index.part(Role.MEMORY)) == wanted[sealed.checkpoint_id]
        assert read(store, index.part(Role.RW_DIFF)) == wanted[sealed.checkpoint_id][: 50 * KIB]
        listed.add(sealed.checkpoint_id)
    return listed


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_backup_dies_at_each_write(after: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("migrator.storage.chunks.writing.PACK_BYTES", 64 * KIB)
    wanted = {"first": MEMORY, "second": LATER}
    died_at = 0
    while True:
        died_at += 1
        objects = DyingStore()
        host = CheckpointStore(objects, chunk_cache=tmp_path / f"{died_at}.sqlite")
        back_up(host, "first", MEMORY)
        objects.dies_at, objects.after = objects.changes + died_at, after
        try:
            back_up(host, "second", LATER)
        except MigratorError:
            objects.dies_at = None
        else:
            break
        listed = check_all(objects, wanted)
        assert "first" in listed
        back_up(host, "second", LATER)
        assert check_all(objects, wanted) == {"first", "second"}
        host.chunks.close()
    assert died_at > 7  # packs, their index, a recipe, the index
