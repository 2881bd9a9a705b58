"""A controller: the real conductor on the simulated lines."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from migrator.errors import MigratorError
from migrator.models.values import Facts, Outcome, Sight, StepCommand
from migrator.service.control.conductor import Conductor
from migrator.service.control.control_steps import control_steps
from migrator.service.control.stand_ins import stand_ins
from migrator.simulator.actor import Actor
from migrator.simulator.faults import CONTROL

if TYPE_CHECKING:
    from migrator.simulator.world import World

TICK_S = 0.5
SILENT_S = 4.0
START = datetime(2026, 1, 1, tzinfo=UTC)


class Controller(Actor):
    """One process of `migrator controller`."""

    def __init__(self, world: World):
        super().__init__(CONTROL)
        self._world = world
        self.conductor = Conductor(
            world.database,
            self,
            control_steps(world.database, world.checkpoints),
            stand_ins(world.checkpoints),
            host_silent_s=SILENT_S,
            let_run=world.verdicts.let_run,
            now=self.now,
        )

    def now(self) -> datetime:
        """The wall clock here."""
        return START + timedelta(seconds=self._world.wall_s(CONTROL))

    def begin(self) -> None:
        """Tick from now on, and take what waits."""
        self._world.loop.after(0.0, lambda: self._world.run_as(self, self._tick))
        self._world.broker.deliver(CONTROL)

    def tick(self) -> None:
        """Look after every job."""
        self._world.tell("tick")
        try:
            self.conductor.tick()
        except MigratorError as error:
            self._world.tell("the tick failed", str(error))

    def handle(self, body: Outcome | str) -> None:
        """Take an answer or a bell; a failure is logged, the message is gone."""
        try:
            if isinstance(body, Outcome):
                self.conductor.receive(body)
            else:
                self.conductor.advance(body)
        except MigratorError as error:
            self._world.tell("a message was not handled", str(error))

    def hear(self, host: str, facts: Facts, up_s: float) -> None:
        """Take a heartbeat."""
        try:
            self.conductor.record_heartbeat(host, facts, up_s)
        except MigratorError as error:
            self._world.tell("a heartbeat was not noted", str(error))

    def see(self, host: str, sight: Sight) -> None:
        """Take what a host sees."""
        try:
            self.conductor.record_sight(host, sight)
        except MigratorError as error:
            self._world.tell("a look was not noted", str(error))

    def send_command(self, host: str, command: StepCommand) -> None:
        """See `conductor.Sender`."""
        self._world.broker.send(CONTROL, host, "perform", command)

    def _tick(self) -> None:
        self._world.loop.after(TICK_S, lambda: self._world.run_as(self, self._tick))
        self.tick()
