"""What every object store must do, whatever it is made of."""

from __future__ import annotations

import random
import threading
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from migrator.errors import AlreadyExists, Cancelled, IntegrityError, NotFound
from migrator.models.descriptors import digest_bytes
from migrator.storage.store import ObjectStore
from tests.contract.storage.benches import Bench

MIB = 1 << 20
SIZES = [0, 1, 5, MIB, 8 * MIB - 1, 8 * MIB, 8 * MIB + 1, 21 * MIB + 7]
WRITERS = 8


def some_bytes(size_bytes: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size_bytes)


def chunked(data: bytes, chunk_bytes: int = 1_000_003) -> Iterator[bytes]:
    for start in range(0, len(data), chunk_bytes):
        yield data[start : start + chunk_bytes]


def upload(store: ObjectStore, key: str, data: bytes) -> None:
    store.upload(key, chunked(data), size_bytes=len(data), digest=digest_bytes(data))


def keys(store: ObjectStore, prefix: str = "") -> list[str]:
    return [info.key for info in store.scan(prefix)]


def test_a_store_that_can_be_used_says_so_and_keeps_nothing(bench: Bench) -> None:
    bench.store.probe()
    bench.store.probe()
    assert keys(bench.store) == []
    assert bench.unfinished() == []


def test_what_was_put_is_got(store: ObjectStore) -> None:
    store.put("a/b", b"first")
    store.put("a/b", b"second")
    assert store.get("a/b") == b"second"
    found = store.head("a/b")
    assert found is not None
    assert (found.key, found.size_bytes) == ("a/b", 6)
    assert abs(datetime.now(UTC) - found.modified_at) < timedelta(minutes=1)


@pytest.mark.parametrize("size_bytes", [0, 5, 8 * MIB + 1, 12 * MIB])
def test_what_is_put_with_its_digest_is_got(store: ObjectStore, size_bytes: int) -> None:
    data = bytearray(some_bytes(size_bytes))
    store.put_hashed("a/b", data, digest_bytes(bytes(data)))
    assert b"".join(store.download("a/b", size_bytes=size_bytes)) == data


def test_an_absent_object(store: ObjectStore) -> None:
    assert store.head("a/b") is None
    store.delete("a/b")
    for read in (lambda: store.get("a/b"), lambda: list(store.download("a/b", size_bytes=3))):
        with pytest.raises(NotFound, match="a/b") as caught:
            read()
        assert caught.value.code == "object_not_found"
        assert caught.value.remedy


def test_get_refuses_what_is_long(store: ObjectStore) -> None:
    store.put("a", b"12345")
    assert store.get("a", 5) == b"12345"
    with pytest.raises(IntegrityError) as caught:
        store.get("a", 4)
    assert caught.value.code == "object_too_large"


def test_put_if_absent_keeps_the_first(store: ObjectStore) -> None:
    store.put("a", b"first", if_absent=True)
    with pytest.raises(AlreadyExists) as caught:
        store.put("a", b"second", if_absent=True)
    assert caught.value.code == "object_exists"
    assert store.get("a") == b"first"
    store.delete("a")
    store.put("a", b"third", if_absent=True)
    assert store.get("a") == b"third"


def test_of_many_writers_one_wins(store: ObjectStore) -> None:
    start = threading.Barrier(WRITERS)

    def write(name: bytes) -> bytes | None:
        start.wait(10)
        try:
            store.put("race", name, if_absent=True)
        except AlreadyExists:
            return None
        return name

    with ThreadPoolExecutor(WRITERS) as pool:
        winners = [name for name in pool.map(write, [b"%d" % n for n in range(WRITERS)]) if name]
    assert winners == [store.get("race")]


@pytest.mark.parametrize("size_bytes", SIZES)
def test_an_object_of_any_size_goes_and_comes_back(bench: Bench, size_bytes: int) -> None:
    data, sent, received = some_bytes(size_bytes), [0], [0]
    lock = threading.Lock()

    def count(into: list[int], done_bytes: int) -> None:
        with lock:
            into[0] += done_bytes

    bench.store.upload(
        "blob",
        chunked(data),
        size_bytes=size_bytes,
        digest=digest_bytes(data),
        on_progress=lambda done_bytes: count(sent, done_bytes),
    )
    pieces = bench.store.download(
        "blob", size_bytes=size_bytes, on_progress=lambda done_bytes: count(received, done_bytes)
    )
    assert b"".join(pieces) == data
    assert (sent, received) == ([size_bytes], [size_bytes])
    assert bench.unfinished() == []


