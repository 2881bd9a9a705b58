"""OCI descriptors and digests: how one blob points at another (OCI image-spec, descriptor.md)."""

from __future__ import annotations

import hashlib
import platform as machine
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from migrator.errors import IntegrityError

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
        try:
            where = data.get("platform")
            place = (
                Platform(str(where["os"]), str(where["architecture"]), str(where.get("variant", ""))) if where else None
            )
            notes = {str(key): str(value) for key, value in (data.get("annotations") or {}).items()}
            found = cls(str(data["mediaType"]), str(data["digest"]), int(data["size"]), notes, place)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise IntegrityError(f"not an OCI descriptor: {error!r}", code="bad_descriptor") from error
        check_digest(found.digest)
        if found.size_bytes < 0:
            raise IntegrityError(f"a blob cannot have {found.size_bytes} bytes", code="bad_descriptor")
        return found
