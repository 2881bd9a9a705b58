"""A host's worker: the real ledger and fence, acts that stand still between two effects."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import replace
from errno import ENOSPC
from pathlib import Path
from typing import TYPE_CHECKING

from migrator.errors import MigratorError, OutcomeUnknown
from migrator.models.values import Facts, Outcome, StepAction, StepCommand
from migrator.service.fence import Fence
from migrator.service.host import Act
from migrator.service.ledger import Ledger, in_a_row
from migrator.service.rewinding import as_seen, as_told
from migrator.simulator.actor import Actor
from migrator.simulator.faults import CONTROL, Place
from migrator.simulator.guard import SimulatedGuards
from migrator.simulator.steps import STEPS
from migrator.simulator.steps.step import Acts, Here

if TYPE_CHECKING:
    from migrator.simulator.machine import Machine

HEARTBEAT_S = 1.0
EFFECT_S = 0.01
"""What an effect takes, roughly."""


class SimulatedFence(Fence):
    """Epochs on a fake disk."""

    def __init__(self, machine: Machine):
        super().__init__(Path("epochs"))
        self._machine = machine

    def highest(self, workload_id: str) -> int:
        """See `Fence.highest`."""
        return self._machine.epochs.get(workload_id, 0)

    def _write(self, workload_id: str, epoch: int) -> None:
        if self._machine.disk_full:
            raise OSError(ENOSPC, "No space left on device")
        self._machine.epochs[workload_id] = epoch


class Worker(Actor):
    """One process of `migrator worker`. What it remembers dies with it."""

    def __init__(self, machine: Machine):
        super().__init__(machine.name)
        self.pid = machine.world.new_pid()
        self._machine = machine
        self._world = machine.world
        self._ledger = Ledger()
        self._fence = SimulatedFence(machine)
        self._here = Here(machine, SimulatedGuards(machine), machine.world.checkpoints, machine.world.verdicts)
        self._turns: defaultdict[str, deque[tuple[Act, Callable[[Outcome], None]]]] = defaultdict(deque)
        self._began_s = machine.world.loop.now_s

    @property
    def busy(self) -> bool:
        """Whether an act is under way."""
        return any(self._turns.values())

    def begin(self) -> None:
        """Drop what waited while nobody listened, then listen and say so."""
        self._world.broker.purge(self.name)
        self._world.run_as(self, self._beat)

    def receive(self, command: StepCommand) -> None:
        """Take a command and those that follow it; see `HostAgent.perform`."""
        acts = [Act(single, lambda *_: None) for single in in_a_row(command)]
        taken = [self._ledger.take(act) for act in acts]
        self._go_along(acts, taken, command.facts)

    def _go_along(self, acts: list[Act], taken: list[Outcome | bool], facts: Facts) -> None:
        """See `HostAgent._perform_row`; called again when an act is over."""
        act, known = acts[0], taken[0]
        if known is True:
            act.command = replace(act.command, facts=facts)
            self._queue(act, lambda outcome: self._go_along(acts, [outcome, *taken[1:]], facts))
        elif isinstance(known, Outcome) and known.ok and len(acts) > 1:
            self._report(known)
            self._go_along(acts[1:], taken[1:], {**facts, **known.facts})
        else:
            self._ledger.give_up(act for act, mine in zip(acts[1:], taken[1:], strict=True) if mine is True)
            if isinstance(known, Outcome):
                self._report(known)

    def _queue(self, act: Act, then: Callable[[Outcome], None]) -> None:
        turns = self._turns[act.command.job_id]
        turns.append((act, then))
        if len(turns) == 1:
            self._start(*turns[0])

    def _start(self, act: Act, then: Callable[[Outcome], None]) -> None:
        acts = self._perform(act)
        self._later(EFFECT_S, lambda: self._go_on(act, acts, "", then))

    def _perform(self, act: Act) -> Acts:
        """See `HostAgent._do`."""
        command, step = act.command, STEPS[act.command.step]
        yield "begin"
        self._ledger.check(command)
        self._fence.check(command)
        its = as_seen(act)
        if command.action is StepAction.RUN:
            act.check_aborted()
            return as_told(command, (yield from step.run(self._here, its)))
        if command.action is StepAction.UNDO:
            return as_told(command, (yield from step.undo(self._here, its)))
        yield "look"
        seen = step.observe(self._here, its)
        if seen == "unknown":
            raise OutcomeUnknown(f"step {command.step} cannot be observed")
        return {"seen": seen}

    def _go_on(self, act: Act, acts: Acts, next_effect: str, then: Callable[[Outcome], None]) -> None:
        """Let an act have its next effect, unless a fault comes first."""
        try:
            coming = self._next(act, acts, next_effect)
        except StopIteration as end:
            facts: Facts = end.value or {}
            self._later(EFFECT_S, lambda: self._end(act, facts, None, then))
        except MigratorError as error:
            failure = error.on(self.name).to_dict()
            self._later(EFFECT_S, lambda: self._end(act, {}, failure, then))
        else:
            name, after_s = coming if isinstance(coming, tuple) else (coming, EFFECT_S)
            delay_s = after_s * self._world.random.uniform(1.0, 1.5)
            self._later(delay_s, lambda: self._go_on(act, acts, name, then))

    def _next(self, act: Act, acts: Acts, next_effect: str) -> str | tuple[str, float]:
        if next_effect:
            try:
                self._point(act, next_effect)
            except MigratorError as error:
                return acts.throw(error)
        return next(acts)

    def _end(self, act: Act, facts: Facts, failure: Facts | None, then: Callable[[Outcome], None]) -> None:
        """Note the outcome and report it; a fault may come first."""
        command = act.command
        try:
            self._point(act, "answer")
        except MigratorError as error:  # all effects are there, and the last of them was told to have failed
            facts, failure = {}, failure or error.on(self.name).to_dict()
        outcome = Outcome(
            job_id=command.job_id,
            step=command.step,
            position=command.position,
            action=command.action,
            attempt=command.attempt,
            host=self.name,
            ok=failure is None,
            duration_s=0.0,
            facts=facts,
            failure=failure,
        )
        self._ledger.conclude(command, outcome)
        turns = self._turns[command.job_id]
        turns.popleft()
        if turns:
            self._start(*turns[0])
        then(outcome)

    def _point(self, act: Act, effect: str) -> None:
        command = act.command
        self._world.point(Place.ACT, f"{self.name} {command.step} {command.action.value}: {effect}", act=act)

    def _report(self, outcome: Outcome) -> None:
        try:
            self._world.broker.send(self.name, CONTROL, "receive", outcome)
        except MigratorError:
            self._world.tell("an answer is lost", outcome.step)

    def _beat(self) -> None:
        facts: Facts = {"boot_id": str(self.pid)}
        self._world.broker.beat(self.name, facts, self._world.loop.now_s - self._began_s)
        self._later(HEARTBEAT_S, self._beat)

    def _later(self, delay_s: float, call: Callable[[], None]) -> None:
        self._world.loop.after(delay_s, lambda: self._world.run_as(self, call))
