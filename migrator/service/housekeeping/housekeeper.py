"""Looks for leftovers on this host, asks the controller about them, looks again, and removes what may go."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Protocol

import structlog

from migrator.errors import MigratorError, NotFound
from migrator.models.housekeeping import Check, Clearance, Examination, Fate, Finding, FindingKind, Question
from migrator.service.host import Host
from migrator.service.housekeeping.firewall import find_network_locks
from migrator.service.housekeeping.frozen import find_frozen
from migrator.service.housekeeping.judging import judge
from migrator.service.housekeeping.leftovers import Leftover, find_leftovers

log = structlog.get_logger()


class Asks(Protocol):
    """The way to the controller."""

    def ask_clearance(self, host: str, token: str, question: Question, *, sweep: bool) -> None:
        """Ask which of these are over, gone or owned; the answer comes as a message.

        Raises:
            Unavailable: `broker_unavailable`.
        """

    def show_examination(self, host: str, token: str, examination: Examination) -> None:
        """Send what was found.

        Raises:
            Unavailable: `broker_unavailable`.
        """


def utc_now() -> datetime:
    """This host's clock."""
    return datetime.now(UTC)


class Housekeeper:
    """Keeps one host tidy.

    Args:
        host: What steps work with.
        controller: The way to the controller.
        check_health: Says how the host is.
        look: Finds what lies about.
        now: The clock.
    """

    def __init__(
        self,
        host: Host,
        controller: Asks,
        check_health: Callable[[], tuple[Check, ...]],
        *,
        look: Callable[[Host], Iterator[Leftover]] | None = None,
        now: Callable[[], datetime] = utc_now,
    ):
        self._host = host
        self._controller = controller
        self._check_health = check_health
        self._look = look or look_around
        self._now = now
        self._one_at_a_time = threading.Lock()

    def ask(self, token: str = "", *, sweep: bool = True) -> None:
        """Look, and ask the controller about what was found. Nothing is removed before it has answered.

        Args:
            token: Under which the result is to be sent; none for a sweep that nobody asked for.
            sweep: Whether to remove what may go.
        """
        found = list(self._found())
        question = Question(
            jobs=_sorted(left.job_id for left in found),
            workloads=_sorted(left.workload_id for left in found),
            containers=_sorted(left.container for left in found),
        )
        self._controller.ask_clearance(self._host.name, token, question, sweep=sweep)

    def conclude(self, token: str, clearance: Clearance, *, sweep: bool) -> None:
        """Look again, remove what the controller's answer covers, and tell the one who asked."""
        with self._one_at_a_time:
            findings = [self._deal_with(left, clearance, sweep) for left in self._found()]
        if token:
            told = tuple(finding for finding in findings if not _goes_without_saying(finding))
            examination = Examination(told, self._check_health(), self._now())
            self._controller.show_examination(self._host.name, token, examination)

    def _found(self) -> Iterator[Leftover]:
        """What can be found; a containerd that is down hides the rest, and must not keep the host from answering."""
        try:
            yield from self._look(self._host)
        except MigratorError as error:
            log.warning("cannot look for leftovers", error=str(error))

    def _deal_with(self, left: Leftover, clearance: Clearance, sweep: bool) -> Finding:
        old = timedelta(seconds=self._host.settings.leftover_age_s)
        finding = judge(left, clearance, old=old, now=self._now())
        return self._remove(left, finding) if sweep and finding.fate is Fate.DUE else finding

    def _remove(self, left: Leftover, finding: Finding) -> Finding:
        try:
            left.remove()
        except (NotFound, FileNotFoundError):
            pass  # somebody else was faster
        except (MigratorError, OSError) as error:
            log.warning("leftover stays", kind=left.kind.value, name=left.name, error=str(error))
            return replace(finding, fate=Fate.FAILED, reason=f"{finding.reason}; {error}")
        log.info("leftover removed", kind=left.kind.value, name=left.name, job=left.job_id, reason=finding.reason)
        return replace(finding, fate=Fate.REMOVED)


def look_around(host: Host) -> Iterator[Leftover]:
    """Look for every kind. What is frozen comes first: a program waits for it."""
    yield from find_frozen(host)
    yield from find_network_locks(host)
    yield from find_leftovers(host)


def _goes_without_saying(finding: Finding) -> bool:
    """A host keeps the epoch of every workload that it has seen and that still exists."""
    return finding.kind is FindingKind.EPOCH and finding.fate is Fate.KEPT


def _sorted(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({name for name in names if name}))
