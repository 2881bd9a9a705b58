"""The container's own record as it travels in a checkpoint: everything containerd knows about it but its content."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

from google.protobuf.any_pb2 import Any as AnyMessage

from migrator.containerd import Container, Stdio
from migrator.errors import IntegrityError

CONTAINER_MEDIA_TYPE = "application/vnd.migrator.container.v1+json"
RECORD_LIMIT_BYTES = 4 * 2**20


def encode_container(container: Container, stdio: Stdio) -> dict[str, Any]:
    """Turn the record into JSON."""
    return {
        "id": container.id,
        "image": container.image,
        "labels": container.labels,
        "runtime": {"name": container.runtime_name, "options": _encode_any(container.runtime_options)},
        "spec": _encode_any(container.spec),
        "snapshotter": container.snapshotter,
        "snapshot_key": container.snapshot_key,
        "extensions": {name: _encode_any(value) for name, value in container.extensions.items()},
        "stdio": {"stdout": stdio.stdout, "stderr": stdio.stderr},
    }


def decode_container(data: dict[str, Any], *, name: str, snapshot_key: str) -> tuple[Container, Stdio]:
    """Read a record back under the name and snapshot that it gets here.

    Raises:
        IntegrityError: `bad_container_record`, it does not have the shape that `encode_container` gives.
    """
    try:
        container = Container(
            id=str(data["id"]),
            image=str(data["image"]),
            labels=dict(data["labels"]),
            runtime_name=str(data["runtime"]["name"]),
            runtime_options=_decode_any(data["runtime"]["options"]),
            spec=_decode_any(data["spec"]),
            snapshotter=str(data["snapshotter"]),
            snapshot_key=snapshot_key,
            extensions={key: _decode_any(value) for key, value in data["extensions"].items()},
        )
        stdio = Stdio(stdout=str(data["stdio"]["stdout"]), stderr=str(data["stdio"]["stderr"]))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise IntegrityError("the checkpoint's container record is malformed", code="bad_container_record") from error
    return replace(container, id=name), stdio


def _encode_any(message: AnyMessage | None) -> dict[str, str] | None:
    if message is None:
        return None
    return {"type_url": message.type_url, "value": base64.b64encode(message.value).decode()}


def _decode_any(data: dict[str, str] | None) -> AnyMessage | None:
    if data is None:
        return None
    return AnyMessage(type_url=data["type_url"], value=base64.b64decode(data["value"]))
