"""OCI descriptors and digests: how every layer names a blob. No I/O here."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from migrator.errors import IntegrityError

DIGEST = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)
MAX_SIZE_BYTES = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Platform:
    """What a blob runs on, in the words of the OCI image spec."""

    os: str = "linux"
    architecture: str = "amd64"
    variant: str = ""

    @classmethod
    def from_oci(cls, data: Any) -> Platform:
        """Read the OCI JSON form.

        Raises:
            IntegrityError: `bad_descriptor`.
        """
        found = _object(data, "platform")
        names = (_text(found, "os"), _text(found, "architecture"), _text(found, "variant", ""))
        return cls(*names)

    def to_oci(self) -> dict[str, str]:
        """Return the OCI JSON form."""
        found = {"architecture": self.architecture, "os": self.os}
        return found | {"variant": self.variant} if self.variant else found


@dataclass(frozen=True, slots=True)
class Descriptor:
    """Points at a blob: its media type, `sha256:` digest and size in bytes."""

    media_type: str
    digest: str
    size_bytes: int
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)
    platform: Platform | None = None

    @classmethod
    def from_oci(cls, data: Any) -> Descriptor:
        """Read the OCI JSON form; the input may come from anywhere.

        Raises:
            IntegrityError: `bad_descriptor`: a field is missing, malformed or has the wrong type.
        """
        found = _object(data, "descriptor")
        size_bytes = found.get("size")
        if type(size_bytes) is not int or not 0 <= size_bytes <= MAX_SIZE_BYTES:
            raise _bad("size is no count of bytes")
        return cls(
            media_type=_text(found, "mediaType"),
            digest=check_digest(_text(found, "digest")),
            size_bytes=size_bytes,
            annotations=texts_by_name(found.get("annotations")),
            platform=None if found.get("platform") is None else Platform.from_oci(found["platform"]),
        )

    def to_oci(self) -> dict[str, Any]:
        """Return the OCI JSON form."""
        found: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size_bytes}
        if self.annotations:
            found["annotations"] = dict(self.annotations)
        if self.platform is not None:
            found["platform"] = self.platform.to_oci()
        return found


def digest_bytes(data: bytes) -> str:
    """Return the digest of some bytes, `sha256:` and 64 hex digits."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def check_digest(digest: str) -> str:
    """Return `digest` if it is well-formed; only sha256 is in use.

    Raises:
        IntegrityError: `bad_descriptor`.
    """
    if not DIGEST.fullmatch(digest):
        raise _bad(f"{digest[:80]!r} is no sha256 digest")
    return digest


def texts_by_name(data: Any) -> dict[str, str]:
    """Read a JSON object of strings, such as annotations; None is an empty one.

    Raises:
        IntegrityError: `bad_descriptor`.
    """
    found = {} if data is None else _object(data, "annotations")
    if not all(isinstance(value, str) for value in found.values()):
        raise _bad("annotations hold something that is no text")
    return found


def _object(data: Any, what: str) -> dict[str, Any]:
    if not isinstance(data, dict) or not all(isinstance(name, str) for name in data):
        raise _bad(f"{what} is no object")
    return data


def _text(data: Mapping[str, Any], name: str, default: str | None = None) -> str:
    value = data.get(name, default)
    if not isinstance(value, str) or (default is None and not value):
        raise _bad(f"{name} is missing or no text")
    return value


def _bad(reason: str) -> IntegrityError:
    return IntegrityError(f"not an OCI descriptor: {reason}", code="bad_descriptor")
