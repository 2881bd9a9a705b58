"""What we talk about: frozen values that cross every layer. No I/O here."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from migrator.models.drains import Cordon, DrainOptions
from migrator.models.generations import family_of, is_generation
from migrator.models.hooks import Hooks
from migrator.models.phase import JobKind, JobState, Phase
from migrator.models.retention import ForgetRequest, PruneRequest, VerifyRequest
from migrator.models.volumes import VolumePolicy

Facts = dict[str, Any]
"""A JSON object that a step hands to the steps after it. Never holds secrets or memory."""


class StepStatus(StrEnum):
    """Where one step of a job stands."""

    PENDING = "pending"
    STARTED = "started"
    DONE = "done"
    FAILED = "failed"
    UNDOING = "undoing"
    UNDONE = "undone"


class StepAction(StrEnum):
    """What a host is asked to do with a step."""

    RUN = "run"
    UNDO = "undo"
    OBSERVE = "observe"


class TcpPolicy(StrEnum):
    """What becomes of the container's open TCP connections."""

    KEEP = "keep"
    """They go on where the container goes on; refused before the freeze where they cannot."""
    CLOSE = "close"
    """The restored program finds them closed."""
    REFUSE = "refuse"
    """A container that has any is not touched."""


class Mode(StrEnum):
    """When a restored program gets its memory."""

    AUTO = "auto"
    """As the forecast says is better."""
    EAGER = "eager"
    """All of it before it runs."""
    LAZY = "lazy"
    """It runs at once; each page comes when it is touched, or soon."""


class StorePath(StrEnum):
    """In which form memory goes through the object store."""

    CHUNKS = "chunks"
    """In pieces that are sent once, most of them ahead of the freeze."""
    CONTENT = "content"
    """As the one archive that containerd's own checkpoints have: every tool can read it, and all of it moves within the
    freeze."""


class NetworkPolicy(StrEnum):
    """How what is restored is connected."""

    KEEP = "keep"
    """As it was; under another name with an address of its own in the same network."""
    NONE = "none"
    """Alone: its own addresses in a network namespace that nothing leads out of."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What decides whether a drill has gone well."""

    command: str = ""
    """Run in the container, as a hook is, until it succeeds; without one the program must run that long."""
    timeout_s: float | None = None

    @property
    def limit_s(self) -> float:
        """How long it is tried, or watched."""
        return self.timeout_s or (PROBE_S if self.command else WATCH_S)


PROBE_S = 30.0
WATCH_S = 5.0


@dataclass(frozen=True, slots=True)
class JobRequest:
    """What somebody asked for.

    A migration needs `source_host`, `container` and `target_host`; a preflight asks about a migration and has all that
    the migration would have. A checkpoint needs `source_host` and `container`; a restore `checkpoint_id` and
    `target_host`, and may give `new_name`. A drain needs `source_host`, a return `target_host`: the host itself.
    """

    kind: JobKind
    namespace: str = "default"
    source_host: str | None = None
    container: str | None = None
    target_host: str | None = None
    checkpoint_id: str | None = None
    new_name: str | None = None
    keep_checkpoint: bool = False
    """Keep a migration's checkpoint in the object store after it succeeded."""
    volumes: dict[str, VolumePolicy] = field(default_factory=dict)
    """What becomes of bind mounts, by their destination in the container."""
    external_unix_sockets: bool = False
    """Let unix sockets through whose other end is outside of the container; the target must have that end, too."""
    tcp: TcpPolicy = TcpPolicy.KEEP
    hooks: Hooks = field(default_factory=Hooks)
    """What runs in the container before its freeze and after it; outranks the container's labels."""
    volumes_at: str = ""
    """Below this directory and the container's name come the volumes of a restore that are made."""
    network: NetworkPolicy = NetworkPolicy.KEEP
    probe: Probe = field(default_factory=Probe)
    forget: ForgetRequest | None = None
    """What a job that forgets is to forget."""
    prune: PruneRequest | None = None
    verify: VerifyRequest | None = None
    mode: Mode = Mode.AUTO
    max_downtime_s: float | None = None
    """A migration whose forecast says that it freezes the program for longer is refused before the freeze."""
    path: StorePath = StorePath.CHUNKS
    """Of a migration; checkpoints have always the archive, backups always chunks."""
    force: bool = False
    """It goes on all the same."""
    bandwidth_bytes_s: int | None = None
    """So much may it move into the store, and out of it, on each host; None: no limit but the hosts' own."""
    bandwidth_in_freeze: bool = False
    """Limits hold also while the program stands still."""
    schedule: str | None = None
    """The name of the schedule that asks, if one does."""
    drain: DrainOptions | None = None
    """Of a drain or a return; None means as usual."""


