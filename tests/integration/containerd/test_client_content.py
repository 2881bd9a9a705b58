"""The content store: blobs read and written as streams, and ingests that were broken off."""

import hashlib
import os
import threading
import time
from contextlib import suppress

import pytest

from migrator.containerd import Resource, ingest
from migrator.errors import IntegrityError, InvalidRequest, NotFound, ResourceBusy, ResourceExhausted
from tests.integration.containerd.conftest import collect

pytestmark = pytest.mark.real
MIB = 1 << 20
BLOBS = "var/lib/containerd/io.containerd.content.v1.content/blobs/sha256"
NOWHERE = "sha256:" + "0" * 64


def digest_of(data):
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def cut(data, size):
    return [data[start : start + size] for start in range(0, len(data), size)]


def never():
    raise AssertionError("not one byte had to be sent")
    yield b""


@pytest.fixture(scope="module")
def data():
    return os.urandom(3 * MIB + 5)


@pytest.fixture
def blob(leased, data, new_name):
    return leased.content.write(new_name(), cut(data, 700_001), size_bytes=len(data), media_type="x/y").digest


@pytest.fixture
def stale(leased, new_name):
    """An ingest whose writer died in the middle: its ref, the bytes, and how many of them arrived."""
    ref, data = new_name(), os.urandom(8 * MIB)

    def dies():
        yield from cut(data, MIB)[:7]
        raise RuntimeError("the writer dies")

    with pytest.raises(RuntimeError):
        leased.content.write(ref, dies(), size_bytes=len(data), digest=digest_of(data))
    yield ref, data, leased.content.status(ref).offset_bytes
    with suppress(NotFound):
        leased.content.abort(ref)


class Held:
    """A writer that stands in the middle of a blob until it is let go."""

    def __init__(self, client, ref, data):
        self.reached, self.go = threading.Event(), threading.Event()
        self.done = []
        self.thread = threading.Thread(target=self._write, args=(client, ref, data))
        self.thread.start()
        assert self.reached.wait(10)

    def _write(self, client, ref, data):
        self.done.append(client.content.write(ref, self._slow(data), size_bytes=len(data), digest=digest_of(data)))

    def _slow(self, data):
        pieces = cut(data, MIB)
        yield from pieces[:-1]
        self.reached.set()
        assert self.go.wait(10)
        yield pieces[-1]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.go.set()
        self.thread.join(10)


# ---- blobs


def test_what_is_written_in_odd_pieces_is_read_in_even_ones(client, blob, data):
    assert blob == digest_of(data)
    read = list(client.content.read(blob))
    assert b"".join(read) == data
    assert max(map(len, read)) <= MIB
    assert client.content.read_all(blob) == data


@pytest.mark.parametrize(
    ("offset", "size"), [(0, 1), (5, 0), (MIB - 1, 2), (MIB, MIB + 7), (3 * MIB, 9), (3 * MIB + 4, 0), (3 * MIB + 5, 0)]
)
def test_a_part_of_a_blob(client, blob, data, offset, size):
    end = offset + size if size else len(data)
    assert b"".join(client.content.read(blob, offset, size)) == data[offset:end]


def test_what_lies_behind_a_blob_is_refused(client, blob):
    with pytest.raises(InvalidRequest) as caught:
        list(client.content.read(blob, 3 * MIB + 6))
    assert caught.value.code == "content_invalid"


def test_reading_may_stop_early(client, blob, data):
    stream = client.content.read(blob)
    assert data.startswith(next(stream))
    stream.close()
    assert client.content.read_all(blob) == data


def test_an_empty_blob(leased, client, new_name):
    written = leased.content.write(new_name(), [], size_bytes=0)
    assert (written.digest, written.size_bytes) == (digest_of(b""), 0)
    assert client.content.read_all(written.digest) == b""
    assert list(client.content.read(written.digest)) == []


def test_info_tells_size_labels_and_times(leased, client):
    before = time.time()
    written = leased.content.write_bytes(os.urandom(11), media_type="x/y", labels={"a": "1"})
    found = client.content.info(written.digest)
    assert (found.digest, found.size_bytes, found.labels) == (written.digest, 11, {"a": "1"})
    assert before - 1 < found.created_at.timestamp() <= found.updated_at.timestamp() < time.time() + 1


def test_list_takes_filters(leased, client, new_name):
    app = new_name()
    one, two, three = (
        leased.content.write_bytes(os.urandom(8), media_type="", labels={"app": app, "n": n}).digest for n in "123"
    )
    assert {found.digest for found in client.content.list(f"labels.app=={app}")} == {one, two, three}
    assert {found.digest for found in client.content.list(f"labels.app=={app},labels.n==2")} == {two}
    either = client.content.list(f"labels.app=={app},labels.n==1", f"digest=={three}")
    assert {found.digest for found in either} == {one, three}
    assert {one, two, three} <= {found.digest for found in client.content.list()}


