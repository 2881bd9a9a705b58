"""The queue of a host: commands for its agent, and the request to look."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery import Celery

from migrator.models.values import ContainerView
from migrator.service.agent import HostAgent
from migrator.service.messages import unpack_command

PERFORM = "host.perform"
LOOK = "host.look"


def register(
    app: Celery, agent: HostAgent, look: Callable[[], list[ContainerView]], show: Callable[[list[ContainerView]], None]
) -> None:
    """Give the agent what arrives in the host's queue."""

    def perform(command: dict[str, Any]) -> None:
        agent.perform(unpack_command(command))

    def answer() -> None:
        show(look())

    app.task(name=PERFORM)(perform)
    app.task(name=LOOK)(answer)