@pytest.mark.parametrize("size_bytes", [100, 20 * MIB])
@pytest.mark.parametrize("fault", ["bytes", "shorter", "longer"])
def test_bytes_that_are_not_as_announced_are_never_visible(bench: Bench, size_bytes: int, fault: str) -> None:
    data = some_bytes(size_bytes)
    sent = {"bytes": b"x" + data[1:], "shorter": data[:-1], "longer": data + b"x"}[fault]
    assert sent != data
    with pytest.raises(IntegrityError, match="blob") as caught:
        bench.store.upload("blob", chunked(sent), size_bytes=size_bytes, digest=digest_bytes(data))
    assert caught.value.code == ("digest_mismatch" if fault == "bytes" else "size_mismatch")
    assert bench.store.head("blob") is None
    assert bench.unfinished() == []


@pytest.mark.parametrize(
    "error", [FileNotFoundError("gone"), FileExistsError("there"), OSError("bad"), Cancelled("no")]
)
def test_a_source_that_fails_is_heard_and_leaves_nothing(bench: Bench, error: Exception) -> None:
    def chunks() -> Iterator[bytes]:
        yield some_bytes(12 * MIB)
        raise error

    with pytest.raises(type(error)) as caught:
        bench.store.upload("blob", chunks(), size_bytes=20 * MIB, digest=digest_bytes(b""))
    assert caught.value is error
    assert bench.store.head("blob") is None
    assert bench.unfinished() == []


def test_progress_may_stop_an_upload(bench: Bench) -> None:
    data = some_bytes(30 * MIB)

    def stop(_done_bytes: int) -> None:
        raise Cancelled("told to stop")

    with pytest.raises(Cancelled):
        bench.store.upload("blob", chunked(data), size_bytes=len(data), digest=digest_bytes(data), on_progress=stop)
    assert bench.store.head("blob") is None
    assert bench.unfinished() == []


def test_progress_may_stop_a_download(store: ObjectStore) -> None:
    data = some_bytes(20 * MIB)
    upload(store, "blob", data)

    def stop(_done_bytes: int) -> None:
        raise Cancelled("told to stop")

    with pytest.raises(Cancelled):
        list(store.download("blob", size_bytes=len(data), on_progress=stop))


def test_a_reader_may_leave_early(store: ObjectStore) -> None:
    data = some_bytes(40 * MIB)
    upload(store, "blob", data)
    before = threading.active_count()
    pieces = store.download("blob", size_bytes=len(data))
    assert data.startswith(next(pieces))
    pieces.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


@pytest.mark.parametrize("size_bytes", [100, 20 * MIB])
@pytest.mark.parametrize("change_bytes", [-1, 1])
def test_an_object_of_another_length_is_refused(bench: Bench, size_bytes: int, change_bytes: int) -> None:
    data = some_bytes(size_bytes)
    upload(bench.store, "blob", data)
    bench.overwrite("blob", data[:-1] if change_bytes < 0 else data + b"x")
    with pytest.raises(IntegrityError, match="blob") as caught:
        list(bench.store.download("blob", size_bytes=size_bytes))
    assert caught.value.code == "size_mismatch"


