"""What lies in the store beside checkpoints: encrypted objects, their keys and names, signatures, a prune's notes."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import strategies as st

from migrator.errors import Cancelled, IntegrityError, NotFound, PermissionDenied, ResourceBusy
from migrator.storage import layout
from migrator.storage.encryption.data_keys import DataKey, DataKeys, data_key_path, unwrap, wrap
from migrator.storage.encryption.names import NameCipher
from migrator.storage.encryption.ring import new_ring
from migrator.storage.encryption.segments import Header, parse_header
from migrator.storage.encryption.signatures import Signatures
from migrator.storage.encryption.store import ENCRYPTED, EncryptedStore
from migrator.storage.memory import MemoryStore
from migrator.storage.prune.notes import PruneLock, doomed_blobs
from tests.fuzz.mutation import mutated, mutated_document
from tests.fuzz.target import Target
from tests.unit.storage.encryption.samples import source_of

RING = new_ring()
SOURCE = source_of(RING)
KEY = DataKey(b"k" * 16, b"s" * 32)
OBJECT = "blobs/sha256/" + "0" * 64
PLAIN = b"what a container had in its memory" * 3000
CIPHER = NameCipher(RING.names_key)
HIDDEN = CIPHER.hide(OBJECT)
PEOPLE = ("web-23456789ab", "ck-23456789ab", "sha256:" + "1" * 64)
SIGNATURES = Signatures(SOURCE)


def _written() -> MemoryStore:
    objects = MemoryStore()
    EncryptedStore(objects, SOURCE).put(OBJECT, PLAIN)
    return objects


STORE = _written()
STORED = STORE.get(ENCRYPTED + HIDDEN)
MARK = STORE.get(layout.RING_MARK)
RECORD = wrap(KEY, RING.active)
SIGNATURE = SIGNATURES.sign(*PEOPLE)
DOOMED = f"sha256:{'0' * 64}\nsha256:{'1' * 64}\n".encode()
LOCK = json.dumps(
    {"holder": "prn-1", "token": "1", "until": (datetime.now(UTC) + timedelta(days=9)).isoformat()}
).encode()


def _read_object(data: bytes, _: Path) -> object:
    """Whole, by a range, and as it flows; what was not changed comes out as it went in."""
    objects = MemoryStore()
    for info in STORE.scan(""):
        objects.put(info.key, STORE.get(info.key))
    objects.put(ENCRYPTED + HIDDEN, data)
    store = EncryptedStore(objects, SOURCE)
    for read in (store.get(OBJECT), b"".join(store.download(OBJECT, size_bytes=len(PLAIN)))):
        assert read == PLAIN, "changed bytes were taken"
    return store.get_range(OBJECT, 70_000, 10), store.data_keys_used()


def _read_record(data: bytes, _: Path) -> object:
    assert unwrap(data, KEY.id, RING, "ring").secret == KEY.secret, "another key was taken"
    objects = MemoryStore()
    objects.put(data_key_path(KEY.id), data)
    return DataKeys(objects, SOURCE).rewrap(KEY.id, RING)


def _read_mark(data: bytes, _: Path) -> object:
    objects = MemoryStore()
    objects.put(layout.RING_MARK, data)
    return EncryptedStore(objects, SOURCE).data_keys.check_ring(write=True)


def _read_name(data: bytes, _: Path) -> object:
    found = CIPHER.read(data.decode(errors="replace"))
    assert found is None or f"{OBJECT}/".startswith(f"{found}/"), "a name that nobody hid was read"
    return found


def _check_signature(data: bytes, _: Path) -> object:
    return SIGNATURES.check(data, *PEOPLE)


def _read_doomed(data: bytes, _: Path) -> object:
    """A note that cannot be read dooms nothing that it does not name; who seals looks at every word of it."""
    objects = MemoryStore()
    objects.put(layout.doomed_key("prune-0"), data)
    return doomed_blobs(objects)


def _take_lock(data: bytes, _: Path) -> object:
    """One that cannot be read is nobody's; any other is somebody's until it ends."""
    objects = MemoryStore()
    objects.put(layout.PRUNE_LOCK, data)
    lock = PruneLock(objects, "prn-2")
    lock.acquire()
    lock.renew()
    lock.release()
    assert objects.head(layout.PRUNE_LOCK) is None
    return lock


def _both(sample: bytes) -> st.SearchStrategy[bytes]:
    return st.one_of(mutated(sample), mutated_document(sample))


SAMPLES = {
    "header of an encrypted object": Header.fresh(KEY.id).pack(), "encrypted object": STORED, "data key": RECORD,
    "mark of the ring": MARK, "hidden name": HIDDEN.encode(), "signature": SIGNATURE,
    "key of a signature": layout.signature_key(*PEOPLE).encode(), "note of doomed blobs": DOOMED,
}  # fmt: skip
"""What each of these parsers takes as it is; a lock is refused, for somebody holds it."""
TARGETS = (
    Target("header of an encrypted object", lambda data, _: parse_header(data, OBJECT), mutated(SAMPLES["header of an encrypted object"])),
    Target("encrypted object", _read_object, mutated(STORED)),
    Target("data key", _read_record, _both(RECORD), (IntegrityError, PermissionDenied)),
    Target("mark of the ring", _read_mark, _both(MARK), (IntegrityError, PermissionDenied)),
    Target("hidden name", _read_name, mutated(HIDDEN.encode())),
    Target("signature", _check_signature, _both(SIGNATURE)),
    Target("key of a signature", lambda data, _: layout.parse_signature_key(data.decode(errors="replace")),
           mutated(layout.signature_key(*PEOPLE).encode())),
    Target("note of doomed blobs", _read_doomed, mutated(DOOMED), ()),
    Target("lock of a prune", _take_lock, _both(LOCK), (ResourceBusy, Cancelled, NotFound)),
)  # fmt: skip
