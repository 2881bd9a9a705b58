"""What a migration would move, and for how long the program would stand still."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from migrator.models.phase import JobKind
from migrator.models.values import Facts, Job
from migrator.service.measures import measure

RECENT_JOBS = 100
"""So many jobs back the fleet's own figures are looked for."""
SAMPLES = 20
FIXED_MS = 650.0
MS_PER_GIB = 4000.0
"""The default model: what a container without memory takes, and what each GiB of memory and changed files adds."""


def predict(job: Job, past: Sequence[Job]) -> Facts:
    """Predict bytes and freeze time from what preflight found; a size that it could not find out counts as 0.

    Args:
        job: A preflight whose hosts have answered.
        past: Jobs that succeeded, newest first. How far their freezes were from the default model corrects it.
    """
    size_bytes = int(job.facts.get("estimate_bytes", 0))
    ratios = [ratio for other in past if (ratio := _ratio(other)) is not None][:SAMPLES]
    return {
        "checkpoint_bytes": size_bytes,
        "image_upload_bytes": int(job.facts.get("image_upload_bytes", 0)),
        "image_download_bytes": int(job.facts.get("image_download_bytes", 0)),
        "freeze_ms": round(model_ms(size_bytes) * (median(ratios) if ratios else 1.0), 1),
        "basis": _basis(len(ratios)),
    }


def model_ms(size_bytes: int) -> float:
    """The default model."""
    return FIXED_MS + MS_PER_GIB * size_bytes / 2**30


def _ratio(job: Job) -> float | None:
    """How long a migration really froze its container, measured by the default model."""
    freeze_ms = measure(job).freeze_ms
    if job.request.kind is not JobKind.MIGRATION or freeze_ms is None:
        return None
    return freeze_ms / model_ms(int(job.facts.get("estimate_bytes", 0)))


def _basis(samples: int) -> str:
    if samples:
        return f"the last {samples} migrations of this fleet" if samples > 1 else "the last migration of this fleet"
    return f"a default model: {FIXED_MS:.0f} ms and {MS_PER_GIB / 1000:.0f} s for each GiB"
