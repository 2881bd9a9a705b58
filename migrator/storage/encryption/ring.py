"""A deployment's keys: several generations, one of them active. Its text is the only secret there is."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
from base64 import b64decode, b64encode
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from migrator.errors import InvalidRequest, NotFound

VERSION = 1
SECRET_BYTES = 32
KEY_ID = re.compile(r"k-[0-9a-f]{12}")
KEYS_LIMIT = 100


@dataclass(frozen=True, repr=False)
class RingKey:
    """One generation: what wraps data keys and what signs are derived from its secret. It has no repr."""

    id: str
    created_at: datetime
    secret: bytes

    @property
    def wrapping_key(self) -> bytes:
        """The AES-256 key that wraps data keys."""
        return derive(self.secret, "migrator wrap v1")

    @property
    def signing_key(self) -> Ed25519PrivateKey:
        """The Ed25519 key that signs indexes."""
        return Ed25519PrivateKey.from_private_bytes(derive(self.secret, "migrator sign v1"))

    @property
    def verifying_key(self) -> Ed25519PublicKey:
        """Its public half."""
        return self.signing_key.public_key()

    @property
    def public_text(self) -> str:
        """The public half as people pass it on: base64 of its 32 bytes."""
        return b64encode(self.verifying_key.public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()


@dataclass(frozen=True, repr=False)
class KeyRing:
    """All generations, the active one's id, and the secret that hides names, which never changes."""

    names_secret: bytes
    keys: tuple[RingKey, ...]
    active_id: str

    @property
    def active(self) -> RingKey:
        """The generation that wraps and signs what is new."""
        return self.key(self.active_id)

    @property
    def names_key(self) -> bytes:
        """The AES-SIV key (512 bits) of names."""
        return derive(self.names_secret, "migrator names v1", 64)

    @property
    def fingerprint(self) -> str:
        """Tells rings of different deployments apart and nothing else."""
        return derive(self.names_secret, "migrator fingerprint v1", 16).hex()

    def data_key_id(self, purpose: str) -> bytes:
        """The id of the data key for a purpose; the purpose cannot be read from it."""
        secret = derive(self.names_secret, "migrator data key ids v1")
        return hmac.digest(secret, purpose.encode(), hashlib.sha256)[:16]

    def knows(self, key_id: str) -> bool:
        """Whether a generation is in the ring."""
        return any(key.id == key_id for key in self.keys)

    def key(self, key_id: str) -> RingKey:
        """Return a generation.

        Raises:
            NotFound: `key_not_found`.
        """
        for key in self.keys:
            if key.id == key_id:
                return key
        raise NotFound(
            f"key '{key_id[:40]}' is not in the key ring", code="key_not_found", remedy="see `migrator keys list`"
        )

    def with_new_key(self) -> tuple[KeyRing, RingKey]:
        """Return a ring with one more generation, not active yet, and that generation."""
        made = _new_key()
        return replace(self, keys=(*self.keys, made)), made

    def with_active(self, key_id: str) -> KeyRing:
        """Return a ring in which another generation is active."""
        return replace(self, active_id=self.key(key_id).id)

    def without(self, key_id: str) -> KeyRing:
        """Return a ring without a generation."""
        self.key(key_id)
        return replace(self, keys=tuple(key for key in self.keys if key.id != key_id))


def new_ring() -> KeyRing:
    """Make a ring of one generation."""
    key = _new_key()
    return KeyRing(secrets.token_bytes(SECRET_BYTES), (key,), key.id)


def write_ring(ring: KeyRing) -> str:
    """Return a ring's text: JSON, secret."""
    document = {
        "version": VERSION,
        "names": b64encode(ring.names_secret).decode(),
        "active": ring.active_id,
        "keys": [
            {"id": key.id, "created": key.created_at.isoformat(), "secret": b64encode(key.secret).decode()}
            for key in ring.keys
        ],
    }
    return json.dumps(document, indent=2) + "\n"


def read_ring(text: str, place: str) -> KeyRing:
    """Read a ring's text.

    Args:
        text: The text.
        place: Where it comes from, for the message; the text itself is never told.

    Raises:
        InvalidRequest: `bad_key_ring`.
    """
    fault: str | None
    try:
        document = json.loads(text)
        ring = KeyRing(
            _secret(document["names"]), tuple(_key(item) for item in document["keys"]), str(document["active"])
        )
        fault = None if document["version"] == VERSION else f"version {document['version']!r} is not known"
        fault = fault or _fault(ring)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        ring, fault = None, "it is cut short or was changed"
    if ring is None or fault is not None:
        # Not chained: the cause may quote the text.
        raise InvalidRequest(
            f"{place} holds no key ring of migrator: {fault}",
            code="bad_key_ring",
            remedy="put back the file that `migrator keys init` wrote, from your copy of it",
        )
    return ring


def derive(secret: bytes, label: str, size_bytes: int = 32, salt: bytes | None = None) -> bytes:
    """HKDF-SHA256: an independent key for each label."""
    return HKDF(SHA256(), size_bytes, salt, label.encode()).derive(secret)


def _new_key() -> RingKey:
    now = datetime.now(UTC).replace(microsecond=0)
    return RingKey(f"k-{secrets.token_hex(6)}", now, secrets.token_bytes(SECRET_BYTES))


def _key(item: dict[str, Any]) -> RingKey:
    return RingKey(str(item["id"]), datetime.fromisoformat(str(item["created"])), _secret(item["secret"]))


def _secret(text: str) -> bytes:
    found = b64decode(text, validate=True)
    if len(found) != SECRET_BYTES:
        raise ValueError("a secret of another length")
    return found


def _fault(ring: KeyRing) -> str | None:
    ids = [key.id for key in ring.keys]
    if not all(KEY_ID.fullmatch(key_id) for key_id in ids) or len(set(ids)) != len(ids) or len(ids) > KEYS_LIMIT:
        return "its keys have malformed ids"
    return None if ring.active_id in ids else "its active key is not among its keys"
