"""What each phase of a job took, and what of it was neither dump nor transfer nor restore."""

from __future__ import annotations

from migrator.models.values import Job, Measures, Step

WORK = ("dump", "upload", "fetch", "restore")
FROZEN = (*WORK, "read-back")
"""Inside the freeze these do the work that grows with the container; all the rest is orchestration."""


def measure(job: Job) -> Measures:
    """Add up a job's steps. Times in ms; a figure that does not apply is None."""
    steps = {step.name: step for step in job.steps}
    freeze_ms = _freeze_ms(steps)
    work = [_took_ms(steps.get(name)) for name in WORK]
    end = job.finished_at
    return Measures(
        freeze_ms=freeze_ms,
        dump_ms=work[0],
        upload_ms=work[1],
        fetch_ms=work[2],
        restore_ms=work[3],
        orchestration_ms=_orchestration_ms(steps, freeze_ms),
        total_ms=(end - job.created_at).total_seconds() * 1000 if end else None,
        bytes_uploaded=_bytes(job, "image_uploaded_bytes", "sent_ahead_bytes", "uploaded_bytes"),
        bytes_downloaded=_bytes(job, "image_downloaded_bytes", "fetched_ahead_bytes", "downloaded_bytes"),
        checkpoint_bytes=_bytes(job, "checkpoint_bytes"),
    )


def _freeze_ms(steps: dict[str, Step]) -> float | None:
    """From the pause to the moment the program runs again, by the controller's clock: never less than it was."""
    freeze = steps.get("freeze")
    end = steps.get("thaw") or steps.get("restore")
    if freeze is None or end is None or freeze.finished_at is None or end.finished_at is None:
        return None
    pause_ms = float(freeze.facts.get("pause_s", 0.0)) * 1000
    dump = steps.get("dump")
    if dump and dump.finished_at and dump.duration_s is not None and "paused_after_s" in dump.facts:
        paused_after_s = float(dump.facts["paused_after_s"])  # it was the dump that froze it
        if "thawed_after_s" in dump.facts:
            return (float(dump.facts["thawed_after_s"]) - paused_after_s) * 1000
        return ((end.finished_at - dump.finished_at).total_seconds() + dump.duration_s - paused_after_s) * 1000
    if dump and dump.finished_at and dump.duration_s is not None and "thawed_after_s" in dump.facts:
        after_s = dump.duration_s - float(dump.facts["thawed_after_s"])  # a backup runs again within its dump
        return ((dump.finished_at - freeze.finished_at).total_seconds() - after_s) * 1000 + pause_ms
    return (end.finished_at - freeze.finished_at).total_seconds() * 1000 + pause_ms


def _orchestration_ms(steps: dict[str, Step], freeze_ms: float | None) -> float | None:
    """The freeze less dump, transfer and restore."""
    if freeze_ms is None:
        return None
    dump = steps.get("dump")
    before_s = float(dump.facts.get("paused_after_s", 0.0)) if dump else 0.0
    if dump and "thawed_after_s" in dump.facts:
        return freeze_ms - (float(dump.facts["thawed_after_s"]) - before_s) * 1000
    frozen = ("dump",) if "thaw" in steps else FROZEN
    work = [steps[name] for name in frozen if name in steps and steps[name].position > steps["freeze"].position]
    return freeze_ms - sum(_took_ms(step) or 0.0 for step in work) + before_s * 1000


def _took_ms(step: Step | None) -> float | None:
    return None if step is None or step.duration_s is None else step.duration_s * 1000


def _bytes(job: Job, *names: str) -> int | None:
    found = [int(job.facts[name]) for name in names if name in job.facts]
    return sum(found) if found else None
