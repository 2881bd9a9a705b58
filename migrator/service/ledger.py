"""Which commands a host performs: each once, and none after its undo. No threads, no clock: who shares it locks it."""

from __future__ import annotations

import threading
from collections import OrderedDict, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from migrator.errors import InternalError
from migrator.models.values import Outcome, StepAction, StepCommand
from migrator.service.host import Act

REMEMBERED = 4096
"""Outcomes kept for commands that are asked for twice."""

Key = tuple[str, int, StepAction, int]


def key_of(command: StepCommand) -> Key:
    """What makes two commands the same one."""
    return command.job_id, command.position, command.action, command.attempt


def in_a_row(command: StepCommand) -> list[StepCommand]:
    """A command and those that follow it, each for itself; what they need to know comes from the ones before."""
    following = [
        replace(command, step=later.step, position=later.position, attempt=later.attempt, then=())
        for later in command.then
    ]
    return [replace(command, then=()), *following]


@dataclass(slots=True)
class JobRoom:
    """What this host does for one job right now."""

    turn: threading.Lock = field(default_factory=threading.Lock)
    """Acts of one job follow each other; whoever has threads takes turns by this."""
    running: dict[Key, Act] = field(default_factory=dict)
    undone: set[int] = field(default_factory=set)


class Ledger:
    """What this host does and has done."""

    def __init__(self) -> None:
        self._rooms: defaultdict[str, JobRoom] = defaultdict(JobRoom)
        self._finished: OrderedDict[Key, Outcome] = OrderedDict()

    def room(self, job_id: str) -> JobRoom:
        """Where a job's acts are kept."""
        return self._rooms[job_id]

    def take(self, act: Act) -> Outcome | bool:
        """Take a command in.

        Returns:
            True if it is to be performed now; False if that is under way already; its outcome if that is known.
        """
        key, room = key_of(act.command), self._rooms[act.command.job_id]
        if key in room.running:
            return False
        if key in self._finished:
            return self._finished[key]
        room.running[key] = act
        if act.command.action is StepAction.UNDO:
            self._note_undo(room, act.command)
        return True

    def check(self, command: StepCommand) -> None:
        """Refuse a late copy of a step that was undone; asked right before the act.

        Raises:
            InternalError: It was.
        """
        if command.action is StepAction.RUN and command.position in self._rooms[command.job_id].undone:
            raise InternalError(f"step {command.step} of job {command.job_id} was undone before it began")

    def conclude(self, command: StepCommand, outcome: Outcome) -> None:
        """Note that an act is over. A look is not remembered: what was seen once may look otherwise now."""
        key = key_of(command)
        self._rooms[command.job_id].running.pop(key, None)
        if command.action is StepAction.OBSERVE:
            return
        self._finished[key] = outcome
        while len(self._finished) > REMEMBERED:
            job_id = self._finished.popitem(last=False)[0][0]
            if not self._rooms[job_id].running:
                self._rooms.pop(job_id)

    def give_up(self, acts: Iterable[Act]) -> None:
        """Note that acts that were taken in are not performed: one before them failed."""
        for act in acts:
            self._rooms[act.command.job_id].running.pop(key_of(act.command), None)

    def _note_undo(self, room: JobRoom, command: StepCommand) -> None:
        """An undo stops what is under way for its job, and keeps a late copy of its step from running afterwards."""
        room.undone.add(command.position)
        for act in room.running.values():
            if act.command.action is StepAction.RUN:
                act.aborted.set()
