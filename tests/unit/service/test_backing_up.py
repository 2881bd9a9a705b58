"""The upload step of a backup: what it leaves in the store, when it is repeated, dies, or meets a prune."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from migrator.containerd import with_role
from migrator.criu.images import pack_images
from migrator.errors import MigratorError
from migrator.models.descriptors import Descriptor, digest_bytes
from migrator.models.phase import JobKind
from migrator.models.roles import Role
from migrator.models.values import JobRequest
from migrator.models.volumes import VOLUME_ROLE
from migrator.service.host import Act, Host
from migrator.service.steps import upload
from migrator.storage import layout
from migrator.storage.checkpoints import CheckpointStore
from migrator.storage.memory import MemoryStore
from migrator.storage.oci import MANIFEST_TYPES
from migrator.storage.parts import part_of
from tests.unit.storage.chunked import KIB, DyingStore, keys, read, stored_bytes

RECORD = b"the container's record"
LAYER = random.Random(1).randbytes(200 * KIB)
VOLUME = random.Random(2).randbytes(150 * KIB)
MANIFEST = (
    b'{"schemaVersion":2,"config":{"mediaType":"c","digest":"%s","size":2},"layers":[]}' % digest_bytes(b"{}").encode()
)


class Bench:
    """A host with a dumped container, and a store."""

    def __init__(self, place: Path, objects: MemoryStore):
        self.objects = objects
        self.store = CheckpointStore(objects, chunk_cache=place / "chunks.sqlite")
        for data in (MANIFEST, b"{}"):
            self.store.put_blob(digest_bytes(data), len(data), [data])
        contents = {digest_bytes(data): data for data in (RECORD, LAYER)}
        runtime = SimpleNamespace(
            content=SimpleNamespace(read=lambda digest: iter([contents[digest]]), list=lambda _: []),
            containers=SimpleNamespace(get=lambda name: name),
        )
        runtime.with_lease = lambda _: runtime
        settings = SimpleNamespace(run_dir=place / "run", state_dir=place / "state")
        found = {"name": "alpha", "settings": settings, "checkpoints": self.store, "runtime": lambda _: runtime}
        self.host = cast(Host, SimpleNamespace(**found))
        self.images = place / "run/criu/bak-1/images"
        self.images.mkdir(parents=True)
        (self.images / "pages-1.img").write_bytes(random.Random(3).randbytes(400 * KIB))
        (self.images / "inventory.img").write_bytes(b"inventory")
        volumes = self.images.parent / "volumes"
        volumes.mkdir()
        (volumes / f"{VOLUME_ROLE}0").write_bytes(VOLUME)

    def act(self, checkpoint_id: str = "ck-1") -> Act:
        parts = [
            with_role(Descriptor("application/x", digest_bytes(data), len(data)), role)
            for data, role in ((RECORD, Role.CONTAINER), (LAYER, Role.RW_DIFF), (VOLUME, _volume_role()))
        ]
        image = {"manifest": Descriptor(MANIFEST_TYPES[0], digest_bytes(MANIFEST), len(MANIFEST)).to_oci()}
        facts = {
            "parts": [part.to_oci() for part in parts],
            "image": image,
            **{"image_bytes": 100, "source_containerd": "2", "source_criu": "4", "claimed_at": "now"},
            **{"stdio": {}, "snapshot": {}},
        }
        request = JobRequest(JobKind.BACKUP, source_host="alpha", container="web")
        command: Any = SimpleNamespace(
            **{"job_id": "bak-1", "workload_id": "web-1", "checkpoint_id": checkpoint_id, "epoch": 1},
            **{"request": request, "facts": facts, "step": "upload"},
        )
        return Act(command, lambda *_: None)

    def check(self) -> set[str]:
        """Read all of every backup that is listed, knowing nothing; return which there are."""
        store, wanted = CheckpointStore(self.objects), b"".join(pack_images(self.images))
        listed = set()
        for sealed in store.sealed():
            index = store.read_index(sealed.workload_id, sealed.checkpoint_id)
            found = {index.role_of(part): read(store, part) for part in index.parts if index.role_of(part) != "image"}
            assert found == {"memory": wanted, "container": RECORD, "rw-diff": LAYER, _volume_role(): VOLUME}
            listed.add(sealed.checkpoint_id)
        return listed


def _volume_role() -> str:
    return f"{VOLUME_ROLE}0"


@pytest.fixture(autouse=True)
def annotations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "index_annotations", lambda _: {})


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, MemoryStore())


def test_the_second_backup_costs_its_records(bench: Bench) -> None:
    before = stored_bytes(bench.objects)
    first = upload.Upload().run(bench.host, bench.act())
    between = stored_bytes(bench.objects)
    second = upload.Upload().run(bench.host, bench.act("ck-2"))
    assert bench.check() == {"ck-1", "ck-2"}
    assert first["stored_bytes"] == between - before - len(layout.OCI_LAYOUT_CONTENT)
    assert second["stored_bytes"] == stored_bytes(bench.objects) - between
    assert second["stored_bytes"] < 4 * KIB
    memory_bytes = len(b"".join(pack_images(bench.images)))
    assert first["checkpoint_bytes"] == memory_bytes + len(LAYER) + len(VOLUME) + len(RECORD) + 100


def test_large_parts_are_chunks_and_records_are_blobs(bench: Bench) -> None:
    upload.Upload().run(bench.host, bench.act())
    index = bench.store.read_index("web-1", "ck-1")
    chunked = {index.role_of(part) for part in index.parts if part_of(part) != part}
    assert chunked == {"memory", "rw-diff", _volume_role()}
    assert bench.store.has_blob(digest_bytes(RECORD), len(RECORD))


def test_a_prune_that_comes_between_is_met_by_a_second_try(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    upload.Upload().run(bench.host, bench.act())
    (old,) = keys(bench.objects, layout.PACKS)
    seal, tries = bench.store.seal, []

    def seal_while_pruned(workload_id: str, checkpoint_id: str, index: bytes, **known: Any) -> str:
        if not tries:
            bench.objects.put(layout.pack_mark_key(old.removeprefix(layout.PACKS)), b"")
        tries.append(checkpoint_id)
        return seal(workload_id, checkpoint_id, index, **known)

    monkeypatch.setattr(bench.store, "seal", seal_while_pruned)
    upload.Upload().run(bench.host, bench.act("ck-2"))
    assert len(tries) == 2
    bench.store.remove("web-1", "ck-1")
    bench.objects.delete(old)
    assert bench.check() == {"ck-2"}


def test_an_undo_leaves_no_checkpoint_and_hurts_no_other(bench: Bench) -> None:
    upload.Upload().run(bench.host, bench.act())
    before = keys(bench.objects)
    upload.Upload().run(bench.host, bench.act("ck-2"))
    for _ in range(2):
        upload.Upload().undo(bench.host, bench.act("ck-2"))
        assert bench.check() == {"ck-1"}
        assert keys(bench.objects) == before


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_the_step_dies_at_each_write_and_is_repeated_or_undone(
    after: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("migrator.storage.chunks.writing.PACK_BYTES", 128 * KIB)
    for number in range(1, 100):
        objects = DyingStore()
        bench = Bench(tmp_path / str(number), objects)
        objects.dies_at, objects.after = objects.changes + number, after
        try:
            upload.Upload().run(bench.host, bench.act())
        except MigratorError:
            objects.dies_at = None
        else:
            break
        assert bench.check() <= {"ck-1"}
        if number % 2:
            upload.Upload().undo(bench.host, bench.act())
            assert bench.check() == set()
            assert not keys(objects, layout.CHECKPOINTS)
        upload.Upload().run(bench.host, bench.act())
        assert bench.check() == {"ck-1"}
        bench.store.chunks.close()
    assert number > 8
