"""Names under which encrypted objects lie: AES-SIV of each segment, so that the same key always has the same name.

A blob's key is the digest of its content; whoever has a copy of a file could look whether it is in the store.
"""

from __future__ import annotations

import re
from base64 import b32decode, b32encode
from functools import lru_cache

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

PIECE_LENGTH = 160
MORE = "-"
"""At the end of a piece: the name goes on in the next segment of the path."""
_PATH = re.compile(r"[a-z2-7]+(?:-?/[a-z2-7]+)*")


class NameCipher:
    """Hides keys and reads hidden ones; each segment is bound to those before it.

    Args:
        key: 64 bytes.
    """

    def __init__(self, key: bytes):
        self._cipher = AESSIV(key)
        self._hide_directory = lru_cache(maxsize=4096)(self.hide)
        self._read_directory = lru_cache(maxsize=4096)(self._read)

    def hide(self, key: str) -> str:
        """Return the hidden form of a key, or of a directory without its last slash."""
        above, slash, name = key.rpartition("/")
        hidden = self._hide_segment(above, name)
        return f"{self._hide_directory(above)}/{hidden}" if slash else hidden

    def read(self, hidden: str) -> str | None:
        """Return the key; None if it was not hidden by this cipher."""
        return self._read(hidden) if _PATH.fullmatch(hidden) else None

    def _hide_segment(self, above: str, name: str) -> str:
        text = b32encode(self._cipher.encrypt(name.encode(), [above.encode()])).decode().rstrip("=").lower()
        pieces = [text[start : start + PIECE_LENGTH] for start in range(0, len(text), PIECE_LENGTH)]
        return f"{MORE}/".join(pieces)

    def _read(self, hidden: str) -> str | None:
        start = hidden.rfind("/")
        while start > 0 and hidden[start - 1] == MORE:
            start = hidden.rfind("/", 0, start)
        above = self._read_directory(hidden[:start]) if start >= 0 else ""
        if above is None:
            return None
        name = self._read_segment(above, hidden[start + 1 :].replace(f"{MORE}/", ""))
        return name if not above or name is None else f"{above}/{name}"

    def _read_segment(self, above: str, text: str) -> str | None:
        try:
            data = b32decode(text.upper() + "=" * (-len(text) % 8))
            return self._cipher.decrypt(data, [above.encode()]).decode()
        except (ValueError, InvalidTag):
            return None
