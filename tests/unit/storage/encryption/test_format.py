"""The stored bytes: a vector that never changes, and a reader that knows the document alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migrator.storage.encryption.ring import new_ring, read_ring, write_ring
from migrator.storage.encryption.segments import SEGMENT_BYTES, plain_size, stored_size
from migrator.storage.memory import MemoryStore
from tests.unit.storage.encryption.reader import read_object
from tests.unit.storage.encryption.samples import contents, encrypted

VECTOR = json.loads((Path(__file__).parent / "vector.json").read_text())
KEYS = ("oci-layout", "blobs/sha256/" + "5" * 64, "checkpoints/w-1/ck-1/index.json", "a" * 200)


def test_what_was_written_long_ago_is_read() -> None:
    inner = MemoryStore()
    for key, data in VECTOR["objects"].items():
        inner.put(key, bytes.fromhex(data))
    store = encrypted(inner, read_ring(json.dumps(VECTOR["ring"]), "the vector"))
    for key, plain in VECTOR["plain"].items():
        assert store.get(key) == bytes.fromhex(plain)
    assert {info.key for info in store.scan("")} == set(VECTOR["plain"])


def test_the_documents_reader_reads_the_vector() -> None:
    objects = {key: bytes.fromhex(data) for key, data in VECTOR["objects"].items()}
    for key, plain in VECTOR["plain"].items():
        assert read_object(VECTOR["ring"], objects, key) == bytes.fromhex(plain)


@pytest.mark.parametrize("size_bytes", [0, 1, SEGMENT_BYTES - 1, SEGMENT_BYTES, SEGMENT_BYTES + 1, 3 * SEGMENT_BYTES])
@pytest.mark.parametrize("key", KEYS)
def test_the_documents_reader_reads_what_is_written_today(key: str, size_bytes: int) -> None:
    inner, ring = MemoryStore(), new_ring()
    data = bytes(number % 251 for number in range(size_bytes))
    encrypted(inner, ring).session("ck-1").put(key, data)
    assert read_object(json.loads(write_ring(ring)), contents(inner), key) == data


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 2**45))
def test_sizes_can_be_told_from_each_other(size_bytes: int) -> None:
    assert plain_size(stored_size(size_bytes)) == size_bytes
    assert stored_size(size_bytes + 1) > stored_size(size_bytes)


@pytest.mark.parametrize(
    "stored_bytes", [0, 1, 55, 56, 71, stored_size(SEGMENT_BYTES) + 1, stored_size(SEGMENT_BYTES) + 16]
)
def test_sizes_that_no_object_has_count_as_empty(stored_bytes: int) -> None:
    assert plain_size(stored_bytes) == 0
