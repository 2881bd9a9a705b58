"""What a crash may leave on a host, what is asked and told about it, and how well a host is. No I/O here."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from migrator.models.values import Facts


class FindingKind(StrEnum):
    """What was found."""

    LEASE = "lease"
    SNAPSHOT = "snapshot"
    VIEW = "view"
    INGEST = "ingest"
    CONTAINER = "container"
    DIRECTORY = "directory"
    VOLUME = "volume"
    GUARD = "guard"
    FROZEN = "frozen"
    EPOCH = "epoch"
    FIREWALL = "firewall"
    NETWORK = "network"


class Fate(StrEnum):
    """What becomes of a finding."""

    KEPT = "kept"
    """It may still be needed, or nobody has said that it is not."""
    FOREIGN = "foreign"
    """Not ours: only told."""
    DUE = "due"
    """Nobody needs it: the next sweep removes it."""
    REMOVED = "removed"
    FAILED = "failed"
    """It could not be removed; the next sweep tries again."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that lies about on a host, and why it may go or has to stay."""

    kind: FindingKind
    name: str
    fate: Fate
    reason: str
    namespace: str = ""
    job_id: str = ""
    since: datetime | None = None


class Level(StrEnum):
    """How bad a fact is."""

    FINE = "fine"
    DOUBTFUL = "doubtful"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Check:
    """One fact about a host's health."""

    name: str
    level: Level
    value: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Examination:
    """What a host found when it looked at itself."""

    findings: tuple[Finding, ...] = ()
    checks: tuple[Check, ...] = ()
    taken_at: datetime | None = None
    """By the host's own clock."""


@dataclass(frozen=True, slots=True)
class HostExamination:
    """One host's examination, or the error (`MigratorError.to_dict()`) of one that did not answer."""

    host: str
    examination: Examination | None = None
    failure: Facts | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """What a host wants to know of the controller before it removes anything. Containers are `namespace/name`."""

    jobs: tuple[str, ...] = ()
    workloads: tuple[str, ...] = ()
    containers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Clearance:
    """The controller's answer to one question. What it does not name is not over, not gone and not owned.

    `over` and `gone` are for ever: a job never leaves its end, and the id of a workload is never used again. So an
    answer that arrives late is still true. `owned` and `held` may change.
    """

    over: dict[str, str] = field(default_factory=dict)
    """Jobs that ended and whose commands have all expired, with the phase in which they ended."""
    under_way: tuple[str, ...] = ()
    """Jobs that may still send a command, or wait for an operator."""
    gone: tuple[str, ...] = ()
    """Workloads that no longer exist and of which no job is under way."""
    owned: tuple[str, ...] = ()
    """Containers that are a workload of this host."""
    held: tuple[str, ...] = ()
    """Of these, the ones that a job is working on."""