def test_labels_are_set_one_by_one(leased, client):
    digest = leased.content.write_bytes(os.urandom(8), media_type="", labels={"a": "1", "b": "2"}).digest
    assert client.content.update_labels(digest, {"b": "3", "c/d.e": "4"}).labels == {"a": "1", "b": "3", "c/d.e": "4"}
    client.content.update_labels(digest, {"a": "", "b": ""})
    assert client.content.info(digest).labels == {"c/d.e": "4"}


def test_delete_takes_it_out_of_this_namespace_alone(leased, client, blob, new_name):
    other = client.with_namespace(new_name())
    with other.lease() as there:
        there.content.write(new_name(), never(), size_bytes=client.content.info(blob).size_bytes, digest=blob)
        client.content.delete(blob)
        assert not client.content.exists(blob)
        assert digest_of(other.content.read_all(blob)) == blob
    with pytest.raises(NotFound) as caught:
        client.content.delete(blob)
    assert caught.value.code == "content_not_found"


def test_a_blob_of_another_namespace_is_not_seen_without_being_written(client, blob, new_name):
    other = client.with_namespace(new_name())
    assert not other.content.exists(blob)
    with pytest.raises(NotFound):
        other.content.read_all(blob)


@pytest.mark.parametrize(
    "ask",
    [
        lambda content: content.info(NOWHERE),
        lambda content: list(content.read(NOWHERE)),
        lambda content: list(content.read(NOWHERE, 0, 1)),
        lambda content: content.read_all(NOWHERE),
        lambda content: content.update_labels(NOWHERE, {"a": "b"}),
        lambda content: content.delete(NOWHERE),
    ],
    ids=["info", "read", "read a part", "read_all", "update_labels", "delete"],
)
def test_a_blob_that_is_not_there(client, ask):
    with pytest.raises(NotFound) as caught:
        ask(client.content)
    assert caught.value.code == "content_not_found"
    assert NOWHERE in caught.value.message


def test_a_large_blob_is_not_read_at_once(client, blob):
    with pytest.raises(ResourceExhausted) as caught:
        client.content.read_all(blob, limit_bytes=MIB)
    assert caught.value.code == "content_too_large"


def test_a_blob_that_rotted_on_disk_is_told(host, leased, client):
    digest = leased.content.write_bytes(os.urandom(100), media_type="").digest
    file = host.root / BLOBS / digest.removeprefix("sha256:")
    file.chmod(0o644)
    file.write_bytes(os.urandom(100))
    with pytest.raises(IntegrityError) as caught:
        client.content.read_all(digest)
    assert caught.value.code == "content_damaged"


# ---- writing


def test_what_is_there_is_not_sent_again_and_gets_the_labels(client, leased, blob, data, new_name):
    written = leased.content.write(new_name(), never(), size_bytes=len(data), digest=blob, labels={"again": "yes"})
    assert written.digest == blob
    assert client.content.info(blob).labels["again"] == "yes"
    assert not client.content.ingests()


def test_without_a_digest_what_is_there_is_fine_too(client, leased, blob, data, new_name):
    written = leased.content.write(new_name(), [data], size_bytes=len(data), labels={"twice": "yes"})
    assert written.digest == blob
    assert client.content.info(blob).labels["twice"] == "yes"
    assert not client.content.ingests()


@pytest.mark.parametrize("more", [-1, 1, MIB])
def test_a_blob_of_another_length_is_refused_and_nothing_kept(client, leased, new_name, more):
    data = os.urandom(2 * MIB)
    with pytest.raises(IntegrityError) as caught:
        leased.content.write(new_name(), [data], size_bytes=len(data) + more, digest=digest_of(data))
    assert caught.value.code == "content_mismatch"
    assert not client.content.exists(digest_of(data))
    assert not client.content.ingests()


def test_a_blob_of_another_digest_is_refused_and_nothing_kept(client, leased, new_name):
    data, claimed = os.urandom(2 * MIB), digest_of(os.urandom(8))
    with pytest.raises(IntegrityError) as caught:
        leased.content.write(new_name(), [data], size_bytes=len(data), digest=claimed)
    assert caught.value.code == "content_mismatch"
    assert claimed in caught.value.message
    assert not client.content.exists(claimed)
    assert not client.content.exists(digest_of(data))
    assert not client.content.ingests()


def test_a_wrong_length_of_another_namespaces_blob_is_refused(client, blob, data, new_name):
    other = client.with_namespace(new_name())
    with other.lease() as there:
        with pytest.raises(IntegrityError) as caught:
            there.content.write(new_name(), [data[:-1]], size_bytes=len(data) - 1, digest=blob)
        assert caught.value.code == "content_mismatch"
        assert not there.content.exists(blob)
        assert not there.content.ingests()


