"""Signatures: who made an index, and which checkpoint it is of. Checked before anything that an index names is used.

checkpoints/WORKLOAD/ID/HEX.sig     JSON: which key signed, the signature; HEX is the index's SHA-256
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode

from cryptography.exceptions import InvalidSignature

from migrator.errors import IntegrityError
from migrator.storage.encryption.ring import KeyRing
from migrator.storage.encryption.source import RingSource

LIMIT_BYTES = 4096


class Signatures:
    """Signs indexes and checks their signatures.

    Args:
        source: The deployment's keys.
        accept_missing: Let checkpoints through that nobody signed, such as those from before there were keys.
    """

    def __init__(self, source: RingSource, *, accept_missing: bool = False):
        self._source = source
        self._accept_missing = accept_missing

    def sign(self, workload_id: str, checkpoint_id: str, index_digest: str, ring: KeyRing | None = None) -> bytes:
        """Return the signature document of an index."""
        key = (ring or self._source.current()).active
        signature = key.signing_key.sign(signed_words(workload_id, checkpoint_id, index_digest))
        return json.dumps({"version": 1, "key": key.id, "signature": b64encode(signature).decode()}).encode()

    def check(self, document: bytes | None, workload_id: str, checkpoint_id: str, index_digest: str) -> str | None:
        """Check a signature document and return the id of the key that signed; None if a missing one is accepted.

        Raises:
            IntegrityError: `signature_missing`, `signature_invalid` or `signature_key_unknown`.
        """
        if document is None:
            if self._accept_missing:
                return None
            raise IntegrityError(
                f"checkpoint {checkpoint_id} is not signed",
                code="signature_missing",
                remedy="if it is from before there were keys and you trust the store: MIGRATOR_ACCEPT_UNPROTECTED=true",
            )
        try:
            known = json.loads(document)
            key_id, signature = str(known["key"]), b64decode(known["signature"], validate=True)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise _invalid(checkpoint_id, "its signature is malformed") from error
        ring = self._source.current()
        ring = ring if ring.knows(key_id) else self._source.again()
        if not ring.knows(key_id):
            raise IntegrityError(
                f"checkpoint {checkpoint_id} is signed by key {key_id[:40]}, which the {self._source.place} lacks",
                code="signature_key_unknown",
                remedy="bring this host's key ring up to date; if the key was retired, this checkpoint is not ours",
            )
        try:
            ring.key(key_id).verifying_key.verify(signature, signed_words(workload_id, checkpoint_id, index_digest))
        except InvalidSignature as error:
            raise _invalid(checkpoint_id, f"key {key_id} did not sign this index for this checkpoint") from error
        return key_id


def signed_words(workload_id: str, checkpoint_id: str, index_digest: str) -> bytes:
    """What is signed: the index by its digest, and whose index it is."""
    return f"migrator checkpoint v1\n{workload_id}\n{checkpoint_id}\n{index_digest}\n".encode()


def _invalid(checkpoint_id: str, why: str) -> IntegrityError:
    return IntegrityError(
        f"the index of checkpoint {checkpoint_id} is refused: {why}",
        code="signature_invalid",
        remedy="somebody changed or exchanged it in the object store; use another checkpoint or take a new one",
    )
