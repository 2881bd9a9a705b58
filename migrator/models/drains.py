"""The drain of a host: what was asked for, each container's way, what is kept about maintenance. No I/O here."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from enum import StrEnum
from typing import Any

PARALLEL = 4
"""Containers on their way at once, if nobody says otherwise."""


@dataclass(frozen=True, slots=True)
class DrainOptions:
    """How a host is drained, or how what was moved comes back."""

    targets: tuple[str, ...] = ()
    """The hosts that may take containers; none means any."""
    selector: str = ""
    """Labels of the containers that are meant; empty means all. See `service.selectors`."""
    namespaces: tuple[str, ...] = ()
    """containerd's namespaces that are meant; none means all."""
    parallel: int = PARALLEL
    dry_run: bool = False
    """Only make the plan."""
    plan_id: str | None = None
    """A dry run whose plan is to be followed."""
    return_after_s: float | None = None
    """So long after its end, what was moved comes back by itself."""
    skip_refused: bool = False
    """A container that cannot move is no failure."""

    @staticmethod
    def from_facts(facts: dict[str, Any]) -> DrainOptions:
        """Read what `asdict` wrote and JSON kept."""
        lists = {name: tuple(facts.get(name, ())) for name in ("targets", "namespaces")}
        return DrainOptions(**(facts | lists))


class PassageStatus(StrEnum):
    """How far a container is on its way off a host."""

    WAITING = "waiting"
    """It has no target yet."""
    ASKED = "asked"
    """A preflight looks whether its target can take it."""
    PLACED = "placed"
    """It has a target."""
    MOVING = "moving"
    MOVED = "moved"
    REFUSED = "refused"
    """No host can take it; it stays, and nothing was touched."""
    FAILED = "failed"
    """Its migration failed."""
    SKIPPED = "skipped"
    """There is nothing to move."""


STAYS = frozenset({PassageStatus.REFUSED, PassageStatus.FAILED})
ENDED = STAYS | {PassageStatus.MOVED, PassageStatus.SKIPPED}
OUT = frozenset({PassageStatus.ASKED, PassageStatus.MOVING})
"""A job of its own is under way."""
RESERVES = OUT | {PassageStatus.PLACED}
"""Its target must keep room for it."""


@dataclass(frozen=True, slots=True)
class Passage:
    """One container on its way from host to host."""

    namespace: str
    container: str
    source: str
    status: PassageStatus = PassageStatus.WAITING
    target: str | None = None
    workload_id: str | None = None
    """Known of what comes back."""
    memory_bytes: int = 0
    disk_bytes: int = 0
    """What it needs on its target's disks; 0 until a preflight has told."""
    job_id: str | None = None
    """The job that looks after it now, or did last."""
    phase: str = ""
    """Where that job stands, or what it waits for."""
    attempts: int = 0
    """The jobs that have looked after it."""
    failures: int = 0
    """Those of them that failed in ways that may pass."""
    refusals: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Why a host cannot take it, by host: `MigratorError.to_dict()`."""
    reason: dict[str, Any] | None = None
    """Why it stays: `MigratorError.to_dict()`."""

    @property
    def name(self) -> str:
        """How people call it."""
        return f"{self.namespace}/{self.container}"

    def to_facts(self) -> dict[str, Any]:
        """Return the JSON form that stands among a step's facts, without what goes without saying."""
        told = asdict(self)
        return {name: value for name, value in told.items() if name in _NAMES or value != _DEFAULTS[name]}

    @staticmethod
    def from_facts(facts: dict[str, Any]) -> Passage:
        """Read what `to_facts` wrote."""
        return Passage(**(facts | {"status": PassageStatus(facts.get("status", PassageStatus.WAITING))}))


_NAMES = ("namespace", "container", "source")
_DEFAULTS: dict[str, Any] = {item.name: {} if item.name == "refusals" else item.default for item in fields(Passage)}


@dataclass(frozen=True, slots=True)
class Cordon:
    """A host that takes no new containers."""

    host: str
    since: datetime
    actor: str = ""
    """Who said so."""
    reason: str = ""
    drain_id: str | None = None
    """The job that drains it, or did last."""
    return_at: datetime | None = None
    """When what was moved comes back by itself."""


@dataclass(frozen=True, slots=True)
class Displacement:
    """A workload that a drain has moved off its host."""

    home: str
    workload_id: str
    namespace: str
    container: str
    host: str
    """Where the drain put it."""
    drain_id: str
    moved_at: datetime