def test_what_was_there_before_is_under_the_new_lease_too(client, blob, data, new_name):
    for digest in (blob, None):
        with client.lease() as another:
            another.content.write(new_name(), [data], size_bytes=len(data), digest=digest)
            assert Resource(blob, "content") in client.leases.list_resources(another.lease_id)


def test_a_source_that_fails_leaves_no_ingest(client, leased, new_name):
    def fails():
        yield os.urandom(MIB)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        leased.content.write(new_name(), fails(), size_bytes=2 * MIB)
    assert not client.content.ingests()


# ---- ingests


def test_an_ingest_under_way_is_listed(client, leased, new_name):
    ref, data = new_name(), os.urandom(7 * MIB)
    with Held(leased, ref, data):
        found = client.content.status(ref)
        assert found.ref == ref
        assert 0 < found.offset_bytes < len(data)
        assert found.started_at <= found.updated_at
        assert [one.ref for one in client.content.ingests()] == [ref]
        assert [one.ref for one in client.content.ingests(f"ref=={ref}")] == [ref]
        assert not client.content.ingests("ref==another")
        assert not client.content.exists(digest_of(data))
    assert client.content.exists(digest_of(data))
    with pytest.raises(NotFound) as caught:
        client.content.status(ref)
    assert caught.value.code == "ingest_not_found"


def test_a_ref_has_one_writer(client, leased, new_name, monkeypatch):
    monkeypatch.setattr(ingest, "LOCK_PATIENCE_S", 0.2)
    ref, data = new_name(), os.urandom(6 * MIB)
    with Held(leased, ref, data) as first:
        with pytest.raises(ResourceBusy) as caught:
            leased.content.write(ref, [b"x"], size_bytes=1)
        assert caught.value.code == "ingest_locked"
        assert ref in caught.value.message
    assert first.done[0].digest == digest_of(data)


def test_a_second_writer_waits_for_the_first(leased, new_name):
    ref, data = new_name(), os.urandom(6 * MIB)
    with Held(leased, ref, data) as first:
        threading.Timer(0.5, first.go.set).start()
        second = leased.content.write(ref, never(), size_bytes=len(data), digest=digest_of(data))
    assert second.digest == first.done[0].digest == digest_of(data)


def test_a_stale_ingest_is_continued_from_where_it_stands(client, leased, stale):
    ref, data, reached = stale
    assert reached == 7 * MIB
    written = leased.content.write(
        ref, [data[reached:]], size_bytes=len(data), digest=digest_of(data), offset_bytes=reached
    )
    assert written.digest == digest_of(data)
    assert client.content.read_all(written.digest) == data


def test_a_stale_ingest_is_continued_without_knowing_the_digest(client, leased, stale):
    ref, data, reached = stale
    written = leased.content.write(ref, [data[reached:]], size_bytes=len(data), offset_bytes=reached)
    assert written.digest == digest_of(data)
    assert client.content.exists(written.digest)


def test_a_stale_ingest_is_written_anew(client, leased, stale):
    ref, *_ = stale
    other = os.urandom(2 * MIB)
    assert leased.content.write(ref, [other], size_bytes=len(other)).digest == digest_of(other)
    assert client.content.read_all(digest_of(other)) == other


def test_a_stale_ingest_that_is_whole_needs_no_more_bytes(client, leased, new_name):
    ref, data = new_name(), os.urandom(MIB)

    def dies_at_the_end():
        yield data
        while client.content.status(ref).offset_bytes < len(data):
            time.sleep(0.01)
        raise RuntimeError("the writer dies")

    with pytest.raises(RuntimeError):
        leased.content.write(ref, dies_at_the_end(), size_bytes=len(data), digest=digest_of(data))
    written = leased.content.write(ref, never(), size_bytes=len(data), digest=digest_of(data))
    assert client.content.read_all(written.digest) == data


def test_a_stale_ingest_is_not_continued_from_elsewhere_and_stays(client, leased, stale):
    ref, data, reached = stale
    with pytest.raises(InvalidRequest) as caught:
        leased.content.write(ref, never(), size_bytes=len(data), digest=digest_of(data), offset_bytes=reached - 1)
    assert caught.value.code == "ingest_offset"
    assert str(reached) in caught.value.message
    assert client.content.status(ref).offset_bytes == reached


def test_abort_throws_a_stale_ingest_away(client, stale):
    ref, *_ = stale
    client.content.abort(ref)
    assert not client.content.ingests()
    with pytest.raises(NotFound) as caught:
        client.content.abort(ref)
    assert caught.value.code == "ingest_not_found"


def test_a_stale_ingest_under_a_lease_survives_the_collector(client, leased, stale):
    ref, _, reached = stale
    collect(client)
    assert client.content.status(ref).offset_bytes == reached
