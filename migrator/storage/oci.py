"""What a checkpoint's index says: parts by role, and facts of its origin. It trusts nothing of what it reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from migrator.errors import IntegrityError
from migrator.models.descriptors import Descriptor, digest_bytes
from migrator.models.roles import ROLE_ANNOTATION, Role

INDEX_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
MANIFEST_TYPES = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
DOCUMENT_LIMIT_BYTES = 4 << 20
"""An index or manifest longer than this is refused."""
PARTS_LIMIT = 1000
TAKE_ANEW = "take a new checkpoint; this one was not made by migrator, or was damaged"


class FactAnnotation(StrEnum):
    """Annotations of the index that tell its origin."""

    HOST = "io.migrator.host"
    KERNEL = "io.migrator.kernel"
    ARCHITECTURE = "io.migrator.architecture"
    CPU_FLAGS = "io.migrator.cpu-flags"
    CONTAINERD = "io.migrator.containerd"
    CRIU = "io.migrator.criu"
    WORKLOAD = "io.migrator.workload"
    EPOCH = "io.migrator.epoch"
    NAMESPACE = "io.migrator.namespace"
    CONTAINER = "io.migrator.container"
    JOB = "io.migrator.job"
    SCHEDULE = "io.migrator.schedule"
    """The name of the schedule that asked for it, if one did."""
    CREATED = "io.migrator.created"
    STDIO = "io.migrator.stdio"
    """JSON: `stdout`, `stderr`: where the task wrote to."""
    NETWORK = "io.migrator.network"
    """JSON: how the container is connected; null if it is not."""
    SNAPSHOT = "io.migrator.snapshot"
    """JSON: `snapshotter`, `key`, `parent`."""
    CRIU_OPTIONS = "io.migrator.criu-options"
    """JSON: what CRIU was told at the dump and must be told at the restore."""
    HOOKS = "io.migrator.hooks"
    """JSON: the hooks of the job, if the program was made ready for the freeze by one; see `models.hooks`."""
    VOLUMES = "io.migrator.volumes"
    """JSON: the container's bind mounts, see `models.volumes`."""


@dataclass(frozen=True, slots=True)
class CheckpointIndex:
    """A checkpoint's index as read."""

    digest: str
    parts: tuple[Descriptor, ...]
    annotations: Mapping[str, str]

    def part(self, role: str) -> Descriptor:
        """Return the one part with a role.

        Raises:
            IntegrityError: `bad_index`, there is none or more than one.
        """
        found = [part for part in self.parts if self.role_of(part) == role]
        if len(found) != 1:
            raise IntegrityError(f"the index has {len(found)} parts with the role '{role}'", code="bad_index")
        return found[0]

    def has(self, role: str) -> bool:
        """Whether there is a part with a role."""
        return any(self.role_of(part) == role for part in self.parts)

    def fact(self, name: FactAnnotation) -> str:
        """Return a fact of the checkpoint's origin.

        Raises:
            IntegrityError: `bad_index`, it is not told.
        """
        if name not in self.annotations:
            raise IntegrityError(f"the index does not tell {name.value}", code="bad_index", remedy=TAKE_ANEW)
        return self.annotations[name]

    def told(self, name: FactAnnotation) -> Any:
        """Return a fact that is JSON; None when it is not told.

        Raises:
            IntegrityError: `bad_index`, it is malformed.
        """
        try:
            return json.loads(self.annotations.get(name, "null"))
        except (ValueError, RecursionError) as error:
            raise IntegrityError(f"the index tells a malformed {name.value}", code="bad_index") from error

    def snapshot(self) -> dict[str, str]:
        """Return snapshotter, key and parent of the container's snapshot.

        Raises:
            IntegrityError: `bad_index`, they are not told or malformed.
        """
        told = parse_document(self.fact(FactAnnotation.SNAPSHOT).encode())
        missing = [name for name in ("snapshotter", "key", "parent") if not isinstance(told.get(name), str)]
        if missing:
            raise IntegrityError(f"the index tells no {missing[0]} of the snapshot", code="bad_index", remedy=TAKE_ANEW)
        return told

    def role_of(self, part: Descriptor) -> str:
        """Return a part's role; empty for one that has none."""
        return part.annotations.get(ROLE_ANNOTATION, "")


def with_role(part: Descriptor, role: Role) -> Descriptor:
    """Write a role into a descriptor."""
    return replace(part, annotations={**part.annotations, ROLE_ANNOTATION: role.value})


def parse_index(data: bytes) -> CheckpointIndex:
    """Read a checkpoint's index.

    Raises:
        IntegrityError: `bad_index` or `bad_descriptor`, it is not one or exceeds the limits.
    """
    document = parse_document(data)
    annotations = document.get("annotations", {})
    if not isinstance(annotations, dict):
        raise IntegrityError("the index has malformed annotations", code="bad_index")
    notes = {str(key): str(value) for key, value in annotations.items()}
    return CheckpointIndex(digest_bytes(data), tuple(_descriptors(document, "manifests")), notes)


def children(part: Descriptor, data: bytes) -> list[Descriptor]:
    """Return what a manifest or nested index names, in its order; [] for other media types.

    Raises:
        IntegrityError: It is malformed.
    """
    if part.media_type in INDEX_TYPES:
        return _descriptors(parse_document(data), "manifests")
    if part.media_type in MANIFEST_TYPES:
        document = parse_document(data)
        return [Descriptor.from_oci(_object(document.get("config"))), *_descriptors(document, "layers")]
    return []


def has_children(part: Descriptor) -> bool:
    """Whether a blob names other blobs."""
    return part.media_type in INDEX_TYPES or part.media_type in MANIFEST_TYPES


def parse_document(data: bytes) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        IntegrityError: `bad_index`.
    """
    if len(data) > DOCUMENT_LIMIT_BYTES:
        raise IntegrityError(f"a document of {len(data)} bytes is too long", code="bad_index")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"not a JSON document: {error}", code="bad_index") from error
    return _object(document)


def _descriptors(document: Mapping[str, Any], name: str) -> list[Descriptor]:
    found = document.get(name)
    if not isinstance(found, list) or len(found) > PARTS_LIMIT:
        raise IntegrityError(f"'{name}' is not a list of at most {PARTS_LIMIT} descriptors", code="bad_index")
    return [Descriptor.from_oci(_object(item)) for item in found]


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise IntegrityError("a JSON object was expected", code="bad_index")
    return value