@dataclass(frozen=True, slots=True)
class Step:
    """One row of a job's plan: one idempotent act on one host."""

    position: int
    name: str
    host: str | None
    """The host it runs on; None means the controller itself."""
    phase: Phase
    status: StepStatus = StepStatus.PENDING
    attempt: int = 0
    started_at: datetime | None = None
    finished_at: datetime | None = None
    dispatched_at: datetime | None = None
    duration_s: float | None = None
    """What the act itself took, measured where it ran by a monotonic clock."""
    progress_bytes: int = 0
    total_bytes: int = 0
    facts: Facts = field(default_factory=dict)
    failure: Facts | None = None
    """`MigratorError.to_dict()` of what went wrong."""


class Keep(StrEnum):
    """Which copy an operator wants to go on."""

    SOURCE = "source"
    TARGET = "target"


@dataclass(frozen=True, slots=True)
class Resolution:
    """What an operator decided about a job that could not go on by itself."""

    at: datetime
    keep: Keep
    actor: str
    """Who decided, as they said themselves."""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Job:
    """A row of work and its steps in order."""

    id: str
    request: JobRequest
    phase: Phase
    version: int
    """Raised by every write; the compare-and-set token."""
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None = None
    idempotency_key: str | None = None
    workload_id: str | None = None
    epoch: int = 0
    """The workload's epoch that this job's commands carry."""
    checkpoint_id: str | None = None
    cancel_requested: bool = False
    failure: Facts | None = None
    resolutions: tuple[Resolution, ...] = ()
    """Oldest first."""
    steps: tuple[Step, ...] = ()

    @property
    def alone_with(self) -> str | None:
        """What no two unfinished jobs may work on at once; None if that is nothing.

        A drain or a return has its host, a restore under its own name what it goes on with.
        """
        request = self.request
        if request.kind is JobKind.RESTORE and self.workload_id is not None and is_generation(self.workload_id):
            return f"workload {family_of(self.workload_id)}"
        if request.drain is not None and request.drain.dry_run:
            return None
        host = {JobKind.DRAIN: request.source_host, JobKind.RETURN: request.target_host}.get(request.kind)
        return None if host is None else f"host {host}"

    @property
    def state(self) -> JobState:
        """The short answer to "how is it going?"."""
        return self.phase.state

    @property
    def facts(self) -> Facts:
        """What all steps so far found out, merged in step order."""
        merged: Facts = {}
        for step in self.steps:
            merged.update(step.facts)
        return merged


@dataclass(frozen=True, slots=True)
class Host:
    """A machine with containerd and a worker, as last seen."""

    name: str
    seen_at: datetime
    """When its last heartbeat arrived, by the controller's clock."""
    started_at: datetime | None = None
    facts: Facts = field(default_factory=dict)
    """Versions (`containerd`, `runc`, `criu`, `kernel`, `migrator`), `cpus`, `memory_bytes`, …"""


@dataclass(frozen=True, slots=True)
class Sight:
    """What a host sees of itself: it tells so every few seconds, and when it is asked."""

    containers: list[ContainerView]
    """All that there are; what is not among them is absent."""
    epochs: dict[str, int]
    """The highest epoch it has seen of each workload that it remembers."""


