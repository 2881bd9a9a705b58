"""One world: two hosts, one or two controllers, a server, a broker, a store, a database, and what goes wrong in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random

from migrator.errors import MigratorError, OutcomeUnknown, Unavailable
from migrator.models.memory import HOSTS as HOST_ROWS
from migrator.models.memory import JOBS
from migrator.models.values import ContainerView, Job, JobRequest, Outcome, Sight, StepAction, StepCommand
from migrator.service import identifiers
from migrator.service.control_plane import ControlPlane
from migrator.service.host import Act
from migrator.service.plans import PLANS
from migrator.simulator.actor import Actor, Died
from migrator.simulator.broker import Broker
from migrator.simulator.controller import Controller
from migrator.simulator.database import SimulatedDatabase
from migrator.simulator.faults import CONTROL, FAILURES, HOSTS, Fault, Kind, Place
from migrator.simulator.loop import Loop
from migrator.simulator.machine import ContainerRecord, Machine, Snapshot, Task, TaskState
from migrator.simulator.programs import CONTAINER, NAMESPACE, Memory
from migrator.simulator.rules import Rules, Violation
from migrator.simulator.store import SimulatedStore
from migrator.simulator.worker import Worker
from migrator.storage.checkpoints import CheckpointStore
from migrator.storage.verdicts import Verdicts

CLOCK_HEALS_S = 20.0
LOOK_S = 0.05
LOOKS = 30
LONGEST_S = 3 * 3600.0
"""A run that has not come to rest after so much virtual time never will."""
SETTLING_S = 3.0
OPERATOR_S = 10.0
"""An operator looks again whether a host that was destroyed is off the list."""
CALLS_LIMIT = 400_000

Schedule = Mapping[int, Sequence[Fault]]
"""Faults by the number of the point at which they strike."""


class World:
    """One run.

    Args:
        seed: Decides how long everything takes.
        schedule: What goes wrong, and at which point.
        controllers: How many there are.
        thorough: Also check rule 8, and pack and unpack every message; slower.
        trace: Called with every line of the trace.
    """

    def __init__(
        self,
        seed: int,
        schedule: Schedule,
        *,
        controllers: int = 1,
        thorough: bool = False,
        trace: Callable[[str], None] | None = None,
    ):
        self.random = Random(seed)
        identifiers.chance = Random(seed + 1)
        self.loop = Loop()
        self.thorough = thorough
        self.places: list[tuple[Place, str]] = []
        """Every point that was passed."""
        self.operator_allowed = False
        self._schedule = schedule
        self._trace = trace
        self._cuts: dict[tuple[str, str], int] = {}
        self._unhealed = 0
        self._numbers = 100
        self._clock_ahead_s = 0.0
        self._script: list[JobRequest] = []
        self.server = self.actor = Actor("server")
        self.rules = Rules(self)
        self.store = SimulatedStore(self)
        self.checkpoints = CheckpointStore(self.store, parallel_looks=1)
        self.verdicts = Verdicts(self.store)
        self.database = SimulatedDatabase(self)
        self.broker = Broker(self)
        self.machines = {name: Machine(self, name) for name in HOSTS}
        self.controllers = [Controller(self) for _ in range(controllers)]
        self._rival: Controller | None = None
        self.plane = ControlPlane(
            self.database, self, self.checkpoints, host_silent_s=4.0, now=lambda: self.controllers[0].now()
        )
        self._begin()

    def _begin(self) -> None:
        machine = self.machines["alpha"]
        machine.containers[CONTAINER] = ContainerRecord(CONTAINER, f"{CONTAINER}-rw", self.new_moment())
        machine.snapshots[f"{CONTAINER}-rw"] = Snapshot(files="changed files")
        task = machine.tasks[CONTAINER] = Task(Memory(CONTAINER, 0.0), TaskState.CREATED, 0.0, number=self.new_pid())
        self.rules.before_run(machine, task)
        task.state = TaskState.RUNNING
        for number, controller in enumerate(self.controllers):
            self.loop.after(0.1 + 0.27 * number, controller.begin)
        for other in self.machines.values():
            other.start_worker()

    # ---- what happens

    def submit(self, request: JobRequest) -> None:
        """Ask for a job, as the API does; it may be refused."""
        try:
            self.plane.create_job(request, None)
        except MigratorError as error:
            self.tell("the job is refused", str(error))

    def follow_with(self, *requests: JobRequest) -> None:
        """Ask for further jobs, each when all before it have ended."""
        self._script += requests

    def run(self) -> None:
        """Let everything happen until nothing moves any more, and check the rules.

        Raises:
            Violation: A rule was broken.
        """
        calls, quiet_since_s = 0, 0.0
        while self.loop.now_s < LONGEST_S and calls < CALLS_LIMIT:
            calls += 1
            self.loop.run_one()
            self.rules.check()
            if not self._at_rest():
                quiet_since_s = self.loop.now_s
            elif self.loop.now_s - quiet_since_s > SETTLING_S:
                break
        self._schedule = {}  # whoever looks now is no part of the world
        self.rules.check_end()

    def _at_rest(self) -> bool:
        if self._unhealed or not self.broker.quiet or not all(job.phase.terminal for job in self.jobs()):
            return False
        standing = [machine for machine in self.machines.values() if not machine.destroyed]
        if any(machine.worker is None or machine.worker.busy for machine in standing):
            return False
        if any(machine.guard_processes for machine in self.machines.values()) and not self._stopped():
            return False
        if self._script:
            self.submit(self._script.pop(0))
            return False
        return True

    def _stopped(self) -> bool:
        return any(job.phase.value == "needs_operator" for job in self.jobs())

    def jobs(self) -> list[Job]:
        """All jobs as they stand."""
        return [*self.database.tables[JOBS].values()]

    def run_as(self, actor: Actor, call: Callable[[], None]) -> None:
        """Let a process do something: not if it is dead, later if it is stopped."""
        if not actor.alive:
            return
        if actor.stopped_until_s > self.loop.now_s:
            self.loop.after(actor.stopped_until_s - self.loop.now_s, lambda: self.run_as(actor, call))
            return
        before, self.actor = self.actor, actor
        try:
            call()
        except Died:
            if actor.alive:
                raise
        finally:
            self.actor = before

    def receiver(self, queue: str) -> Actor | None:
        """Who takes the next message of a queue."""
        if queue == CONTROL:
            return self.free_controller()
        worker = self.machines[queue].worker
        return worker if worker is not None and worker.stopped_until_s <= self.loop.now_s else None

    def free_controller(self) -> Controller | None:
        """A controller that listens."""
        free = [one for one in self.controllers if one.alive and one.stopped_until_s <= self.loop.now_s]
        if len(free) > 1:
            return self.random.choice(free)
        return free[0] if free else None

    def handle(self, receiver: Actor, body: StepCommand | Outcome | str) -> None:
        """Give a message to whoever received it."""
        if isinstance(receiver, Worker) and isinstance(body, StepCommand):
            receiver.receive(body)
        elif isinstance(receiver, Controller) and not isinstance(body, StepCommand):
            receiver.handle(body)

    def ring_controller(self, job_id: str) -> None:
        """See `control_plane.Bell`."""
        self.broker.send("server", CONTROL, "advance", job_id)

    def ask_host_to_look(self, host: str) -> None:
        """See `control_plane.Bell`."""
        for number in range(LOOKS):  # it also looks by itself, later
            self.loop.after(LOOK_S + number, lambda: self._look(host))

    def _look(self, host: str) -> None:
        """Let a worker tell what it sees; of no use later."""
        worker, controller = self.receiver(host), self.free_controller()
        if worker is None or controller is None or self.is_cut(host, CONTROL):
            return
        machine = self.machines[host]
        views = [ContainerView(host, NAMESPACE, name, task.state.value) for name, task in machine.tasks.items()]
        self.run_as(controller, lambda: controller.see(host, Sight(views, {})))

    def ask_host_to_examine(self, host: str, token: str, *, sweep: bool) -> None:
        """See `control_plane.Bell`."""

    def new_worker(self, machine: Machine) -> Worker:
        """Start a worker process."""
        return Worker(machine)

    def new_pid(self) -> int:
        """A number that no process has had."""
        self._numbers += 1
        return self._numbers

    def new_moment(self) -> str:
        """When something is created: never the same twice."""
        return f"moment {self.new_pid()}"

    def wall_s(self, place: str) -> float:
        """The wall clock of a place."""
        ahead_s = self.machines[place].clock_ahead_s if place in self.machines else self._clock_ahead_s
        return self.loop.now_s + ahead_s

    def tell(self, *words: str) -> None:
        """Add a line to the trace."""
        if self._trace is not None:
            self._trace(f"{self.loop.now_s:9.3f}  {self.actor.name:15} {'  '.join(words)}")

    # ---- what goes wrong

    def point(self, place: Place, what: str, *, act: Act | None = None, waits: bool = False) -> None:
        """A point that a fault can hit.

        Args:
            place: What kind of point it is.
            what: What happened last, or happens next.
            act: The act that a failure would hit.
            waits: Whether a process that is stopped here stands still here; otherwise its caller sees to that.

        Raises:
            Died: The process was killed.
            MigratorError: The fault is an answer.
        """
        self.places.append((place, what))
        number, actor, error = len(self.places), self.actor, None
        for fault in self._schedule.get(number, ()):
            self.tell(f"*** {fault}", f"at point {number}: {what}")
            error = self._strike(fault, act) or error
        if waits and actor.stopped_until_s > self.loop.now_s:
            self._wait_until(actor.stopped_until_s)
        if not actor.alive:
            raise Died
        if error is not None:
            raise error

    def _wait_until(self, moment_s: float) -> None:
        """Let the rest of the world go on while one process stands still."""
        actor = self.actor
        self.loop.run_until(moment_s)
        self.actor = actor

    def is_cut(self, one: str, other: str) -> bool:
        """Whether nothing gets from one to the other."""
        return (one, other) in self._cuts

    def heal_after(self, delay_s: float, heal: Callable[[], None]) -> None:
        """End a fault later; no run ends before."""
        self._unhealed += 1

        def end() -> None:
            self._unhealed -= 1
            heal()

        self.loop.after(delay_s, end)

    def _strike(self, fault: Fault, act: Act | None) -> MigratorError | None:
        """Let a fault happen; return the error that it is for whoever runs right now."""
        match fault.kind:
            case Kind.CRASH | Kind.STOP:
                self._hit_process(fault)
            case Kind.REBOOT:
                self.machines[fault.who].reboot(fault.for_s)
            case Kind.DESTROY:
                self.machines[fault.who].destroy()
                self.heal_after(fault.for_s, lambda: self._remove_host(fault.who))
            case Kind.KILL_GUARD:
                self._kill_guards(self.machines[fault.who])
            case Kind.KILL_TASK:
                self.machines[fault.who].kill_tasks()
            case Kind.CUT:
                self._cut(fault)
            case Kind.LOSE | Kind.DUPLICATE | Kind.DELAY:
                self.broker.next_fate = fault
            case Kind.DISK_FULL:
                self.machines[fault.who].disk_full_until_s = self.loop.now_s + fault.for_s
                self.heal_after(fault.for_s, lambda: None)
            case Kind.CLOCK:
                self._set_clock(fault.who, fault.for_s)
                self.heal_after(CLOCK_HEALS_S, lambda: self._set_clock(fault.who, -fault.for_s))
            case Kind.CANCEL:
                self.run_as(self.server, self._cancel)
            case Kind.RIVAL:
                self._let_rival_tick()
            case Kind.DATABASE_AWAY:
                return Unavailable("the database does not answer", code="database_unavailable")
            case Kind.COMMIT_UNANSWERED:
                return OutcomeUnknown("the database did not say whether it committed", code="commit_unanswered")
            case Kind.FAIL_PASSING | Kind.FAIL_LASTING | Kind.FAIL_UNKNOWN:
                return self._failure(fault, act)
            case _:
                self._hit_store(fault)
        return None

    def _hit_process(self, fault: Fault) -> None:
        if fault.who == CONTROL:
            own = self.actor if isinstance(self.actor, Controller) and self.actor is not self._rival else None
            self._hit_controller(own or self.controllers[0], fault)
            return
        machine = self.machines[fault.who]
        if fault.kind is Kind.CRASH:
            machine.stop_worker()
            self.heal_after(fault.for_s, machine.start_worker)
        elif machine.worker is not None:
            machine.worker.stopped_until_s = self.loop.now_s + fault.for_s
            self.heal_after(fault.for_s, lambda: self.broker.deliver(fault.who))

    def _hit_controller(self, controller: Controller, fault: Fault) -> None:
        if fault.kind is Kind.STOP:
            controller.stopped_until_s = self.loop.now_s + fault.for_s
            self.heal_after(fault.for_s, lambda: self.broker.deliver(CONTROL))
        elif controller.alive:
            controller.alive = False
            self.heal_after(fault.for_s, lambda: self._replace_controller(controller))

    def _replace_controller(self, former: Controller) -> None:
        fresh = Controller(self)
        self.controllers[self.controllers.index(former)] = fresh
        fresh.begin()

    def _kill_guards(self, machine: Machine) -> None:
        for guard in machine.guard_processes.values():
            guard.alive = False
            machine.guard_killed = True
        machine.guard_processes = {}

    def _cut(self, fault: Fault) -> None:
        way = next(sign for sign in "=><" if sign in fault.who)
        one, other = fault.who.split(way)
        lines = {"=": [(one, other), (other, one)], ">": [(one, other)], "<": [(other, one)]}[way]
        for line in lines:
            self._cuts[line] = self._cuts.get(line, 0) + 1
        self.heal_after(fault.for_s, lambda: self._mend(lines))

    def _mend(self, lines: list[tuple[str, str]]) -> None:
        for line in lines:
            self._cuts[line] -= 1
            if not self._cuts[line]:
                del self._cuts[line]

    def _set_clock(self, who: str, by_s: float) -> None:
        if who == CONTROL:
            self._clock_ahead_s += by_s
        else:
            self.machines[who].clock_ahead_s += by_s

    def _remove_host(self, name: str) -> None:
        """An operator removes a host that was destroyed, again and again until that is taken."""
        self.run_as(self.server, lambda: self._try_to_remove(name))
        if not self._removed(name):
            self.heal_after(OPERATOR_S, lambda: self._remove_host(name))

    def _removed(self, name: str) -> bool:
        return name not in self.database.tables[HOST_ROWS]

    def _try_to_remove(self, name: str) -> None:
        try:
            self.plane.remove_host(name, "operator")
        except MigratorError as error:
            self.tell("the host is not removed", str(error))

    def _cancel(self) -> None:
        for job in self.jobs():
            if not job.phase.terminal:
                try:
                    self.plane.cancel_job(job.id)
                except MigratorError as error:
                    self.tell("cancel refused", str(error))

    def _let_rival_tick(self) -> None:
        self._rival = self._rival or Controller(self)
        if self.actor is not self._rival:
            self.run_as(self._rival, self._rival.tick)

    def _failure(self, fault: Fault, act: Act | None) -> MigratorError:
        error = FAILURES[fault.kind]
        if fault.kind is Kind.FAIL_LASTING and (act is None or not _has_way_back(act)):
            self.operator_allowed = True
        return type(error)(error.message, code=error.code)

    def _hit_store(self, fault: Fault) -> None:
        until_s = self.loop.now_s + fault.for_s
        match fault.kind:
            case Kind.STORE_AWAY:
                self.store.away_until_s = until_s
            case Kind.STORE_SLOW:
                self._wait_until(until_s)
            case Kind.STORE_TRUNCATES:
                self.store.truncates_until_s = until_s
            case Kind.STORE_CORRUPTS:
                self.store.corrupts_until_s = until_s
            case Kind.STORE_KEEPS_LESS:
                self.store.next_upload_shorter = True
            case Kind.STORE_TURNS_A_BIT:
                self.store.next_upload_turned = True
            case _:
                raise Violation(f"nobody knows what {fault} does")
        self.heal_after(fault.for_s, lambda: None)


def _has_way_back(act: Act) -> bool:
    line = PLANS[act.request.kind][act.command.position]
    return act.command.action is StepAction.RUN and not line.forward_only
