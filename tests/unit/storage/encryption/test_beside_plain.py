"""An encrypted store over a bucket that has objects from before there were keys: it leaves them alone, and says so."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from migrator.errors import NotFound
from migrator.storage.checkpoints import CheckpointStore
from migrator.storage.encryption.ring import new_ring
from migrator.storage.memory import MemoryStore
from migrator.storage.prune.notes import PruneLock
from migrator.storage.prune.plan import Cutoff
from migrator.storage.prune.pruner import Pruner
from tests.unit.storage.encryption.samples import checkpoints_over, contents
from tests.unit.storage.samples import Sample

LATER = datetime.now(UTC) + timedelta(days=30)


@pytest.fixture
def inner() -> MemoryStore:
    """A bucket with one readable checkpoint."""
    inner = MemoryStore()
    Sample(memory=b"old").seal(CheckpointStore(inner), "web-1", "ck-old")
    return inner


def test_an_old_checkpoint_is_not_read_and_the_refusal_says_how_to(inner: MemoryStore) -> None:
    store = checkpoints_over(inner, new_ring())
    for read in (store.read_index, store.read_unchecked_index):
        with pytest.raises(NotFound) as caught:
            read("web-1", "ck-old")
        assert caught.value.code == "object_not_encrypted"
        assert "MIGRATOR_ENCRYPTION=false" in str(caught.value.remedy)
    with pytest.raises(NotFound) as caught:
        store.read_index("web-1", "ck-none")
    assert caught.value.code == "checkpoint_not_found"


def test_new_ones_are_made_beside_it_and_nothing_of_it_is_touched(inner: MemoryStore) -> None:
    before, store = contents(inner), checkpoints_over(inner, new_ring())
    for name in ("ck-new", "ck-gone"):
        sample = Sample(memory=name.encode())
        sample.seal(store.writing(name), "web-1", name)
    assert sorted(found.checkpoint_id for found in store.sealed()) == ["ck-gone", "ck-new"]
    store.remove("web-1", "ck-old")
    store.unseal("web-1", "ck-gone")
    for _ in range(2):
        Pruner(store).run(Cutoff(LATER, LATER), PruneLock(store.objects, "prn-1"))
    assert before.items() <= contents(inner).items()
    assert store.read_index("web-1", "ck-new").parts
    plain = CheckpointStore(inner)
    assert [found.checkpoint_id for found in plain.sealed()] == ["ck-old"]
    assert plain.read_index("web-1", "ck-old").parts
