"""Rotation: a new key becomes active and wraps every data key anew; the old one can then be retired.

No checkpoint is written again. Whenever this dies, the ring holds both keys, so everything stays readable; `rewrap`
goes on where it stopped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from migrator.errors import IntegrityError, NotFound, PreconditionFailed
from migrator.models.descriptors import digest_bytes
from migrator.storage import layout
from migrator.storage.checkpoints import CheckpointStore, SealedCheckpoint
from migrator.storage.encryption.data_keys import DataKeys, wrapped_by
from migrator.storage.encryption.ring import KeyRing, RingKey
from migrator.storage.encryption.signatures import Signatures
from migrator.storage.encryption.source import RingFile, RingSource
from migrator.storage.encryption.store import EncryptedStore

UNUSED_FOR = timedelta(days=7)
"""No job takes so long: a data key that is older and unused is not about to be used."""


@dataclass(frozen=True, slots=True)
class Rewrapped:
    """What `rewrap` did."""

    active_id: str
    data_keys: int
    """Wrapped anew."""
    signatures: int
    """Made anew."""
    refused: tuple[str, ...]
    """Checkpoints without a good signature: left as they are."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What needs a key of the ring."""

    data_keys: Counter[str]
    signatures: Counter[str]


class KeyKeeper:
    """Looks after the keys of one store.

    Args:
        source: The ring.
        checkpoints: The store, opened with that ring.
    """

    def __init__(self, source: RingSource, checkpoints: CheckpointStore):
        self._source = source
        self._checkpoints = checkpoints
        self._signatures = Signatures(source)

    def rewrap(self) -> Rewrapped:
        """Bring all data keys and signatures under the active key; those that are stay untouched."""
        ring, data_keys = self._source.current(), self._data_keys
        wrapped = 0
        if data_keys is not None:
            data_keys.check_ring(write=True)
            data_keys.mark_active(ring)  # from now on whoever lacks the key is refused before it begins
            wrapped = sum(data_keys.rewrap(key_id, ring) for key_id in list(data_keys.ids()))
        signed, refused = 0, []
        for sealed in self._checkpoints.sealed():
            try:
                signed += self._sign_again(sealed, ring)
            except IntegrityError:
                refused.append(sealed.checkpoint_id)
        return Rewrapped(ring.active_id, wrapped, signed, tuple(refused))

    def usage(self) -> Usage:
        """Count what needs which key."""
        return Usage(Counter(self._wrapping_ids()), Counter(self._signing_ids()))

    def check_unused(self, key_id: str) -> None:
        """Make sure that nothing needs a key.

        Raises:
            PreconditionFailed: `key_in_use`.
        """
        usage = self.usage()
        data_keys, signatures = usage.data_keys[key_id], usage.signatures[key_id]
        marked = self._data_keys is not None and self._data_keys.check_ring() == key_id
        if data_keys or signatures or marked:
            raise PreconditionFailed(
                f"key {key_id} is still needed: it wraps {data_keys} data keys and signs {signatures} checkpoints",
                code="key_in_use",
                remedy="bring them under the active key first: migrator keys rewrap",
            )

    def sweep(self, now: datetime) -> int:
        """Remove data keys that no object needs any more; return how many."""
        return sweep_data_keys(self._checkpoints, now - UNUSED_FOR, dry_run=False)

    @property
    def _data_keys(self) -> DataKeys | None:
        objects = self._checkpoints.objects
        return objects.data_keys if isinstance(objects, EncryptedStore) else None

    def _wrapping_ids(self) -> Iterator[str]:
        data_keys = self._data_keys
        for key_id in data_keys.ids() if data_keys else ():
            yield wrapped_by(data_keys.record(key_id), key_id) if data_keys else ""

    def _signing_ids(self) -> Iterator[str]:
        for sealed in self._checkpoints.sealed():
            try:
                yield self._signer(sealed)[0]
            except IntegrityError:
                continue  # nobody restores it, whatever keys there are

    def _sign_again(self, sealed: SealedCheckpoint, ring: KeyRing) -> bool:
        workload_id, checkpoint_id = sealed.workload_id, sealed.checkpoint_id
        try:
            signer, digest = self._signer(sealed)
        except NotFound:
            return False  # removed since it was listed
        if signer == ring.active_id:
            return False
        document = self._signatures.sign(workload_id, checkpoint_id, digest, ring)
        self._checkpoints.objects.put(layout.signature_key(workload_id, checkpoint_id, digest), document)
        return True

    def _signer(self, sealed: SealedCheckpoint) -> tuple[str, str]:
        """Return which key signed a checkpoint's index, and the index's digest."""
        index = self._checkpoints.read_unchecked_index(sealed.workload_id, sealed.checkpoint_id)
        digest = digest_bytes(index)
        document = self._checkpoints.read_signature(sealed.workload_id, sealed.checkpoint_id, digest)
        signer = self._signatures.check(document, sealed.workload_id, sealed.checkpoint_id, digest)
        return str(signer), digest


def sweep_data_keys(checkpoints: CheckpointStore, written_before: datetime, *, dry_run: bool) -> int:
    """Remove the data keys of an encrypted store that no object needs; return how many.

    Args:
        checkpoints: The store.
        written_before: Only older ones.
        dry_run: Only count them.
    """
    objects = checkpoints.objects
    if not isinstance(objects, EncryptedStore):
        return 0
    sealed = [found.checkpoint_id for found in checkpoints.sealed()]
    unused = objects.data_keys.unused(objects.data_keys_used, written_before, sealed)
    return len(unused) if dry_run else sum(map(objects.data_keys.remove, sorted(unused)))


def prepare_key(file: RingFile) -> RingKey:
    """Add a key to the ring that is not used yet, so that all hosts can know it before it is."""
    ring, made = file.current().with_new_key()
    file.replace(ring)
    return made


def activate_key(file: RingFile) -> RingKey:
    """Make the key that was prepared last the active one, or a new one if none was."""
    ring = file.current()
    position = [key.id for key in ring.keys].index(ring.active_id)
    if ring.keys[position + 1 :]:
        chosen = ring.keys[-1]
    else:
        ring, chosen = ring.with_new_key()
    file.replace(ring.with_active(chosen.id))
    return chosen


def retire_key(file: RingFile, key_id: str, keeper: KeyKeeper) -> None:
    """Remove a key from the ring.

    Raises:
        NotFound: `key_not_found`.
        PreconditionFailed: `key_active` or `key_in_use`.
    """
    ring = file.current()
    if ring.key(key_id).id == ring.active_id:
        raise PreconditionFailed(
            f"key {key_id} is the active one", code="key_active", remedy="make another one active: migrator keys rotate"
        )
    keeper.check_unused(key_id)
    file.replace(ring.without(key_id))
