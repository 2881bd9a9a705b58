"""What can go wrong, and at which kinds of points."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from random import Random

from migrator.errors import MigratorError, OutcomeUnknown, Unavailable, WorkloadFailed

HOSTS = ("alpha", "beta")
CONTROL = "control"
STORE = "store"


class Place(StrEnum):
    """Kinds of points: everything that a fault can hit right before or right after."""

    ACT = "act"
    """Before, between and after the effects of a step on a host."""
    STORE = "store"
    """Before and after each change of an object, and before each download."""
    SAVE = "save"
    """A job is about to be written to the database; nothing is committed yet."""
    SAVED = "saved"
    """It is committed, and nothing has been sent yet."""
    SEND = "send"
    """A message is about to be sent."""


class Kind(StrEnum):
    """What happens."""

    CRASH = "crash"
    STOP = "stop"
    REBOOT = "reboot"
    DESTROY = "destroy"
    KILL_GUARD = "kill-guard"
    KILL_TASK = "kill-task"
    CUT = "cut"
    LOSE = "lose"
    DUPLICATE = "duplicate"
    DELAY = "delay"
    STORE_AWAY = "store-away"
    STORE_SLOW = "store-slow"
    STORE_TRUNCATES = "store-truncates"
    STORE_CORRUPTS = "store-corrupts"
    STORE_KEEPS_LESS = "store-keeps-less"
    STORE_TURNS_A_BIT = "store-turns-a-bit"
    DISK_FULL = "disk-full"
    CLOCK = "clock"
    CANCEL = "cancel"
    RIVAL = "rival"
    FAIL_PASSING = "fail-passing"
    FAIL_LASTING = "fail-lasting"
    FAIL_UNKNOWN = "fail-unknown"
    DATABASE_AWAY = "database-away"
    COMMIT_UNANSWERED = "commit-unanswered"


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: `who` is hit, and it lasts (or is late, or jumps) for `for_s`."""

    kind: Kind
    who: str = ""
    for_s: float = 0.0

    def __str__(self) -> str:
        words = [self.kind.value, self.who, f"{self.for_s:g}s" if self.for_s else ""]
        return " ".join(word for word in words if word)


FAILURES: dict[Kind, MigratorError] = {
    Kind.FAIL_PASSING: Unavailable("injected: no answer", code="injected"),
    Kind.FAIL_LASTING: WorkloadFailed("injected: refused", code="injected"),
    Kind.FAIL_UNKNOWN: OutcomeUnknown("injected: sent, no answer", code="injected"),
}

PAIRS = tuple(
    f"{one}{way}{other}"
    for one, other in ((CONTROL, "alpha"), (CONTROL, "beta"), ("alpha", STORE), ("beta", STORE), (CONTROL, STORE))
    for way in ("=", ">", "<")
)
"""Who cannot reach whom: both ways, or one of them."""

EVERYWHERE = (
    *(Fault(Kind.CRASH, who, for_s) for who in (*HOSTS, CONTROL) for for_s in (0.3, 6.0)),
    *(Fault(Kind.STOP, who, for_s) for who in (*HOSTS, CONTROL) for for_s in (6.0, 0.6, 40.0)),
    *(Fault(Kind.REBOOT, host, 15.0) for host in HOSTS),
    *(Fault(Kind.DESTROY, host, 15.0) for host in HOSTS),
    *(Fault(Kind.KILL_GUARD, host) for host in HOSTS),
    *(Fault(Kind.KILL_TASK, host) for host in HOSTS),
    *(Fault(Kind.CUT, pair, 8.0) for pair in PAIRS),
    Fault(Kind.STORE_AWAY, for_s=8.0),
    *(Fault(Kind.DISK_FULL, host, 12.0) for host in HOSTS),
    *(Fault(Kind.CLOCK, who, for_s) for who in (*HOSTS, CONTROL) for for_s in (45.0, -45.0, 900.0, -900.0)),
    Fault(Kind.CANCEL),
    Fault(Kind.RIVAL),
)
"""Faults that can hit at any point."""

LOCAL: dict[Place, tuple[Fault, ...]] = {
    Place.ACT: tuple(Fault(kind) for kind in FAILURES),
    Place.STORE: (
        Fault(Kind.STORE_SLOW, for_s=5.0),
        Fault(Kind.STORE_SLOW, for_s=70.0),
        Fault(Kind.STORE_TRUNCATES, for_s=1.0),
        Fault(Kind.STORE_CORRUPTS, for_s=1.0),
        Fault(Kind.STORE_KEEPS_LESS),
        Fault(Kind.STORE_TURNS_A_BIT),
    ),
    Place.SAVE: (Fault(Kind.DATABASE_AWAY),),
    Place.SAVED: (Fault(Kind.COMMIT_UNANSWERED),),
    Place.SEND: (
        Fault(Kind.LOSE),
        Fault(Kind.DUPLICATE, for_s=0.2),
        Fault(Kind.DUPLICATE, for_s=12.0),
        Fault(Kind.DELAY, for_s=1.0),
        Fault(Kind.DELAY, for_s=20.0),
    ),
}
"""Faults that make sense only at points of one kind."""


def faults_at(place: Place, *, variants: bool = True) -> Iterator[Fault]:
    """Every fault that is tried at a point of this kind.

    Args:
        place: The kind of point.
        variants: Also other lengths of the same fault, and lines that are cut one way only.
    """
    tried: set[tuple[Kind, str]] = set()
    for fault in (*EVERYWHERE, *LOCAL[place]):
        known = (fault.kind, fault.who) in tried or any(way in fault.who for way in "<>")
        tried.add((fault.kind, fault.who))
        if variants or not known:
            yield fault


def any_fault(random: Random) -> Fault:
    """A fault by chance, of any length."""
    pool = EVERYWHERE if random.random() < 0.55 else LOCAL[random.choice(list(Place))]
    fault = random.choice(pool)
    return Fault(fault.kind, fault.who, round(fault.for_s * random.uniform(0.2, 2.0), 2))
