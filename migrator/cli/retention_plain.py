"""Reports about the catalogue as a whole as plain JSON types."""

from __future__ import annotations

from typing import Any

from migrator.gen.migrator.v1 import migrator_pb2 as pb
from migrator.gen.migrator.v1 import retention_pb2 as retention


def retention_data(job: pb.Job) -> dict[str, Any]:
    """What such a job reports; each is None in other jobs."""
    return {
        "forget": [_judgement(found) for found in job.forget.judged] if job.HasField("forget") else None,
        "prune": _prune(job.prune) if job.HasField("prune") else None,
        "verify": _verify(job.verify) if job.HasField("verify") else None,
    }


def _verify(found: retention.VerifyReport) -> dict[str, Any]:
    counts = {name: getattr(found, name) for name in ("checkpoints", "objects", "read_objects", "read_bytes")}
    names = {name: [*getattr(found, name)] for name in ("added", "mended", "removed")}
    return {**counts, **names, "damaged": [{"id": item.id, "reason": item.reason} for item in found.damaged]}


def _prune(found: retention.PruneReport) -> dict[str, Any]:
    lists = ("unclear", "locked", "damaged")
    values = {field.name: getattr(found, field.name) for field in found.DESCRIPTOR.fields}
    return values | {name: [*values[name]] for name in lists}


def _judgement(found: retention.Judgement) -> dict[str, Any]:
    names = ("id", "workload_id", "host", "container", "size_bytes", "keep")
    created_at = found.created_at.ToDatetime().isoformat(timespec="milliseconds") + "Z"
    return {**{name: getattr(found, name) for name in names}, "created_at": created_at, "reasons": [*found.reasons]}
