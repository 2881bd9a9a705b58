"""A fake broker: queues that lose, double, delay and reorder."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from migrator.errors import Unavailable
from migrator.models.values import Facts, Outcome, StepCommand
from migrator.service.messages import COMMAND, OUTCOME
from migrator.simulator.faults import CONTROL, Fault, Kind, Place

if TYPE_CHECKING:
    from migrator.simulator.world import World

EXPIRES_S = 30.0
"""As in `tasks.control`: later than this a command is not performed any more."""
FOREVER_S = 1e12


@dataclass(frozen=True, slots=True)
class Message:
    """What travels."""

    sender: str
    queue: str
    name: str
    body: StepCommand | Outcome | str
    expires_s: float
    """By the wall clock of its sender."""


class Broker:
    """Queues by name: one for each host, one for the controllers."""

    def __init__(self, world: World):
        self._world = world
        self._waiting: defaultdict[str, list[Message]] = defaultdict(list)
        self.in_flight = 0
        self.next_fate: Fault | None = None
        """What becomes of the next message."""

    @property
    def quiet(self) -> bool:
        """Whether nothing is on its way to anybody who may still take it."""
        machines = self._world.machines
        waiting = [queue for queue, messages in self._waiting.items() if messages]
        return not self.in_flight and all(queue in machines and machines[queue].destroyed for queue in waiting)

    def send(self, sender: str, queue: str, name: str, body: StepCommand | Outcome | str) -> None:
        """Put a message into a queue.

        Raises:
            Unavailable: `broker_unavailable`, and the sender knows it; a message may also be lost without a word.
        """
        world = self._world
        world.point(Place.SEND, f"{name} to {queue} {_about(body)}")
        expires_s = world.wall_s(sender) + EXPIRES_S if isinstance(body, StepCommand) else FOREVER_S
        message = Message(sender, queue, name, _over_the_wire(body) if world.thorough else body, expires_s)
        if world.thorough:
            world.rules.read(repr(body))
        fate, self.next_fate = self.next_fate, None
        if world.is_cut(sender, queue):
            if world.is_cut(queue, sender):
                raise Unavailable("the broker does not answer", code="broker_unavailable")
            world.tell("lost", name, queue)
            return
        for delay_s in _delays_s(fate):
            self.in_flight += 1
            world.loop.after(delay_s + world.random.uniform(0.001, 0.006), lambda: self._arrive(message))

    def beat(self, host: str, facts: Facts, up_s: float) -> None:
        """Tell a controller that a worker lives; of no use later."""
        controller = self._world.free_controller()
        if controller is not None and not self._world.is_cut(host, CONTROL):
            self._world.run_as(controller, lambda: controller.hear(host, facts, up_s))

    def purge(self, queue: str) -> None:
        """Drop what waits."""
        self._waiting[queue] = []

    def deliver(self, queue: str) -> None:
        """Hand out what waits, if somebody listens."""
        world = self._world
        while self._waiting[queue]:
            receiver = world.receiver(queue)
            if receiver is None:
                return
            message = self._waiting[queue].pop(0)
            if world.wall_s(queue) > message.expires_s:
                world.tell("expired", message.name, queue)
                continue
            world.tell("deliver", message.name, queue, _about(message.body))
            world.run_as(receiver, lambda receiver=receiver, message=message: world.handle(receiver, message.body))  # type: ignore[misc]

    def _arrive(self, message: Message) -> None:
        self.in_flight -= 1
        self._waiting[message.queue].append(message)
        self.deliver(message.queue)


def _delays_s(fate: Fault | None) -> tuple[float, ...]:
    if fate is None:
        return (0.0,)
    return {Kind.LOSE: (), Kind.DUPLICATE: (0.0, fate.for_s), Kind.DELAY: (fate.for_s,)}[fate.kind]


def _over_the_wire(body: StepCommand | Outcome | str) -> StepCommand | Outcome | str:
    if isinstance(body, StepCommand):
        return COMMAND.unpack(COMMAND.pack(body))
    return OUTCOME.unpack(OUTCOME.pack(body)) if isinstance(body, Outcome) else body


def _about(body: StepCommand | Outcome | str) -> str:
    if isinstance(body, str):
        return body
    result = "" if isinstance(body, StepCommand) else " ok" if body.ok else f" {(body.failure or {}).get('code')}"
    return f"{body.step} {body.action.value} #{body.attempt}{result}"
