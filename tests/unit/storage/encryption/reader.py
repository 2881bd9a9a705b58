"""A reader of encrypted objects after docs/format.md alone: HMAC from the standard library, AES from its own door.

It shares no code with the project, so that the document and the code cannot be wrong together.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESSIV


def hkdf(secret: bytes, info: bytes, length: int = 32, salt: bytes = bytes(32)) -> bytes:
    """RFC 5869 with SHA-256."""
    extracted = hmac.digest(salt, secret, hashlib.sha256)
    okm, block = b"", b""
    while len(okm) < length:
        block = hmac.digest(extracted, block + info + bytes([len(okm) // 32 + 1]), hashlib.sha256)
        okm += block
    return okm[:length]


def stored_name(ring: dict[str, Any], key: str) -> str:
    cipher = AESSIV(hkdf(base64.b64decode(ring["names"]), b"migrator names v1", 64))
    above, hidden = [], []
    for segment in key.split("/"):
        data = cipher.encrypt(segment.encode(), ["/".join(above).encode()])
        text = base64.b32encode(data).decode().rstrip("=").lower()
        hidden.append("-/".join(text[start : start + 160] for start in range(0, len(text), 160)))
        above.append(segment)
    return "encrypted/" + "/".join(hidden)


def read_object(ring: dict[str, Any], objects: dict[str, bytes], key: str) -> bytes:
    stored = objects[stored_name(ring, key)]
    magic, key_id, salt, body = stored[:8], stored[8:24], stored[24:56], stored[56:]
    assert magic == b"MGRENC01"
    cipher = AESGCM(hkdf(data_key(ring, objects, key_id), b"migrator object v1\0" + key.encode(), salt=salt))
    segments = [body[start : start + 65552] for start in range(0, len(body), 65552)]
    plain = b""
    for number, segment in enumerate(segments):
        last = number == len(segments) - 1
        plain += cipher.decrypt(bytes(7) + number.to_bytes(4, "big") + bytes([last]), segment, None)
    return plain


def data_key(ring: dict[str, Any], objects: dict[str, bytes], key_id: bytes) -> bytes:
    record = json.loads(objects[f"keys/data/{key_id.hex()}"])
    (secret,) = (base64.b64decode(key["secret"]) for key in ring["keys"] if key["id"] == record["key"])
    nonce, wrapped = base64.b64decode(record["nonce"]), base64.b64decode(record["wrapped"])
    bound = b"migrator data key v1\0" + key_id + record["key"].encode()
    return AESGCM(hkdf(secret, b"migrator wrap v1")).decrypt(nonce, wrapped, bound)
