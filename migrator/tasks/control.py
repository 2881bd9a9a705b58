"""The queue `control`: what the server and the hosts tell the controller."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from celery import Celery

from migrator.models.housekeeping import Clearance, Examination, Question
from migrator.models.values import Facts, Outcome, Sight, StepCommand
from migrator.service.control.conductor import Conductor
from migrator.service.control.echo import Echo
from migrator.service.housekeeping.referee import Referee
from migrator.service.messages import CLEARANCE, COMMAND, EXAMINATION, OUTCOME, QUESTION, SIGHT
from migrator.tasks.app import CONTROL_QUEUE, host_queue, send

ADVANCE = "control.advance"
RECEIVE = "control.receive"
RECORD_PROGRESS = "control.record_progress"
RECORD_HEARTBEAT = "control.record_heartbeat"
RECORD_SIGHT = "control.record_sight"
JUDGE = "control.judge"
RECORD_EXAMINATION = "control.record_examination"
HEAR = "control.hear"
EXPIRES_S = 30.0
"""Later than this a command or a report is of no use: what still matters is sent again. Clocks must agree within it."""
EXAMINATION_EXPIRES_S = 3600.0
"""So long that a host answers even when its clock is what is wrong with it."""


def register(app: Celery, conductor: Conductor, referee: Referee, echo: Echo) -> None:
    """Give conductor, referee and echo what arrives in the queue."""

    def receive(outcome: dict[str, Any]) -> None:
        conductor.receive(OUTCOME.unpack(outcome))

    def record_sight(host: str, sight: dict[str, Any]) -> None:
        conductor.record_sight(host, SIGHT.unpack(sight))

    def judge(host: str, token: str, question: dict[str, Any], sweep: bool) -> None:
        referee.judge(host, token, QUESTION.unpack(question), sweep=sweep)

    def hear(sent_at: str) -> None:
        echo.hear(datetime.fromisoformat(sent_at))
        if echo.is_warm():
            conductor.record_hearing(echo.heard_until())

    entries: dict[str, Callable[..., None]] = {
        ADVANCE: conductor.advance,
        RECEIVE: receive,
        RECORD_PROGRESS: conductor.record_progress,
        RECORD_HEARTBEAT: conductor.record_heartbeat,
        RECORD_SIGHT: record_sight,
        JUDGE: judge,
        RECORD_EXAMINATION: referee.record,
        HEAR: hear,
    }
    for name, entry in entries.items():
        app.task(name=name)(entry)


class ControllerLine:
    """A host's way to the controller."""

    def __init__(self, app: Celery):
        self._app = app

    def report(self, outcome: Outcome) -> None:
        """Send how an act went."""
        send(self._app, RECEIVE, CONTROL_QUEUE, OUTCOME.pack(outcome))

    def report_progress(self, command: StepCommand, done_bytes: int, total_bytes: int) -> None:
        """Send how far an act is; of no use later, so it expires."""
        args: tuple[Any, ...] = (command.job_id, command.position, command.attempt, done_bytes, total_bytes)
        send(self._app, RECORD_PROGRESS, CONTROL_QUEUE, *args, expires_s=EXPIRES_S)

    def beat(self, host: str, facts: Facts, up_s: float) -> None:
        """Say that the worker lives, and for how long it has been listening."""
        send(self._app, RECORD_HEARTBEAT, CONTROL_QUEUE, host, facts, up_s, expires_s=EXPIRES_S)

    def show(self, host: str, sight: Sight) -> None:
        """Send what the host sees."""
        send(self._app, RECORD_SIGHT, CONTROL_QUEUE, host, SIGHT.pack(sight), expires_s=EXPIRES_S)

    def ask_clearance(self, host: str, token: str, question: Question, *, sweep: bool) -> None:
        """Ask which of the things that a host came across nobody needs any more."""
        args = (host, token, QUESTION.pack(question), sweep)
        send(self._app, JUDGE, CONTROL_QUEUE, *args, expires_s=EXAMINATION_EXPIRES_S)

    def show_examination(self, host: str, token: str, examination: Examination) -> None:
        """Send what a host found."""
        args = (host, token, EXAMINATION.pack(examination))
        send(self._app, RECORD_EXAMINATION, CONTROL_QUEUE, *args, expires_s=EXAMINATION_EXPIRES_S)


class HostLine:
    """The controller's and the server's way to hosts and controller."""

    def __init__(self, app: Celery):
        self._app = app

    def send_command(self, host: str, command: StepCommand) -> None:
        """Hand a command to a host."""
        send(self._app, "host.perform", host_queue(host), COMMAND.pack(command), expires_s=EXPIRES_S)

    def ring_controller(self, job_id: str) -> None:
        """Say that a job changed."""
        send(self._app, ADVANCE, CONTROL_QUEUE, job_id)

    def call(self, sent_at: datetime) -> None:
        """Let the controller hear itself."""
        send(self._app, HEAR, CONTROL_QUEUE, sent_at.isoformat(), expires_s=EXPIRES_S)

    def ask_host_to_look(self, host: str) -> None:
        """Ask a host to report its containers."""
        send(self._app, "host.look", host_queue(host), expires_s=EXPIRES_S)

    def ask_host_to_examine(self, host: str, token: str, *, sweep: bool) -> None:
        """Ask a host to look at itself, and perhaps to remove what nobody needs."""
        send(self._app, "host.examine", host_queue(host), token, sweep, expires_s=EXAMINATION_EXPIRES_S)

    def send_clearance(self, host: str, token: str, clearance: Clearance, *, sweep: bool) -> None:
        """Answer a host's question."""
        args = (token, CLEARANCE.pack(clearance), sweep)
        send(self._app, "host.conclude", host_queue(host), *args, expires_s=EXAMINATION_EXPIRES_S)
