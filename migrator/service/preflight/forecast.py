"""What a migration will move, how long it will freeze its container, and by which way.


A preflight knows sizes alone. A migration is asked once more right before its freeze, when it has measured how fast the
program changes its memory and how fast the object store is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any

from migrator.errors import PreconditionFailed
from migrator.models.phase import JobKind
from migrator.models.values import Facts, Job, JobRequest, Mode, Step
from migrator.service.measures import measure

RECENT_JOBS = 100
"""So many jobs back the fleet's own figures are looked for."""
SAMPLES = 20
FORECAST = "forecast"
"""Fact: what `predict` said."""
MODE = "mode"
"""Fact: the way that was chosen, `eager` or `lazy`."""
LAZY_REFUSED = "lazy_refused"
"""Fact: why the target cannot restore lazily; empty if it can."""
FIXED_MS = 650.0
DUMP_MS_PER_GIB = 1500.0
"""What each GiB of memory adds until its checkpoint is on the target, when nearly all of it went ahead."""
RESTORE_MS_PER_GIB = 1000.0
"""And what it adds to a restore that copies all of it."""
MOVE_MS_PER_GIB = 25_000.0
"""What each GiB takes that must go to the store and from it while the program stands still (some 80 MiB/s each way)."""
USUAL_CHANGE = 0.02
"""The part of its memory that a program has changed by the freeze, as long as nobody has measured it."""
LATE_S = 0.5
"""From the end of the last round ahead to the freeze."""
SMALLEST_SAMPLE_BYTES = 4 << 20
"""What is less tells nothing about a speed."""
WORTH_MS = 150.0
"""A lazy restore must save so much: the program is slower at first, and the source is kept longer."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a job will be like."""

    checkpoint_bytes: int
    """Memory and changed files."""
    image_upload_bytes: int
    image_download_bytes: int
    freeze_ms: float
    basis: str
    """What the freeze was predicted from."""
    mode: str
    """The way that was chosen: `eager` or `lazy`."""
    why: str
    """Why that one."""
    other_ms: float
    """The freeze by the other way."""
    model_ms: float
    """The freeze by the model alone: later forecasts are corrected by what it really was."""
    moving_bytes: int
    """What must move within the freeze."""
    change_bytes_s: float | None = None
    """How fast the program changes its memory; None: nobody has measured it."""
    store_bytes_s: float | None = None
    """How fast memory went to the object store; None: too little went."""

    def to_facts(self) -> Facts:
        """As it is kept with the job."""
        return {name: round(value, 1) if isinstance(value, float) else value for name, value in asdict(self).items()}


def predict(job: Job, past: Sequence[Job]) -> Prediction:
    """Predict what a migration moves and how long it freezes; a size that preflight did not find out counts as 0.

    Args:
        job: A preflight whose hosts have answered, or a migration before its freeze.
        past: Jobs that succeeded, newest first. How far their freezes were from the model corrects it.
    """
    load = _Load.of(job)
    models = {mode: load.freeze_ms(mode) for mode in (Mode.EAGER, Mode.LAZY)}
    known = {mode: _ratios(past, mode) for mode in models}
    expected = {mode: models[mode] * (median(known[mode]) if known[mode] else 1.0) for mode in models}
    mode, why = choose(job.request, expected, str(job.facts.get(LAZY_REFUSED, "")))
    other = Mode.LAZY if mode is Mode.EAGER else Mode.EAGER
    return Prediction(
        checkpoint_bytes=load.memory_bytes + load.files_bytes,
        image_upload_bytes=int(job.facts.get("image_upload_bytes", 0)),
        image_download_bytes=int(job.facts.get("image_download_bytes", 0)),
        freeze_ms=expected[mode],
        basis=_basis(len(known[mode])),
        mode=mode.value,
        why=why,
        other_ms=expected[other],
        model_ms=models[mode],
        moving_bytes=load.moving_bytes,
        change_bytes_s=load.change_bytes_s,
        store_bytes_s=load.store_bytes_s,
    )


def choose(request: JobRequest, expected_ms: dict[Mode, float], refused: str) -> tuple[Mode, str]:
    """Choose how the program gets its memory, and say why.

    Args:
        request: What was asked for.
        expected_ms: The freeze by either way.
        refused: Why it cannot come lazily; empty if it can.
    """
    eager_ms, lazy_ms = expected_ms[Mode.EAGER], expected_ms[Mode.LAZY]
    saved = f"lazy {lazy_ms:.0f} ms frozen, eager {eager_ms:.0f} ms"
    limit_ms = (request.max_downtime_s or 0.0) * 1000
    if request.mode is Mode.EAGER:
        return Mode.EAGER, "it was asked for"
    if refused:
        return Mode.EAGER, f"the target cannot restore lazily: {refused}"
    if request.mode is Mode.LAZY:
        return Mode.LAZY, "it was asked for"
    if limit_ms and eager_ms <= limit_ms:
        return Mode.EAGER, f"it is within the limit of {limit_ms:.0f} ms: {saved}"
    if limit_ms or eager_ms - lazy_ms >= WORTH_MS:
        return Mode.LAZY, saved
    return Mode.EAGER, f"lazily would save too little: {saved}"


