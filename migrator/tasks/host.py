"""The queue of a host: commands for its agent, and the request to look."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery import Celery

from migrator.service.agent import HostAgent
from migrator.service.housekeeping.housekeeper import Housekeeper
from migrator.service.messages import CLEARANCE, COMMAND

PERFORM = "host.perform"
LOOK = "host.look"
EXAMINE = "host.examine"
CONCLUDE = "host.conclude"


def register(
    app: Celery,
    agent: HostAgent,
    housekeeper: Housekeeper,
    show: Callable[[], None],
) -> None:
    """Give agent and housekeeper what arrives in the host's queue."""

    def perform(command: dict[str, Any]) -> None:
        agent.perform(COMMAND.unpack(command))

    def examine(token: str, sweep: bool) -> None:
        housekeeper.ask(token, sweep=sweep)

    def conclude(token: str, clearance: dict[str, Any], sweep: bool) -> None:
        housekeeper.conclude(token, CLEARANCE.unpack(clearance), sweep=sweep)

    app.task(name=PERFORM)(perform)
    app.task(name=LOOK)(show)
    app.task(name=EXAMINE)(examine)
    app.task(name=CONCLUDE)(conclude)
