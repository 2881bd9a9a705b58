"""The server's part: ask hosts how they are and wait for their answers, which come by way of the database."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Protocol

from migrator.errors import MigratorError, Unavailable
from migrator.models.housekeeping import Check, Examination, HostExamination, Level
from migrator.models.session import Database
from migrator.service.identifiers import new_id
from migrator.service.messages import EXAMINATION

LOOK_S = 10.0
"""How long a host may take to look at itself."""
SILENT_LOOK_S = 2.0
"""The same for one that seems silent: it is asked all the same, since its clock may be what is wrong."""
FIX_S = 75.0
POLL_S = 0.05
DOUBTFUL_CLOCK = timedelta(seconds=1)
WRONG_CLOCK = timedelta(seconds=10)
"""Commands and heartbeats expire after 30 s, by the receiver's clock."""


class Asks(Protocol):
    """The way to the hosts."""

    def ask_host_to_examine(self, host: str, token: str, *, sweep: bool) -> None:
        """Ask a host to look at itself.

        Raises:
            Unavailable: `broker_unavailable`.
        """


def ask_hosts(
    database: Database, bell: Asks, names: Sequence[str], silent: Mapping[str, MigratorError], *, fix: bool
) -> list[HostExamination]:
    """Ask hosts and return what each answered, or why it did not.

    Args:
        database: Where the controller puts their answers.
        bell: The way to the hosts.
        names: The hosts.
        silent: Those without a live worker, and what to say of them if they really do not answer.
        fix: Whether they are to remove what nobody needs.
    """
    answers: dict[str, HostExamination] = {}
    tokens: dict[str, str] = {}
    asked_at = datetime.now(UTC)
    for name in names:
        tokens[name] = new_id("exam")
        try:
            bell.ask_host_to_examine(name, tokens[name], sweep=fix)
        except Unavailable as error:
            answers[name] = _failed(name, error.on(name))
    began = time.monotonic()
    while True:
        waiting = [name for name in names if name not in answers]
        for name in waiting:
            if examination := _find(database, tokens[name]):
                answers[name] = HostExamination(name, with_clock(examination, asked_at, datetime.now(UTC)))
            elif time.monotonic() - began > (SILENT_LOOK_S if name in silent else FIX_S if fix else LOOK_S):
                answers[name] = _failed(name, silent.get(name) or _late(name))
        if len(answers) == len(names):
            return [answers[name] for name in names]
        time.sleep(POLL_S)


def with_clock(examination: Examination, asked_at: datetime, answered_at: datetime) -> Examination:
    """Add what can be said of the host's clock: it looked at some moment between question and answer."""
    if examination.taken_at is None:
        return examination
    early, late = asked_at - examination.taken_at, examination.taken_at - answered_at
    apart = max(early, late, timedelta())
    level = Level.FINE if apart < DOUBTFUL_CLOCK else Level.DOUBTFUL if apart < WRONG_CLOCK else Level.WRONG
    value = f"{apart.total_seconds():.1f} s {'behind' if early > late else 'ahead of'} the control plane"
    check = Check(
        "clock",
        level,
        "agrees with the control plane" if level is Level.FINE else value,
        "" if level is Level.FINE else "set the clocks, for example with chrony: messages expire after 30 s",
    )
    return replace(examination, checks=(*examination.checks, check))


def _find(database: Database, token: str) -> Examination | None:
    with database.transaction(write=False) as tx:
        report = tx.examinations.find(token)
    return EXAMINATION.unpack(report) if report is not None else None


def _failed(host: str, error: MigratorError) -> HostExamination:
    return HostExamination(host, failure=error.to_dict())


def _late(host: str) -> MigratorError:
    return Unavailable(
        f"host '{host}' did not say in time how it is",
        code="host_silent",
        host=host,
        remedy="see that `migrator controller` runs, through which it answers; then see its worker's log",
    )
