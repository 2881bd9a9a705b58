"""The export: an OCI archive, the same bytes every time, never damaged in silence."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
import tracemalloc
from typing import Any

import pytest

from migrator.errors import IntegrityError, NotFound
from migrator.models.descriptors import Descriptor, digest_bytes
from migrator.models.roles import Role
from migrator.storage.archive import export_archive
from migrator.storage.checkpoints import CheckpointStore
from migrator.storage.chunks import cut_by_content
from migrator.storage.directory import DirectoryStore
from migrator.storage.layout import PACKS, blob_key
from migrator.storage.memory import MemoryStore
from migrator.storage.oci import parse_index, with_role
from tests.unit.storage.chunked import index_of, some_bytes, write_one
from tests.unit.storage.samples import LAYER, Sample


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


def test_an_archive_of_a_backup_has_its_parts_whole(objects: MemoryStore) -> None:
    store = CheckpointStore(objects)
    layer, memory = some_bytes(300_000), some_bytes(500_000, 2)
    with store.chunks.writing() as writer:
        written = [
            store.put_chunked(writer, with_role(Descriptor(media_type, "", 0), role), cut_by_content([text]))
            for media_type, role, text in ((LAYER, Role.RW_DIFF, layer), ("application/x-memory", Role.MEMORY, memory))
        ]
    sealed = index_of([store.put_recipe(part)[0] for part in written])
    store.seal("w", "b", sealed)
    archive = b"".join(export_archive(store, "w", "b"))
    assert archive == b"".join(export_archive(CheckpointStore(objects), "w", "b"))
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        files = {member.name: opened.extractfile(member).read() for member in opened}  # type: ignore[union-attr]
    for name, text in files.items():
        assert not name.startswith("blobs/") or hashlib.sha256(text).hexdigest() == name.rpartition("/")[2]
    (top,) = json.loads(files["index.json"])["manifests"]
    index = parse_index(files[blob_key(top["digest"])])
    assert files[blob_key(index.part(Role.MEMORY).digest)] == memory
    assert index.part(Role.RW_DIFF).media_type == f"{LAYER}+gzip"
    assert gzip.decompress(files[blob_key(index.part(Role.RW_DIFF).digest)]) == layer
    assert index.annotations == parse_index(sealed).annotations


def test_a_damaged_chunk_ends_the_export(objects: MemoryStore) -> None:
    store = CheckpointStore(objects)
    store.seal("w", "b", index_of([write_one(store, some_bytes(100_000))]))
    (pack,) = objects.scan(PACKS)
    whole = objects.get(pack.key)
    objects.put(pack.key, whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:])
    with pytest.raises(IntegrityError):
        b"".join(export_archive(CheckpointStore(objects), "w", "b"))
