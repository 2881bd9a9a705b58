"""OCI descriptors and digests: how one blob points at another (OCI image-spec, descriptor.md)."""

from __future__ import annotations

import hashlib
import platform as machine
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from migrator.errors import IntegrityError

LARGEST_BYTES = 2**63 - 1
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


def digest_bytes(data: bytes) -> str:
    """Return the sha256 digest of some bytes as `sha256:HEX`."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def check_digest(digest: str) -> str:
    """Return a digest if it is well-formed.

    Raises:
        IntegrityError: `bad_digest`.
    """
    if not DIGEST.fullmatch(digest):
        raise IntegrityError(f"{digest[:100]!r} is not a sha256 digest", code="bad_digest")
    return digest


@dataclass(frozen=True, slots=True)
class Platform:
    """What a binary runs on, in Go's words."""

    os: str = "linux"
    architecture: str = "amd64"
    variant: str = ""

    @classmethod
    def here(cls) -> Platform:
        """Return the platform of this machine."""
        name = machine.machine()
        return cls("linux", _ARCHITECTURES.get(name, name))

    def to_oci(self) -> dict[str, str]:
        """Return the OCI JSON form."""
        variant = {"variant": self.variant} if self.variant else {}
        return {"architecture": self.architecture, "os": self.os, **variant}


@dataclass(frozen=True, slots=True)
class Descriptor:
    """Points at a blob: its media type, digest and size in bytes."""

    media_type: str
    digest: str
    size_bytes: int
    annotations: Mapping[str, str] = field(default_factory=dict)
    platform: Platform | None = None

    def to_oci(self) -> dict[str, Any]:
        """Return the OCI JSON form."""
        found: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size_bytes}
        if self.annotations:
            found["annotations"] = dict(self.annotations)
        if self.platform is not None:
            found["platform"] = self.platform.to_oci()
        return found

    @classmethod
    def from_oci(cls, data: Mapping[str, Any]) -> Descriptor:
        """Read the OCI JSON form; the input is not trusted.

        Raises:
            IntegrityError: `bad_descriptor` or `bad_digest`, a field is missing, malformed or out of range.
        """
        media_type, digest, size_bytes = data.get("mediaType"), data.get("digest"), data.get("size")
        if not (isinstance(media_type, str) and media_type and isinstance(digest, str)):
            raise _malformed("media type or digest is missing")
        if type(size_bytes) is not int or not 0 <= size_bytes <= LARGEST_BYTES:
            raise _malformed(f"a size of {size_bytes!r:.50}")
        check_digest(digest)
        notes = _strings(data.get("annotations"), "annotations")
        where = _strings(data.get("platform"), "platform", only=("os", "architecture", "variant"))
        if where and not {"os", "architecture"} <= where.keys():
            raise _malformed("its platform is incomplete")
        return cls(media_type, digest, size_bytes, notes, Platform(**where) if where else None)


def _strings(value: Any, what: str, only: tuple[str, ...] = ()) -> dict[str, str]:
    """Read an object of strings; other fields than `only` are left out, if it is given."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _malformed(f"its {what} are no object")
    found = {key: text for key, text in value.items() if not only or key in only}
    if not all(isinstance(key, str) and isinstance(text, str) for key, text in found.items()):
        raise _malformed(f"its {what} are not all strings")
    return found


def _malformed(why: str) -> IntegrityError:
    return IntegrityError(f"not an OCI descriptor: {why}", code="bad_descriptor")
