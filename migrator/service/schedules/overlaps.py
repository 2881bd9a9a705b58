"""What becomes of a fire time whose schedule is still busy with the last one. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from migrator.models.schedule_values import Overlap, Run, RunState
from migrator.service.schedules.settling import Skip, note
from migrator.service.schedules.timetable import Fire

BUSY = "overlap: the last run still goes on"
ONE_WAITS = "overlap: another one waits already"


@dataclass(slots=True)
class Admission:
    """What begins now, what waits, what is left out."""

    begin: list[Fire] = field(default_factory=list)
    wait: list[Fire] = field(default_factory=list)
    skips: list[Skip] = field(default_factory=list)


def admit(policy: Overlap, fires: Iterable[Fire], open_runs: Iterable[Run]) -> Admission:
    """Apply the policy to fire times in their order."""
    states = [run.state for run in open_runs]
    found = Admission()
    for fire in fires:
        busy = bool(states or found.begin)
        waits = RunState.WAITING in states or bool(found.wait)
        if policy is Overlap.ALLOW or not busy:
            found.begin.append(fire)
        elif policy is Overlap.SKIP:
            note(found.skips, fire, BUSY)
        elif waits:
            note(found.skips, fire, ONE_WAITS)
        else:
            found.wait.append(fire)
    return found