@dataclass(frozen=True, slots=True)
class ContainerView:
    """A container as its host saw it at one moment."""

    host: str
    namespace: str
    name: str
    status: str
    """containerd's word: created, running, paused, stopped; `none` when it has no task."""
    image: str = ""
    pid: int = 0
    memory_bytes: int = 0
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Workload:
    """One container identity that moves between hosts; has one owner and an epoch."""

    id: str
    namespace: str
    container: str
    owner_host: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A frozen container, sealed in the object store under an OCI index."""

    id: str
    workload_id: str
    job_id: str | None
    host: str
    namespace: str
    container: str
    image: str
    index_digest: str
    size_bytes: int
    """Sum of the sizes of all blobs that the index names, base image included."""
    created_at: datetime
    drilled_at: datetime | None = None
    """When a restore drill of it last came to a verdict."""
    drill_failure: str | None = None
    """Why that drill failed; None if it proved the checkpoint."""
    proven_at: datetime | None = None
    """When a drill last restored it and its probe was content."""
    restore_s: float | None = None
    """What that restore took, from its preparation until the program was seen running."""
    backup: bool = False
    """Its parts are chunks, each stored once."""
    stored_bytes: int = 0
    """What it added to the object store, its base image aside; 0 of what was made before this was counted."""
    pinned_at: datetime | None = None
    """Since when it stays, whatever a policy says; None: it is not pinned."""
    pin_reason: str = ""
    verified_at: datetime | None = None
    """When a verification last looked at it."""
    damage: str = ""
    """What that verification found wrong with it; empty when nothing."""
    schedule: str | None = None
    """The name of the schedule that made it."""


@dataclass(frozen=True, slots=True)
class Following:
    """A step that follows another one on the same host without a word from the controller between them."""

    step: str
    position: int
    attempt: int


@dataclass(frozen=True, slots=True)
class StepCommand:
    """What the controller sends to a host: do this to that step."""

    job_id: str
    step: str
    position: int
    action: StepAction
    attempt: int
    epoch: int
    workload_id: str
    request: JobRequest
    checkpoint_id: str | None
    facts: Facts
    """What the steps before it found out, merged; see `Job.facts`."""
    then: tuple[Following, ...] = ()
    """What the host does right after it, each if the one before went well."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a host answers: how the act went."""

    job_id: str
    step: str
    position: int
    action: StepAction
    attempt: int
    host: str
    ok: bool
    duration_s: float
    facts: Facts = field(default_factory=dict)
    failure: Facts | None = None


@dataclass(frozen=True, slots=True)
class HostView:
    """A host and whether its worker lives."""

    host: Host
    alive: bool
    cordon: Cordon | None = None


@dataclass(frozen=True, slots=True)
class ContainerListing:
    """What the asked hosts saw, and the errors (`MigratorError.to_dict()`) of those that did not answer."""

    containers: list[ContainerView]
    failures: list[Facts]


@dataclass(frozen=True, slots=True)
class CheckpointPart:
    """One blob that a checkpoint's index names."""

    role: str
    media_type: str
    digest: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class CheckpointDetail:
    """A checkpoint with its parts and the facts of its origin (the index's annotations)."""

    checkpoint: Checkpoint
    parts: list[CheckpointPart]
    facts: dict[str, str]


@dataclass(frozen=True, slots=True)
class Measures:
    """What a job's phases took and moved; None where a figure does not apply (yet)."""

    freeze_ms: float | None = None
    dump_ms: float | None = None
    upload_ms: float | None = None
    fetch_ms: float | None = None
    restore_ms: float | None = None
    orchestration_ms: float | None = None
    total_ms: float | None = None
    bytes_uploaded: int | None = None
    bytes_downloaded: int | None = None
    checkpoint_bytes: int | None = None