def check_limit(request: JobRequest, prediction: Prediction) -> None:
    """Refuse a migration that would freeze its program for longer than it may, unless it is forced.

    Raises:
        PreconditionFailed: `freeze_too_long`.
    """
    limit_ms = (request.max_downtime_s or 0.0) * 1000
    if not limit_ms or request.force or prediction.freeze_ms <= limit_ms:
        return
    lazily = prediction.mode == Mode.LAZY or prediction.other_ms > limit_ms
    raise PreconditionFailed(
        f"container '{request.container}' would stand still for about {prediction.freeze_ms:.0f} ms "
        f"({prediction.mode}, by {prediction.basis}); at most {limit_ms:.0f} ms are allowed",
        code="freeze_too_long",
        remedy=f"allow more with --max-downtime, go on all the same with --force{'' if lazily else ', take --lazy'}, "
        "or try again when the program changes less of its memory",
    )


def model_ms(memory_bytes: int, mode: Mode = Mode.EAGER) -> float:
    """The model of a container of which nothing but its size is known."""
    return _Load(memory_bytes, 0, int(memory_bytes * USUAL_CHANGE)).freeze_ms(mode)


@dataclass(frozen=True, slots=True)
class _Load:
    """What a freeze has to deal with."""

    memory_bytes: int
    files_bytes: int
    """Changed files and copied volumes: all of them move within the freeze."""
    changed_bytes: int
    """What of the memory will have changed since it went ahead."""
    change_bytes_s: float | None = None
    store_bytes_s: float | None = None

    @classmethod
    def of(cls, job: Job) -> _Load:
        """Read what preflight found out, and what a migration has measured since."""
        size_bytes, steps = int(job.facts.get("estimate_bytes", 0)), {step.name: step for step in job.steps}
        memory_bytes = int(job.facts.get("memory_bytes", size_bytes))
        load = cls(memory_bytes, max(0, size_bytes - memory_bytes), int(memory_bytes * USUAL_CHANGE))
        first, again = steps.get("precopy"), steps.get("precopy-again")
        sent = [_sent(step) for step in (first, again)]
        if again is not None and again.facts and sent[1] is None:  # it saw so much change that it sent nothing
            speed = _speed(sent[0] or 0, first.duration_s if first else None)
            return replace(load, changed_bytes=memory_bytes, store_bytes_s=speed)
        if first is None or again is None or sent[1] is None or sent[0] is None:
            return load
        speed = _speed(sent[0], first.duration_s)
        apart_s = _apart_s(first, again)
        if not apart_s:
            return replace(load, store_bytes_s=speed)
        rate = (sent[1] - sent[0]) / apart_s
        changed_bytes = min(memory_bytes, int(rate * (_since_s(again, steps.get("prefetch-again")) + LATE_S)))
        return replace(load, changed_bytes=changed_bytes, change_bytes_s=rate, store_bytes_s=speed)

    @property
    def moving_bytes(self) -> int:
        """What must move within the freeze."""
        return self.files_bytes + self.changed_bytes

    def freeze_ms(self, mode: Mode) -> float:
        """The model."""
        per_gib = DUMP_MS_PER_GIB + (RESTORE_MS_PER_GIB if mode is Mode.EAGER else 0.0)
        move_ms_per_gib = 2 * 1000 * 2**30 / self.store_bytes_s if self.store_bytes_s else MOVE_MS_PER_GIB
        return FIXED_MS + (per_gib * self.memory_bytes + move_ms_per_gib * self.moving_bytes) / 2**30


def _sent(step: Step | None) -> int | None:
    """What had gone ahead when a step ended."""
    return int(step.facts["sent_ahead_bytes"]) if step and "sent_ahead_bytes" in step.facts else None


def _speed(sent_bytes: int, took_s: float | None) -> float | None:
    return sent_bytes / took_s if took_s and sent_bytes >= SMALLEST_SAMPLE_BYTES else None


def _apart_s(first: Step, again: Step) -> float:
    """How far two rounds are apart."""
    if first.started_at is None or again.started_at is None:
        return 0.0
    return (again.started_at - first.started_at).total_seconds()


def _since_s(again: Step, fetched: Step | None) -> float:
    """From the last round's beginning until all of it was on the target."""
    end = fetched.finished_at if fetched and fetched.finished_at else again.finished_at
    return (end - again.started_at).total_seconds() if end and again.started_at else 0.0


def _ratios(past: Sequence[Job], mode: Mode) -> list[float]:
    found = (_ratio(job, mode) for job in past)
    return [ratio for ratio in found if ratio is not None][:SAMPLES]


def _ratio(job: Job, mode: Mode) -> float | None:
    """How long a migration really froze its container, measured by the model."""
    freeze_ms = measure(job).freeze_ms
    if job.request.kind is not JobKind.MIGRATION or freeze_ms is None or job.facts.get("restored", "eager") != mode:
        return None
    told: dict[str, Any] = job.facts.get(FORECAST) or {}
    same = told.get("mode") == mode
    return freeze_ms / (float(told["model_ms"]) if same else model_ms(int(job.facts.get("estimate_bytes", 0)), mode))


def _basis(samples: int) -> str:
    if samples:
        return f"the last {samples} migrations of this fleet" if samples > 1 else "the last migration of this fleet"
    return "a default model"
