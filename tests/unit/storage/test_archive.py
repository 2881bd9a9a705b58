"""The export: an OCI archive, the same bytes every time, never damaged in silence."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import tracemalloc
from typing import Any

import pytest

from migrator.errors import IntegrityError, NotFound
from migrator.models.descriptors import digest_bytes
from migrator.storage.archive import export_archive
from migrator.storage.checkpoints import CheckpointStore
from migrator.storage.directory import DirectoryStore
from migrator.storage.memory import MemoryStore
from tests.unit.storage.samples import Sample


@pytest.fixture
def objects() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def store(objects: MemoryStore) -> CheckpointStore:
    store = CheckpointStore(objects)
    Sample().seal(store)
    return store


def test_an_archive_is_an_oci_layout(store: CheckpointStore) -> None:
    with tarfile.open(fileobj=io.BytesIO(b"".join(export_archive(store, "w", "c")))) as archive:
        files = {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]
    assert json.loads(files.pop("oci-layout")) == {"imageLayoutVersion": "1.0.0"}
    (top,) = json.loads(files.pop("index.json"))["manifests"]
    sample = Sample()
    assert (top["digest"], top["size"]) == (digest_bytes(sample.index), len(sample.index))
    assert top["annotations"]["io.containerd.image.name"] == top["annotations"]["org.opencontainers.image.ref.name"]
    assert top["annotations"]["io.containerd.image.name"].endswith("demo:c")
    assert set(files) == {f"blobs/sha256/{digest[7:]}" for digest in [*sample.blobs, top["digest"]]}
    for name, data in files.items():
        assert name == f"blobs/sha256/{hashlib.sha256(data).hexdigest()}"


def test_the_same_checkpoint_gives_the_same_bytes(store: CheckpointStore) -> None:
    elsewhere = CheckpointStore(MemoryStore("elsewhere"))
    Sample().seal(elsewhere)
    assert b"".join(export_archive(store, "w", "c")) == b"".join(export_archive(elsewhere, "w", "c"))


def test_no_bytes_come_of_an_absent_checkpoint(store: CheckpointStore) -> None:
    with pytest.raises(NotFound) as caught:
        export_archive(store, "w", "other")
    assert caught.value.code == "checkpoint_not_found"


def test_damage_ends_the_stream(store: CheckpointStore, objects: MemoryStore) -> None:
    stream = export_archive(store, "w", "c")
    objects.faults.corrupt = True
    with pytest.raises(IntegrityError):
        b"".join(stream)


def test_a_large_checkpoint_is_not_held(tmp_path: Any) -> None:
    store = CheckpointStore(DirectoryStore(tmp_path / "store"))
    sample = Sample(memory=bytes(64 << 20))
    sample.seal(store)
    del sample
    tracemalloc.start()
    try:
        size_bytes = sum(map(len, export_archive(store, "w", "c")))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size_bytes > 64 << 20
    assert peak_bytes < 12 << 20
