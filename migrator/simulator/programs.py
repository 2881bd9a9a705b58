"""The container that is moved, as bytes: its image, its record, its memory."""

from __future__ import annotations

import json
from dataclasses import dataclass

from migrator.models.descriptors import Descriptor, digest_bytes
from migrator.models.roles import Role
from migrator.storage.oci import FactAnnotation, with_role

MARKER = "hunter2-do-not-tell"
"""Stands in memory and in the container's environment; it must never be seen in a message or a row."""
CONTAINER = "web"
NAMESPACE = "default"
SNAPSHOTTER = "overlayfs"
IMAGE_NAME = "docker.io/library/web:1"
_TYPES = {
    Role.MEMORY: "application/vnd.containerd.container.criu.checkpoint.criu.tar",
    Role.CONTAINER: "application/vnd.containerd.container.checkpoint.config.v1+proto",
    Role.SPEC: "application/vnd.containerd.container.checkpoint.runtime.options+proto",
    Role.RW_DIFF: "application/vnd.oci.image.layer.v1.tar+gzip",
}


def part(role: Role, data: bytes) -> Descriptor:
    """Describe a part of a checkpoint."""
    return with_role(Descriptor(_TYPES[role], digest_bytes(data), len(data)), role)


def memory_part() -> Descriptor:
    """Describe memory that is written as chunks: nobody knows a digest of it."""
    return with_role(Descriptor(_TYPES[Role.MEMORY], "", 0), Role.MEMORY)


def _blob(media_type: str, data: bytes) -> tuple[Descriptor, bytes]:
    return Descriptor(media_type, digest_bytes(data), len(data)), data


_CONFIG = _blob("application/vnd.oci.image.config.v1+json", b'{"os":"linux"}')
_LAYER = _blob("application/vnd.oci.image.layer.v1.tar+gzip", b"the files of the base image")
_MANIFEST = _blob(
    "application/vnd.oci.image.manifest.v1+json",
    json.dumps({"schemaVersion": 2, "config": _CONFIG[0].to_oci(), "layers": [_LAYER[0].to_oci()]}).encode(),
)
MANIFEST = _MANIFEST[0]
IMAGE = {descriptor.digest: (descriptor, data) for descriptor, data in (_MANIFEST, _CONFIG, _LAYER)}
"""The base image: manifest first."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What CRIU writes: which program it is and how long it has run in all."""

    program: str
    lived_s: float

    def to_bytes(self) -> bytes:
        """As it lies in the images."""
        return f"{MARKER}|{self.program}|{self.lived_s!r}".encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Memory:
        """Read it back."""
        _, program, lived_s = data.decode().split("|")
        return cls(program, float(lived_s))


def record_bytes(name: str) -> bytes:
    """The container's record; its environment holds a secret."""
    return f"container {name} PASSWORD={MARKER}".encode()


def index_bytes(parts: list[Descriptor], annotations: dict[FactAnnotation, str]) -> bytes:
    """Compose an index as `upload` does."""
    index = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [one.to_oci() for one in (*parts, with_role(MANIFEST, Role.IMAGE))],
        "annotations": {name.value: value for name, value in annotations.items()},
    }
    return json.dumps(index, sort_keys=True).encode()
