"""What somebody who holds the store can do to it, and what comes of it: a clear refusal, never other bytes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migrator.errors import IntegrityError, MigratorError, PermissionDenied, PreconditionFailed
from migrator.models.descriptors import digest_bytes
from migrator.storage import layout
from migrator.storage.encryption.ring import new_ring
from migrator.storage.encryption.segments import SEGMENT_BYTES
from migrator.storage.encryption.store import EncryptedStore
from migrator.storage.memory import MemoryStore
from migrator.storage.probing import probe_store
from tests.unit.storage.encryption.samples import contents, encrypted

SECRET = b"a page of memory with a password"
REFUSED = {"object_damaged", "data_key_damaged", "size_mismatch", "store_key_unknown"}
ring = new_ring()


def stored(inner: MemoryStore) -> str:
    """The name of the one object."""
    (info,) = inner.scan(layout.ENCRYPTED)
    return info.key


def reads(store: EncryptedStore, key: str, size_bytes: int) -> list[bytes]:
    """All ways to read an object; each gives all of it or fails."""
    found, refusals = [], []
    for read in (lambda: store.get(key, 1 << 30), lambda: b"".join(store.download(key, size_bytes=size_bytes))):
        try:
            found.append(read())
        except MigratorError as error:
            refusals.append(error)
    assert all(error.code in REFUSED and error.remedy for error in refusals), refusals
    return found


def test_neither_names_nor_bytes_are_readable() -> None:
    inner = MemoryStore()
    key = layout.blob_key(digest_bytes(SECRET))
    store = encrypted(inner).session("ck-very-secret-name")
    store.put(key, SECRET)
    store.put("checkpoints/secret-workload/ck-very-secret-name/index.json", SECRET)
    held = b"".join(name.encode() + data for name, data in contents(inner).items())
    for word in (SECRET, key[-64:].encode(), b"secret-workload", b"ck-very-secret-name", b"index.json"):
        assert word not in held
    assert [info.key for info in store.scan("")] == [key, "checkpoints/secret-workload/ck-very-secret-name/index.json"]


def test_equal_objects_do_not_look_alike() -> None:
    inner = MemoryStore()
    store = encrypted(inner)
    store.put("a", SECRET * 100)
    store.put("b", SECRET * 100)
    one, two = (data for name, data in contents(inner).items() if name.startswith(layout.ENCRYPTED))
    assert not any(one[at : at + 16] in two for at in range(24, len(one) - 16, 16))


@settings(deadline=None, max_examples=150)
@given(size_bytes=st.sampled_from([0, 1, 100, SEGMENT_BYTES, SEGMENT_BYTES + 100, 3 * SEGMENT_BYTES]), data=st.data())
def test_any_changed_byte_is_refused(size_bytes: int, data: st.DataObject) -> None:
    inner = MemoryStore()
    encrypted(inner, ring).put("a/b", bytes(size_bytes))
    name = stored(inner)
    raw = bytearray(inner.get(name, 1 << 30))
    raw[data.draw(st.integers(0, len(raw) - 1), "place")] ^= 1 << data.draw(st.integers(0, 7), "bit")
    inner.put(name, bytes(raw))
    assert reads(encrypted(inner, ring), "a/b", size_bytes) == []


@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_cut_lengthened_and_rearranged_objects_are_refused(data: st.DataObject) -> None:
    inner, size_bytes = MemoryStore(), data.draw(st.sampled_from([1, SEGMENT_BYTES, 3 * SEGMENT_BYTES + 5]))
    encrypted(inner, ring).put("a/b", bytes(size_bytes))
    name = stored(inner)
    raw = inner.get(name, 1 << 30)
    body = [raw[at : at + SEGMENT_BYTES + 16] for at in range(56, len(raw), SEGMENT_BYTES + 16)]
    kinds = ["cut", "longer", "drop", "again", *(["swap"] if len(body) > 1 else [])]
    change = data.draw(st.sampled_from(kinds), "change")
    if change == "cut":
        changed = raw[: data.draw(st.integers(0, len(raw) - 1), "length")]
    elif change == "longer":
        changed = raw + data.draw(st.binary(min_size=1, max_size=100), "rest")
    else:
        at = data.draw(st.integers(0, len(body) - 1), "segment")
        if change == "drop":
            body = body[:at] + body[at + 1 :]
        elif change == "again":
            body = body[: at + 1] + body[at:]
        else:
            body[at], body[at - 1] = body[at - 1], body[at]
        changed = raw[:56] + b"".join(body)
    inner.put(name, changed)
    assert reads(encrypted(inner, ring), "a/b", size_bytes) == []


def test_an_object_in_the_place_of_another_is_refused() -> None:
    inner = MemoryStore()
    store = encrypted(inner, ring)
    store.put("a", b"one")
    first = stored(inner)
    store.put("b", b"two")
    (second,) = {info.key for info in inner.scan(layout.ENCRYPTED)} - {first}
    inner.put(second, inner.get(first))
    assert reads(store, "b", 3) == []
    assert reads(store, "a", 3) == [b"one", b"one"]


def test_a_data_key_in_the_place_of_another_is_refused() -> None:
    inner = MemoryStore()
    store = encrypted(inner, ring)
    store.session("ck-1").put("a", b"one")
    first = next(inner.scan(layout.DATA_KEYS)).key
    store.session("ck-2").put("b", b"two")
    (second,) = {info.key for info in inner.scan(layout.DATA_KEYS)} - {first}
    inner.put(second, inner.get(first))
    with pytest.raises(IntegrityError) as caught:
        encrypted(inner, ring).get("b")
    assert caught.value.code == "data_key_damaged"


def test_each_checkpoint_has_a_data_key_and_its_upload_repeated_the_same() -> None:
    inner = MemoryStore()
    for checkpoint_id in ("ck-1", "ck-2", "ck-1"):
        encrypted(inner, ring).session(checkpoint_id).put(f"blobs/{checkpoint_id}", SECRET)
    assert len(list(inner.scan(layout.DATA_KEYS))) == 2


def test_without_its_data_key_an_object_is_gone_for_good() -> None:
    inner = MemoryStore()
    encrypted(inner, ring).session("ck-1").put("a", SECRET)
    inner.delete(next(inner.scan(layout.DATA_KEYS)).key)
    assert reads(encrypted(inner, ring), "a", len(SECRET)) == []


def test_a_ring_of_another_deployment_is_refused_by_every_verb_that_could_believe_the_store_empty() -> None:
    inner = MemoryStore()
    encrypted(inner, ring).put("a", b"1")
    other = encrypted(inner, new_ring())
    for use in (other.probe, lambda: list(other.scan("")), lambda: other.put("a", b"2"), lambda: other.session("ck-1")):
        with pytest.raises(PermissionDenied) as caught:
            use()
        assert caught.value.code == "store_key_unknown"
    assert encrypted(inner, ring).get("a") == b"1"


def test_a_process_without_keys_is_refused_before_it_writes() -> None:
    inner = MemoryStore()
    probe_store(inner)
    store = encrypted(inner, ring)
    probe_store(store)
    probe_store(inner)  # nothing is encrypted there yet
    store.put("a", b"1")
    probe_store(store)
    with pytest.raises(PreconditionFailed) as caught:
        probe_store(inner)
    assert caught.value.code == "store_encrypted"


def test_errors_name_the_key_and_not_its_hidden_form() -> None:
    inner = MemoryStore()
    store = encrypted(inner, ring)
    for use in (lambda: store.get("a/b"), lambda: store.put("a/b", b"", if_absent=True)):
        store.delete("a/b")
        if use is not None:
            with pytest.raises(MigratorError) as caught:
                use()
                use()
            assert "'a/b'" in caught.value.message
            assert layout.ENCRYPTED not in caught.value.message
