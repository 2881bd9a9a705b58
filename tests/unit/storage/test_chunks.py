"""Chunked parts: what goes in comes out, what is there is not stored twice, and damage is told from a part."""

from __future__ import annotations

import tarfile
import tracemalloc
from functools import partial
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migrator.errors import IntegrityError, ResourceBusy
from migrator.models.descriptors import Descriptor, digest_bytes
from migrator.models.roles import Role
from migrator.storage import layout
from migrator.storage.checkpoints import CheckpointStore
from migrator.storage.chunks.coding import RAW, ZSTD, PlainCoding, Sampling
from migrator.storage.chunks.format import read_pack_directory
from migrator.storage.directory import DirectoryStore
from migrator.storage.memory import MemoryStore
from migrator.storage.oci import parse_index
from migrator.storage.parts import part_of
from tests.unit.storage.chunked import KIB, MIB, PART, index_of, keys, read, some_bytes, stored_bytes, write, write_one


@pytest.fixture
def objects() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def store(objects: MemoryStore) -> CheckpointStore:
    return CheckpointStore(objects)


@settings(max_examples=40, deadline=None)
@given(
    texts=st.lists(
        st.one_of(
            st.binary(max_size=5000),
            st.builds(lambda size, seed: some_bytes(size, seed), st.integers(0, 300 * KIB), st.integers(0, 3)),
            st.builds(lambda size: bytes(size), st.integers(0, 300 * KIB)),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_whatever_goes_in_comes_out(texts: list[bytes]) -> None:
    objects = MemoryStore()
    for text in texts:
        for with_digest in (False, True):
            part = write_one(CheckpointStore(objects), text, with_digest=with_digest)
            whole, digest = part_of(part), digest_bytes(text) if with_digest else ""
            assert (whole.media_type, whole.digest, whole.size_bytes) == (PART, digest, len(text))
            assert read(CheckpointStore(objects), part) == text


def test_a_part_that_is_not_what_its_digest_says_is_not_written(store: CheckpointStore) -> None:
    part = Descriptor(PART, digest_bytes(b"another"), 0)
    with pytest.raises(IntegrityError) as caught, store.chunks.writing() as writer:
        store.put_chunked(writer, part, [some_bytes(100 * KIB)])
    assert caught.value.code == "digest_mismatch"
    assert list(store.chunks.pack_indexes()) == []


def test_chunks_that_are_named_need_their_bytes_only_where_the_store_lacks_them(store: CheckpointStore) -> None:
    texts = [some_bytes(32 * KIB, seed) for seed in range(40)]
    with store.chunks.writing("job-1") as writer:
        first = writer.add_part(Descriptor(PART, "", 0), texts[:30])
    read_late: list[int] = []

    def late(number: int) -> bytes:
        read_late.append(number)
        return texts[number]

    with store.chunks.writing("job-1", [str(writer.written.index)]) as again:
        named = [
            (again.name(text), len(text), None if number < 10 else partial(late, number))
            for number, text in enumerate(texts)
        ]
        second = again.add_named(Descriptor(PART, "", 0), named)
    assert read_late == list(range(30, 40))
    assert list(store.chunks.read(first)) == texts[:30]
    assert list(store.chunks.read(second)) == texts
    assert again.written.new_chunks == 10 + 1  # and the list


def test_a_chunk_that_is_named_without_its_bytes_must_be_there(store: CheckpointStore) -> None:
    with pytest.raises(IntegrityError) as caught, store.chunks.writing() as writer:
        writer.add_named(Descriptor(PART, "", 0), [(writer.name(b"unheard of"), 10, None)])
    assert caught.value.code == "chunk_missing"
    assert list(store.chunks.pack_indexes()) == []


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_some_bytes_of_a_part_are_read(data: st.DataObject) -> None:
    store, text = CheckpointStore(MemoryStore()), some_bytes(700 * KIB, 5)
    with store.open_part(write_one(store, text)) as file:
        for _ in range(5):
            offset = data.draw(st.integers(0, len(text) + 10))
            length = data.draw(st.integers(0, len(text)))
            file.seek(offset)
            assert file.read(length) == text[offset : offset + length]


def test_a_member_of_a_tar_is_read_without_the_rest(objects: MemoryStore, store: CheckpointStore) -> None:
    out = BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, text in (("pages-1.img", some_bytes(8 * MIB)), ("core-1.img", b"registers")):
            info = tarfile.TarInfo(name)
            info.size = len(text)
            archive.addfile(info, BytesIO(text))
    part = write_one(store, out.getvalue())
    read_bytes = 0
    get_range = objects.get_range

    def count(key: str, offset: int, length: int) -> bytes:
        nonlocal read_bytes
        read_bytes += length
        return get_range(key, offset, length)

    objects.get_range = count  # type: ignore[method-assign]
    with store.open_part(part) as file, tarfile.open(fileobj=file) as archive:
        member = archive.extractfile("core-1.img")
        assert member is not None
        assert member.read() == b"registers"
    assert read_bytes < 4 * MIB


def test_a_plain_part_is_read_by_the_same_calls(store: CheckpointStore) -> None:
    part = Descriptor(PART, digest_bytes(b"plain"), 5)
    store.put_blob(part.digest, 5, [b"plain"])
    assert read(store, part) == b"plain"
    with store.open_part(part) as file:
        file.seek(2)
        assert file.read() == b"ain"


def test_what_is_there_is_not_stored_again(objects: MemoryStore) -> None:
    text = some_bytes(4 * MIB)
    _, first = write(CheckpointStore(objects), {Role.MEMORY: text})
    before = stored_bytes(objects)
    _, second = write(CheckpointStore(objects), {Role.MEMORY: text})
    assert (second.new_chunks, second.stored_bytes) == (0, 0)
    assert stored_bytes(objects) == before
    changed = text[:MIB] + b"inserted" + text[MIB:]
    parts, third = write(CheckpointStore(objects), {Role.MEMORY: changed})
    assert third.new_chunks <= 12
    assert stored_bytes(objects) - before < 200 * KIB
    assert read(CheckpointStore(objects), parts[0]) == changed
    assert first.new_chunks > 60


def test_what_compresses_is_compressed(objects: MemoryStore, store: CheckpointStore) -> None:
    parts, _ = write(store, {Role.MEMORY: b"log line, the same again\n" * 200_000, Role.RW_DIFF: bytes(8 * MIB)})
    assert stored_bytes(objects) < 100 * KIB
    assert read(store, parts[1]) == bytes(8 * MIB)


def test_what_does_not_compress_is_tried_ever_more_seldom_and_what_does_is_found_again(objects: MemoryStore) -> None:
    tried: list[int] = []

    class Counting(PlainCoding):
        def encode(self, chunk: bytes) -> tuple[int, bytes]:
            tried.append(len(chunk))
            return super().encode(chunk)

    sampling = Sampling(Counting())
    for seed in range(1000):
        assert sampling.encode(some_bytes(1000, seed))[0] == RAW
    assert len(tried) < 30
    late = [sampling.encode(bytes(1000))[0] for _ in range(200)]
    assert late.count(ZSTD) > 130
    assert late[-1] == ZSTD


def test_lists_lie_side_by_side(objects: MemoryStore, store: CheckpointStore) -> None:
    part = write_one(store, some_bytes(40 * MIB))
    recipe = store.read_recipe(part)
    assert len(recipe.lists) > 3
    places = sorted(
        (place.pack, place.offset, place.chunk.stored_bytes)
        for place in store.chunks._locations.find(item.name for item in recipe.lists).values()
    )
    assert {pack for pack, _, _ in places} == {places[0][0]}
    for (_, offset, length), (_, after, _) in pairwise(places):
        assert offset + length == after


def test_packs_are_of_a_moderate_size_and_tell_what_they_hold(objects: MemoryStore, store: CheckpointStore) -> None:
    write(store, {Role.MEMORY: some_bytes(40 * MIB)})
    packs = list(objects.scan(layout.PACKS))
    assert len(packs) == 4
    assert all(pack.size_bytes < 13 * MIB for pack in packs)
    (index,) = store.chunks.pack_indexes()
    for pack in index.packs:
        assert read_pack_directory(pack.name, objects.get(layout.pack_key(pack.name), 16 * MIB)) == pack


def test_a_changed_byte_anywhere_is_refused(objects: MemoryStore) -> None:
    """Every object in turn: a bit is turned at its beginning, in its middle and at its end."""
    text = some_bytes(600 * KIB) + bytes(100 * KIB)
    part = write_one(CheckpointStore(objects), text)
    for key in keys(objects):
        whole = objects.get(key)
        for place in {0, len(whole) // 3, len(whole) - 1}:
            objects.put(key, whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            with _refusal_or(text) as told:
                told.append(read(CheckpointStore(objects), part))
        objects.put(key, whole)
    assert read(CheckpointStore(objects), part) == text


class _refusal_or:  # noqa: N801 - reads as a phrase
    """Either the bytes are refused, or they are right: a directory at a pack's end is not needed for reading."""

    def __init__(self, text: bytes):
        self._text = text
        self._told: list[bytes] = []

    def __enter__(self) -> list[bytes]:
        return self._told

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> bool:
        if error is not None:
            return isinstance(error, IntegrityError)
        assert self._told == [self._text]
        return False


@pytest.mark.parametrize("gone", [layout.PACKS, layout.PACK_INDEXES])
def test_what_is_gone_is_told(objects: MemoryStore, gone: str) -> None:
    part = write_one(CheckpointStore(objects), some_bytes(100 * KIB))
    for key in keys(objects, gone):
        objects.delete(key)
    with pytest.raises(IntegrityError) as caught:
        read(CheckpointStore(objects), part)
    assert caught.value.code == "chunk_missing"
    assert caught.value.remedy


def test_a_chunk_is_read_from_another_pack_if_its_own_is_gone_or_damaged(objects: MemoryStore) -> None:
    text = some_bytes(300 * KIB)
    part = write_one(CheckpointStore(objects), text)
    (first,) = keys(objects, layout.PACKS)
    objects.put(layout.pack_mark_key(first.removeprefix(layout.PACKS)), b"")
    _, again = write(CheckpointStore(objects), {Role.MEMORY: text, Role.RW_DIFF: b"another pack"})
    assert again.new_chunks > 5
    for damage in (lambda: objects.put(first, bytes(len(objects.get(first)))), lambda: objects.delete(first)):
        damage()
        assert read(CheckpointStore(objects), part) == text


def test_the_cache_may_be_damaged_lost_or_stale(objects: MemoryStore, tmp_path: Path) -> None:
    cache = tmp_path / "deep" / "chunks.sqlite"
    known = CheckpointStore(objects, chunk_cache=cache)
    part = write_one(known, some_bytes(200 * KIB))
    known.chunks.close()
    other = write_one(CheckpointStore(objects), some_bytes(300 * KIB, 9))
    known = CheckpointStore(objects, chunk_cache=cache)
    assert read(known, other) == some_bytes(300 * KIB, 9)
    for damage in (b"", b"not a database, but longer than its header would be" * 100, None):
        known.chunks.close()
        cache.unlink() if damage is None else cache.write_bytes(damage)
        known = CheckpointStore(objects, chunk_cache=cache)
        assert read(known, part) == some_bytes(200 * KIB)
    assert cache.stat().st_mode & 0o077 == 0


def test_pack_indexes_may_be_joined_meanwhile(objects: MemoryStore) -> None:
    reader = CheckpointStore(objects)
    parts = [write_one(reader, some_bytes(100 * KIB, seed)) for seed in range(3)]
    indexes = list(reader.chunks.pack_indexes())
    reader.chunks.put_pack_index([pack for index in indexes for pack in index.packs])
    for index in indexes:
        objects.delete(layout.pack_index_key(index.name))
    for seed, part in enumerate(parts):
        assert read(CheckpointStore(objects), part) == some_bytes(100 * KIB, seed)
        assert read(reader, part) == some_bytes(100 * KIB, seed)
    reader.chunks.refresh()
    assert read(reader, parts[0]) == some_bytes(100 * KIB, 0)


def test_a_seal_relies_on_no_pack_that_goes_or_is_gone(objects: MemoryStore) -> None:
    store = CheckpointStore(objects)
    parts, _ = write(store, {Role.MEMORY: some_bytes(100 * KIB)})
    (pack,) = store.chunks.packs_of(store.recipes(parse_index(index_of(parts))))
    objects.put(layout.pack_mark_key(pack), b"")
    with pytest.raises(ResourceBusy, match="missing") as caught:
        store.seal("w", "c", index_of(parts))
    assert caught.value.code == "blob_missing"
    assert list(store.sealed()) == []
    parts, again = write(store, {Role.MEMORY: some_bytes(100 * KIB)})
    assert again.new_chunks > 0
    store.seal("w", "c", index_of(parts))
    objects.delete(layout.pack_key(pack))
    assert read(CheckpointStore(objects), parts[0]) == some_bytes(100 * KIB)


def test_a_mark_that_comes_while_the_index_is_written_takes_the_index_away(objects: MemoryStore) -> None:
    store = CheckpointStore(objects)
    parts, _ = write(store, {Role.MEMORY: some_bytes(100 * KIB)})
    (pack,) = keys(objects, layout.PACKS)
    put = objects.put

    def mark_then_put(key: str, data: bytes, *, if_absent: bool = False) -> None:
        if key.startswith(layout.CHECKPOINTS):
            put(layout.pack_mark_key(pack.removeprefix(layout.PACKS)), b"")
        put(key, data, if_absent=if_absent)

    objects.put = mark_then_put  # type: ignore[method-assign]
    with pytest.raises(ResourceBusy):
        store.seal("w", "c", index_of(parts))
    assert list(store.sealed()) == []


def test_memory_stays_bounded_however_long_the_part(tmp_path: Path) -> None:
    store, block = CheckpointStore(DirectoryStore(tmp_path)), some_bytes(MIB)
    tracemalloc.start()
    try:
        with store.chunks.writing() as writer:
            cut = (number.to_bytes(8, "big") + block[8 : 64 * KIB] for number in range(1600))
            written = store.put_chunked(writer, Descriptor(PART, "", 0), cut)
        part, _ = store.put_recipe(written)
        read_bytes = sum(len(piece) for piece in store.read_part(part))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert read_bytes == 1600 * 64 * KIB
    assert peak_bytes < 80 * MIB