@pytest.mark.parametrize("size_bytes", [1, 100, 9 * MIB])
def test_a_range_of_an_object_is_read(store: ObjectStore, size_bytes: int) -> None:
    data = some_bytes(size_bytes)
    upload(store, "blob", data)
    for offset, length in ((0, size_bytes), (0, 1), (size_bytes - 1, 1), (size_bytes // 3, size_bytes // 2), (0, 0)):
        assert store.get_range("blob", offset, length) == data[offset : offset + length]


def test_a_range_that_is_not_there_is_refused(store: ObjectStore) -> None:
    store.put("blob", b"12345")
    for offset, length in ((0, 6), (4, 2), (5, 1), (9, 3)):
        with pytest.raises(IntegrityError, match="blob") as caught:
            store.get_range("blob", offset, length)
        assert caught.value.code == "size_mismatch"
    for length in (0, 3):
        with pytest.raises(NotFound, match="absent") as missing:
            store.get_range("absent", 0, length)
        assert missing.value.code == "object_not_found"


def test_objects_are_listed_by_prefix_and_key(store: ObjectStore) -> None:
    for key in ("b/2", "b/1", "bb", "a/x/y", "b/3/z"):
        store.put(key, key.encode())
    assert keys(store) == ["a/x/y", "b/1", "b/2", "b/3/z", "bb"]
    assert keys(store, "b/") == ["b/1", "b/2", "b/3/z"]
    assert keys(store, "b") == ["b/1", "b/2", "b/3/z", "bb"]
    assert keys(store, "c/") == []
    assert [info.size_bytes for info in store.scan("a/")] == [5]


def test_more_objects_than_one_page_are_listed(store: ObjectStore) -> None:
    names = sorted(f"many/{number}" for number in range(1_050))
    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(lambda key: store.put(key, b""), names))
    assert keys(store, "many/") == names


def test_deleting_leaves_the_neighbours(store: ObjectStore) -> None:
    for key in ("a/b/c", "a/d"):
        store.put(key, b"x")
    store.delete("a/b/c")
    store.delete("a/b/c")
    assert keys(store) == ["a/d"]
    store.put("a/b/c", b"y")
    assert store.get("a/b/c") == b"y"


def test_writers_and_removers_of_neighbours_do_not_meet(store: ObjectStore) -> None:
    def come_and_go(name: int) -> None:
        for _ in range(15):
            store.put(f"shared/{name}/index.json", b"x")
            store.delete(f"shared/{name}/index.json")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(come_and_go, [0, 0, 1, 2]))
    assert keys(store) == []


@pytest.mark.parametrize(
    "key", ["../x", "/x", "a//b", "a/../b", "a/./b", "", "a/", ".hidden", "a\nb", "a/é", "a" * 300]
)
def test_only_plain_keys_are_taken(store: ObjectStore, key: str) -> None:
    for use in (
        lambda: store.put(key, b""),
        lambda: store.get(key),
        lambda: store.head(key),
        lambda: store.delete(key),
    ):
        with pytest.raises(Exception, match="key") as caught:
            use()
        assert getattr(caught.value, "code", "") == "bad_key"


def test_what_a_killed_upload_left_is_swept_when_it_is_old(bench: Bench) -> None:
    if not bench.leaves_uploads:
        assert bench.store.abort_uploads("", 0) == []
        return
    bench.leave_upload("blobs/x")
    bench.store.put("blobs/y", b"y")
    (left,) = bench.unfinished()
    assert keys(bench.store) == ["blobs/y"]
    assert bench.store.abort_uploads("blobs/", 3600) == []
    assert bench.store.abort_uploads("other/", 0) == []
    assert bench.unfinished() == [left]
    assert bench.store.abort_uploads("blobs/", 0) == ["blobs/x"]
    assert bench.unfinished() == []
    assert keys(bench.store) == ["blobs/y"]


@pytest.mark.parametrize(
    "bench", ["directory", pytest.param("s3", marks=pytest.mark.servers), "encrypted directory"], indirect=True
)
def test_memory_stays_bounded(bench: Bench) -> None:
    piece, count = some_bytes(MIB), 128
    digest = digest_bytes(piece * count)
    tracemalloc.start()
    try:
        bench.store.upload("blob", (bytes(piece) for _ in range(count)), size_bytes=count * MIB, digest=digest)
        for _ in bench.store.download("blob", size_bytes=count * MIB):
            pass
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 96 * MIB


def test_a_place_is_no_object(store: ObjectStore) -> None:
    store.put("a/b", b"x")
    assert store.head("a") is None


def test_two_stores_see_the_same_objects(bench: Bench, store: ObjectStore) -> None:
    store.put("a", b"1")
    bench.overwrite("a", b"22")
    found = store.head("a")
    assert found is not None
    assert found.size_bytes == 2
