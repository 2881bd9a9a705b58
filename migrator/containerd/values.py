"""What containerd's services talk about, as frozen values, and how each reads and writes its wire form."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any as Json

from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from migrator.containerd.mediatypes import SPEC_URL
from migrator.errors import IntegrityError, InvalidRequest
from migrator.gen.containerd.services.containers.v1 import containers_pb2
from migrator.gen.containerd.services.images.v1 import images_pb2
from migrator.gen.containerd.types import descriptor_pb2, mount_pb2
from migrator.models.descriptors import Descriptor

Labels = Mapping[str, str]


def moment(stamp: Timestamp) -> datetime | None:
    """Read a time; containerd writes Go's zero time where there is none."""
    if stamp.seconds <= 0:
        return None
    return datetime.fromtimestamp(stamp.seconds, UTC).replace(microsecond=stamp.nanos // 1000)


def pack_json(value: Json, type_url: str) -> Any:
    """Wrap a JSON value as containerd wraps Go structures: the JSON text under their type URL.

    Raises:
        InvalidRequest: The value cannot be written as JSON.
    """
    try:
        return Any(type_url=type_url, value=json.dumps(value, allow_nan=False).encode())
    except (TypeError, ValueError) as error:
        raise InvalidRequest(f"{type_url} cannot be written as JSON: {error}", code="bad_json") from error


def pack_message(message: Message) -> Any:
    """Wrap a message as containerd does: under its bare type name, without protobuf's host part."""
    if isinstance(message, Any):
        return message
    return Any(type_url=message.DESCRIPTOR.full_name, value=message.SerializeToString())


def descriptor_to_wire(descriptor: Descriptor) -> descriptor_pb2.Descriptor:
    """Containerd's form; it has no platform."""
    return descriptor_pb2.Descriptor(
        media_type=descriptor.media_type,
        digest=descriptor.digest,
        size=descriptor.size_bytes,
        annotations=descriptor.annotations,
    )


def descriptor_from_wire(wire: descriptor_pb2.Descriptor) -> Descriptor:
    """Read containerd's form."""
    return Descriptor(wire.media_type, wire.digest, wire.size, dict(wire.annotations))


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount in words."""

    type: str
    source: str
    options: tuple[str, ...] = ()
    target: str = ""

    def to_wire(self) -> mount_pb2.Mount:
        """Containerd's form."""
        return mount_pb2.Mount(type=self.type, source=self.source, target=self.target, options=self.options)

    @classmethod
    def from_wire(cls, wire: mount_pb2.Mount) -> Mount:
        """Read containerd's form."""
        return cls(wire.type, wire.source, tuple(wire.options), wire.target)


@dataclass(frozen=True, slots=True)
class Container:
    """A container's record. `spec` holds the OCI runtime spec as JSON bytes."""

    id: str
    image: str = ""
    runtime_name: str = "io.containerd.runc.v2"
    runtime_options: Any | None = None
    spec: Any = field(default_factory=Any)
    snapshotter: str = ""
    snapshot_key: str = ""
    labels: Labels = field(default_factory=dict)
    extensions: Mapping[str, Any] = field(default_factory=dict)
    created_at: datetime | None = None
    updated_at: datetime | None = None
    sandbox: str = ""

    def spec_json(self) -> dict[str, Json]:
        """The OCI runtime spec.

        Raises:
            IntegrityError: The record holds something else.
        """
        try:
            spec = json.loads(self.spec.value)
        except ValueError as error:
            raise IntegrityError(f"container {self.id} has no readable spec: {error}", code="bad_spec") from error
        if not isinstance(spec, dict):
            raise IntegrityError(f"container {self.id} has a spec that is no object", code="bad_spec")
        return spec

    @staticmethod
    def pack_spec(spec: Mapping[str, Json]) -> Any:
        """Wrap an OCI runtime spec for the field `spec`."""
        return pack_json(dict(spec), SPEC_URL)

    def to_wire(self) -> containers_pb2.Container:
        """Containerd's form."""
        runtime = containers_pb2.Container.Runtime(name=self.runtime_name, options=self.runtime_options)
        return containers_pb2.Container(
            id=self.id,
            image=self.image,
            runtime=runtime,
            spec=self.spec,
            snapshotter=self.snapshotter,
            snapshot_key=self.snapshot_key,
            labels=self.labels,
            extensions=self.extensions,
            sandbox=self.sandbox,
        )

    @classmethod
    def from_wire(cls, wire: containers_pb2.Container) -> Container:
        """Read containerd's form."""
        options = wire.runtime.options
        return cls(
            id=wire.id,
            image=wire.image,
            runtime_name=wire.runtime.name,
            runtime_options=options if options.type_url or options.value else None,
            spec=wire.spec,
            snapshotter=wire.snapshotter,
            snapshot_key=wire.snapshot_key,
            labels=dict(wire.labels),
            extensions=dict(wire.extensions),
            created_at=moment(wire.created_at),
            updated_at=moment(wire.updated_at),
            sandbox=wire.sandbox,
        )


@dataclass(frozen=True, slots=True)
class Image:
    """A name for content."""

    name: str
    target: Descriptor
    labels: Labels = field(default_factory=dict)
    created_at: datetime | None = None
    updated_at: datetime | None = None

    def to_wire(self) -> images_pb2.Image:
        """Containerd's form."""
        return images_pb2.Image(name=self.name, labels=self.labels, target=descriptor_to_wire(self.target))

    @classmethod
    def from_wire(cls, wire: images_pb2.Image) -> Image:
        """Read containerd's form."""
        target = descriptor_from_wire(wire.target)
        return cls(wire.name, target, dict(wire.labels), moment(wire.created_at), moment(wire.updated_at))
