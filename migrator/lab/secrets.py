"""The credentials of one lab: made once, kept in a file that root alone can read."""

from __future__ import annotations

import importlib
import json
import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path

from migrator.lab.files import write_private


def _word() -> str:
    return secrets.token_hex(16)


@dataclass(frozen=True, repr=False)
class LabSecrets:
    """Passwords and keys of the control host's servers. Never printed: it has no repr."""

    broker_password: str = field(default_factory=_word)
    database_password: str = field(default_factory=_word)
    s3_access_key: str = field(default_factory=_word)
    s3_secret_key: str = field(default_factory=_word)
    key_ring: str = ""
    """The text of the lab's key ring; empty in a lab without encryption."""


def ensure_secrets(file: Path, *, encrypted: bool = False) -> LabSecrets:
    """Return the secrets in `file`, made now if it is not there."""
    if file.is_file():
        return LabSecrets(**json.loads(file.read_text()))
    made = LabSecrets(key_ring=_make_ring() if encrypted else "")
    write_private(file, json.dumps(asdict(made)))
    return made


def _make_ring() -> str:
    ring = importlib.import_module("migrator.storage.encryption.ring")  # loads cryptography: few labs need it
    return str(ring.write_ring(ring.new_ring()))
