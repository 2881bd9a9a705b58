"""The container's spec as a checkpoint holds it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any as Json

from google.protobuf.any_pb2 import Any
from google.protobuf.message import DecodeError

from migrator.errors import IntegrityError

SPEC_LIMIT_BYTES = 4 << 20
DEPTH_LIMIT = 8


def read_limits(data: bytes) -> dict[str, str]:
    """Read what a spec limits (OCI runtime-spec, `linux.resources`), as `memory.limit` and the like, by name.

    Args:
        data: A `google.protobuf.Any` that holds the spec's JSON.

    Raises:
        IntegrityError: `bad_spec`.
    """
    try:
        spec = json.loads(Any.FromString(data).value)
        resources = ((spec.get("linux") or {}).get("resources") or {}) if isinstance(spec, dict) else None
    except (DecodeError, ValueError, RecursionError, AttributeError) as error:
        raise IntegrityError(f"the spec of the checkpoint is malformed: {error}", code="bad_spec") from error
    if not isinstance(resources, dict):
        raise IntegrityError("the spec of the checkpoint is no spec", code="bad_spec")
    return dict(sorted(_numbers("", resources, DEPTH_LIMIT)))


def _numbers(above: str, value: Json, depth: int) -> Iterator[tuple[str, str]]:
    """Give the numbers and words below a value; lists are rules for devices, no limits."""
    if isinstance(value, dict) and depth:
        for name, inner in value.items():
            yield from _numbers(f"{above}.{name}" if above else str(name), inner, depth - 1)
    elif isinstance(value, (int, float, str)) and value != "":
        yield above, str(value)
