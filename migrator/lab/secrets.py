"""The credentials of one lab: made once, kept in a file that root alone can read."""

from __future__ import annotations

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


def ensure_secrets(file: Path) -> LabSecrets:
    """Return the secrets in `file`, made now if it is not there."""
    if file.is_file():
        return LabSecrets(**json.loads(file.read_text()))
    made = LabSecrets()
    write_private(file, json.dumps(asdict(made)))
    return made
