"""The acts that the controller performs itself and that need the object store; those of SQL alone are `decisions`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from migrator.errors import IntegrityError, InvalidRequest, PreconditionFailed
from migrator.models.descriptors import Descriptor
from migrator.models.hooks import HOOKS, RAN_BEFORE, check_hooks, read_hooks
from migrator.models.phase import OWN_CHUNKS, JobKind, Phase
from migrator.models.roles import Role
from migrator.models.session import Database
from migrator.models.streams import OUTPUTS, read_stdio
from migrator.models.values import Checkpoint, Facts, Job
from migrator.models.volumes import VOLUME_ROLE, Volume, VolumePolicy, read_volumes
from migrator.service.catalogue import TARGET_GONE, enter_checkpoint
from migrator.service.network.attachment import pack_attachment, read_attachment
from migrator.service.preflight.forecast import FORECAST, MODE, RECENT_JOBS, check_limit, predict
from migrator.service.retention.pinning import pin
from migrator.service.rewinding import REWOUND, rewound_key
from migrator.storage.checkpoints import CheckpointStore
from migrator.storage.chunks import part_of
from migrator.storage.oci import CheckpointIndex, FactAnnotation
from migrator.storage.own import OwnContent

FRESH_S = 5.0


class ControlStep:
    """One act on the controller. `run` and `undo` may be repeated at any time."""

    name: str

    def run(self, job: Job) -> Facts:
        """Perform the act and say what the steps after it need to know."""
        raise NotImplementedError

    def undo(self, job: Job) -> Facts:
        """Take the act back."""
        del job
        return {}


class LongStep(ControlStep):
    """An act that may take long: it runs beside the others, and `pulse` shows that it lives.

    `pulse` raises `Cancelled` once nobody waits for the act any more.
    """

    def work(self, job: Job, pulse: Callable[[], None]) -> Facts:
        """Perform the act; call `pulse` before each request that may take its time."""
        raise NotImplementedError

    def run(self, job: Job) -> Facts:
        """Perform the act at once."""
        return self.work(job, lambda: None)


class ReadCheckpoint(ControlStep):
    """Read what a restore needs to know from the sealed index."""

    name = "read-checkpoint"

    def __init__(self, database: Database, checkpoints: CheckpointStore):
        self._database = database
        self._checkpoints = checkpoints

    def run(self, job: Job) -> Facts:
        """Return the same facts that a migration learns from its source.

        Raises:
            NotFound: `checkpoint_not_found`.
            PreconditionFailed: `volume_unknown` or `volume_not_copied`.
            IntegrityError: The index is malformed or not the one that was sealed.
        """
        with self._database.transaction(write=False) as tx:
            known = tx.checkpoints.get(str(job.request.checkpoint_id))
        index = self._checkpoints.read_index(known.workload_id, known.id)
        facts = self._facts(job, known, index)
        return {REWOUND: _for_rewind(job, facts)} if job.request.kind is JobKind.REWIND else facts

    def _facts(self, job: Job, known: Checkpoint, index: CheckpointIndex) -> Facts:
        parts = [part_of(part) for part in index.parts]
        return {
            "image": {"name": known.image, "manifest": index.part(Role.IMAGE).to_oci()},
            "snapshot": index.snapshot(),
            "network": pack_attachment(read_attachment(index.told(FactAnnotation.NETWORK))),
            "criu_options": index.told(FactAnnotation.CRIU_OPTIONS) or {},
            **_owed_hooks(index),
            "source_name": known.container,
            "source_criu": index.fact(FactAnnotation.CRIU),
            "checkpoint_workload": known.workload_id,
            "index_digest": known.index_digest,
            "source_traits": {
                "architecture": index.annotations.get(FactAnnotation.ARCHITECTURE, ""),
                "kernel": index.annotations.get(FactAnnotation.KERNEL, ""),
                "cpu_flags": index.annotations.get(FactAnnotation.CPU_FLAGS, ""),
                "criu": index.fact(FactAnnotation.CRIU),
            },
            "stdio": {} if job.request.kind is JobKind.DRILL else read_stdio(index.told(FactAnnotation.STDIO)),
            "volumes": [volume.to_facts() for volume in _volumes(index, job)],
            "volume_bytes": sum(part.size_bytes for part in parts if _is_volume(index.role_of(part))),
            "memory_bytes": part_of(index.part(Role.MEMORY)).size_bytes,
            "estimate_bytes": sum(part.size_bytes for part in parts),
        }


def _for_rewind(job: Job, facts: Facts) -> Facts:
    """The same for what is to take the place of a container that has its rw snapshot still."""
    key = rewound_key(str(job.request.container), job.id)
    return {**facts, "snapshot": {**facts["snapshot"], "key": key}}


class Settle(ControlStep):
    """Put a checkpoint into the catalogue, or take a migration's own out of the store again.

    What ran before a rewind is pinned: it is the way back, until somebody says that it is not needed.
    """

    name = "settle"

    def __init__(self, database: Database, checkpoints: CheckpointStore):
        self._database = database
        self._checkpoints = checkpoints

    def run(self, job: Job) -> Facts:
        """Keep or discard."""
        wanted = job.request.keep_checkpoint or job.facts.get(TARGET_GONE)
        if job.request.kind is JobKind.MIGRATION and not wanted:
            return self._discard(job)
        with self._database.transaction() as tx:
            enter_checkpoint(tx, job)
        if job.request.kind in OWN_CHUNKS:
            OwnContent(self._checkpoints, job.id).keep()
        if job.request.kind is JobKind.REWIND:
            reason = f"ran before the rewind to {job.request.checkpoint_id}"
            pin(self._database, self._checkpoints, str(job.checkpoint_id), reason, job.updated_at)
        return {}

    def _discard(self, job: Job) -> Facts:
        parts = [Descriptor.from_oci(part) for part in job.facts["parts"]]
        OwnContent(self._checkpoints, job.id).withdraw(str(job.workload_id), str(job.checkpoint_id), parts)
        return {"discarded": True}


class Predict(ControlStep):
    """Say what the migration would move and how long it would freeze the container, by what others took."""

    name = "predict"

    def __init__(self, database: Database):
        self._database = database
        self._lock = threading.Lock()
        self._past: Sequence[Job] | None = None
        self._read_s = 0.0

    def run(self, job: Job) -> Facts:
        """Return the forecast in numbers, and the way that was chosen.

        Raises:
            PreconditionFailed: `freeze_too_long`, of a migration alone; nothing was frozen.
        """
        prediction = predict(job, self._recent())
        if job.request.kind is JobKind.MIGRATION:
            check_limit(job.request, prediction)
        return {FORECAST: prediction.to_facts(), MODE: prediction.mode}

    def _recent(self) -> Sequence[Job]:
        """What others took; read again only now and then, for twenty may ask at once."""
        with self._lock:
            if self._past is None or time.monotonic() - self._read_s > FRESH_S:
                with self._database.transaction(write=False) as tx:
                    self._past = tx.jobs.list(phases=frozenset({Phase.SUCCEEDED}), limit=RECENT_JOBS)
                self._read_s = time.monotonic()
            return self._past


def _volumes(index: CheckpointIndex, job: Job) -> list[Volume]:
    """The volumes that the checkpoint tells of, with the policies that the job wants instead."""
    known = {volume.destination: volume for volume in read_volumes(index.told(FactAnnotation.VOLUMES) or [])}
    wanted = job.request.volumes
    if unknown := sorted(wanted.keys() - known.keys()):
        raise PreconditionFailed(
            f"checkpoint {job.request.checkpoint_id} has no volume at {', '.join(unknown)}",
            code="volume_unknown",
            remedy=f"it has {', '.join(known) or 'none'}",
        )
    found = [replace(volume, policy=wanted.get(name, volume.policy)) for name, volume in known.items()]
    if absent := [item.destination for item in found if item.policy is VolumePolicy.COPY and not item.role]:
        raise PreconditionFailed(
            f"checkpoint {job.request.checkpoint_id} does not hold the content of {', '.join(absent)}",
            code="volume_not_copied",
            remedy="declare it shared or empty",
        )
    return found


def _owed_hooks(index: CheckpointIndex) -> Facts:
    """The hook that the restored program waits for, if one made it ready for the freeze.

    Raises:
        IntegrityError: `bad_hooks`.
    """
    told = index.told(FactAnnotation.HOOKS)
    if told is None:
        return {}
    try:
        hooks = read_hooks(told)
        check_hooks(hooks)
    except (TypeError, ValueError, InvalidRequest) as error:
        raise IntegrityError("the hooks of the checkpoint are malformed", code="bad_hooks") from error
    return {HOOKS: hooks.to_facts(), RAN_BEFORE: True}


def _is_volume(role: str) -> bool:
    return role.startswith(VOLUME_ROLE) or role in OUTPUTS


def control_steps(database: Database, checkpoints: CheckpointStore) -> dict[str, ControlStep]:
    """All of them by name."""
    steps: list[ControlStep] = [
        ReadCheckpoint(database, checkpoints),
        Settle(database, checkpoints),
        Predict(database),
    ]
    return {step.name: step for step in steps}
