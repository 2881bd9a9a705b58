"""The nine rules of the design, checked after every event.

1. At most one copy of a program runs, at any instant; and none runs on from an older moment than it had reached,
   unless a reboot destroyed the younger one. (Two futures of one program are as bad as two copies.)
2. There is always a recoverable copy: a task that runs or is frozen, or a sealed checkpoint whose blobs are all there.
   A reboot, or the death of its shim, destroys a task by its nature; from then on a container's record and rw snapshot
   on a disk count too: containerd starts it again from there. Not so if what was destroyed stood still and had been
   sealed: then its checkpoint must stay.
3. A frozen source with an armed guard runs again within the freeze budget, and within 5 s after its worker died. While
   CRIU works on a task nobody can resume it: that time does not count. No source is frozen without a guard, unless the
   guard was killed. After the promise the source waits for the verdict.
   A rollback lets the source run before it sweeps.
4. A step run twice, late or out of order has the effect of once: no effect of a step that is done or undone already,
   none of a job that has ended.
5. An index is visible only when every blob that it names is there and whole.
6. After the end of a job nothing of it is left over.
7. A job ends; one that did not succeed ends with its source running, unless a reboot took it. A job may stop for an
   operator only after an undo, or a step after the point of no return, failed for good (docs/design.md, "Rollback" and
   the plan's lines `prove` and `fill`).
8. Neither memory nor secrets are in messages or rows.
9. Success is said only after the restored container was seen running by another step than the one that started it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from migrator.models.memory import JOBS, WORKLOADS
from migrator.models.phase import JobKind, Phase
from migrator.models.tables import FINISHED
from migrator.models.values import Job, StepAction, StepStatus, Workload
from migrator.service.guards import GuardState
from migrator.service.host import Act
from migrator.service.housekeeping.store import StoreKeeper
from migrator.service.identifiers import find_job
from migrator.service.plans import LEFTOVERS, line_for
from migrator.simulator.guard import BUDGET_S, LOOK_S
from migrator.simulator.machine import Machine, Task, TaskState
from migrator.simulator.programs import IMAGE, MARKER, Memory
from migrator.simulator.sealed import Sealed
from migrator.storage import layout

if TYPE_CHECKING:
    from migrator.simulator.world import World

WORKER_DEAD_S = 5.0
SLACK_S = 2 * LOOK_S
FROM_A_SOURCE = (JobKind.MIGRATION, JobKind.CHECKPOINT, JobKind.BACKUP, JobKind.REWIND, JobKind.PREFLIGHT)
RESTORING = (JobKind.MIGRATION, JobKind.RESTORE, JobKind.REWIND)
BACKWARD = (StepStatus.UNDOING, StepStatus.UNDONE)
ALIVE = (TaskState.RUNNING, TaskState.FROZEN)


class Violation(BaseException):
    """A rule was broken. No code that is tested may catch this."""


@dataclass(slots=True)
class Program:
    """What is known of one program."""

    lived_s: float = 0.0
    """The latest moment of its life that it has reached."""
    destroyed: bool = False
    """A reboot, or the death of its shim, took its latest moments."""
    only_sealed: bool = False
    """What was destroyed stood still and had been sealed: no moment was lost, as long as the checkpoint stays."""


class Rules:
    """Watches one world."""

    def __init__(self, world: World):
        self._world = world
        self.programs: dict[str, Program] = {}
        self.locked: dict[str, str] = {}
        """Programs that a hook has made ready for a freeze, and the job it was for."""
        self._proofs: set[str] = set()
        self._sealed_content = Sealed()
        self._succeeded: set[str] = set()

    # ---- told by the world

    def before_run(self, machine: Machine, task: Task) -> None:
        """Rule 1: a task is about to run."""
        program = self.programs.setdefault(task.memory.program, Program(task.memory.lived_s))
        for other in self._tasks(task.memory.program):
            if other is not task and other.state is TaskState.RUNNING:
                self.broken(1, f"two copies of {task.memory.program} run, the second on {machine.name}")
        if task.memory.lived_s < program.lived_s - 1e-6 and not program.destroyed:
            self.broken(1, f"{task.memory.program} runs on {machine.name} from an older moment than it had reached")
        program.lived_s, program.destroyed, program.only_sealed = task.memory.lived_s, False, False

    def after_run(self, memory: Memory) -> None:
        """A task that ran was frozen or ended."""
        self.programs[memory.program].lived_s = memory.lived_s

    def tasks_lost(self, machine: Machine) -> None:
        """A machine loses its tasks."""
        for task in machine.tasks.values():
            program = self.programs.setdefault(task.memory.program, Program(task.memory.lived_s))
            program.destroyed = True
            self.locked.pop(task.memory.program, None)
            program.only_sealed = task.state is TaskState.FROZEN and task.memory in self._sealed()

    def effect(self, machine: Machine, act: Act, what: str) -> None:
        """Rule 4: a step changes something on a host."""
        command = act.command
        self._world.tell("effect", f"{machine.name} {command.step} {command.action.value}", what)
        job = self._job(command.job_id)
        if job.phase in FINISHED:
            self.broken(4, f"{command.action} {command.step} changes {machine.name} ({what}) after the end of {job.id}")
        status = job.steps[command.position].status
        if command.action is StepAction.RUN and status in (StepStatus.UNDONE, StepStatus.DONE):
            self.broken(4, f"{command.step} changes {machine.name} ({what}) although it is {status.value} already")

    def images_removed(self, machine: Machine, act: Act) -> None:
        """Rule 2: the memory that is still to come lies in these images alone."""
        name = machine.coming.get(act.command.job_id)
        if name in machine.tasks:
            self.broken(2, f"the images of {name} on {machine.name} are removed before all of its memory has come")

    def source_removed(self, act: Act) -> None:
        """Rule 2: until the memory of its successor is whole, the frozen source is the copy that can run on."""
        for machine in self._world.machines.values():
            if act.command.job_id in machine.coming:
                self.broken(2, f"a source is removed while the memory of its successor on {machine.name} still comes")

    def proved(self, act: Act) -> None:
        """Rule 9: a step has seen the restored container run."""
        self._proofs.add(str(find_job(act.command.job_id)))

    def read(self, text: str) -> None:
        """Rule 8: somebody may read this."""
        if MARKER in text:
            self.broken(8, f"memory or a secret is in {text[:80]}")

    def store_changed(self) -> None:
        """Rule 5: an object was written or deleted."""
        objects = self._world.store.objects()
        for key, data in objects.items():
            if layout.parse_index_key(key) and (missing := self._sealed_content.missing(data, objects)):
                self.broken(5, f"{key} is visible without {', '.join(missing)}")

    # ---- after every event

    def check(self) -> None:
        """Rules 2, 3 and 9."""
        alive = set()
        for machine in self._world.machines.values():
            for name, task in machine.tasks.items():
                if task.state in ALIVE:
                    alive.add(task.memory.program)
                if task.state is TaskState.FROZEN:
                    self._check_frozen(machine, name, task)
        for program in self.programs.keys() - alive:
            self._check_recoverable(program)
        for job in self._world.database.tables[JOBS].values():
            if job.phase is Phase.ROLLING_BACK:
                self._check_rollback(job)
            if job.phase is Phase.SUCCEEDED and job.id not in self._succeeded:
                self._succeeded.add(job.id)
                if job.request.kind in RESTORING and job.id not in self._proofs:
                    self.broken(9, f"{job.id} succeeded and nobody has seen its container run")

    def _check_frozen(self, machine: Machine, name: str, task: Task) -> None:
        now_s = self._world.loop.now_s
        since_s = max(task.since_s, task.busy_until_s)
        record = next((guard for guard in machine.guards.values() if guard.container == name), None)
        if record is not None and record.state is not GuardState.ARMED:
            return
        watched = record is not None and record.guard_pid in machine.guard_processes
        if not watched:
            if not machine.guard_killed and now_s - since_s > SLACK_S:
                self.broken(3, f"{name} is frozen on {machine.name} without a guard")
            return
        if now_s - task.since_s > BUDGET_S + SLACK_S and now_s - since_s > SLACK_S:
            self.broken(3, f"{name} is frozen on {machine.name} for longer than its budget")
        worker = machine.worker
        gone_at_s = machine.worker_gone_at_s
        same = record is not None and worker is not None and worker.pid == record.worker_pid
        if not same and gone_at_s is not None and now_s - max(gone_at_s, since_s) > WORKER_DEAD_S + SLACK_S:
            self.broken(3, f"{name} is frozen on {machine.name} although its worker is dead")

    def _check_rollback(self, job: Job) -> None:
        """Rule 3: a frozen source waits for no sweeping."""
        kind = job.request.kind
        backward = [step for step in job.steps if step.status in BACKWARD]
        sweeping = next((step for step in backward if line_for(kind, step).rollback is LEFTOVERS), None)
        freeze = next((s for s in job.steps if s.name == "freeze"), None)
        if sweeping and freeze and freeze.status not in (StepStatus.PENDING, StepStatus.UNDONE):
            self.broken(3, f"{job.id} sweeps ({sweeping.name}) while its source is still frozen")

    def _check_recoverable(self, program: str) -> None:
        sealed = {memory.program for memory in self._sealed()}
        if program in sealed or (self._on_disk(program) and not self.programs[program].only_sealed):
            return
        self.broken(2, f"there is no recoverable copy of {program}")

    def _sealed(self) -> set[Memory]:
        """The moments of programs of which a whole checkpoint is in the store."""
        objects = self._world.store.objects()
        found = set()
        for key, data in objects.items():
            if layout.parse_index_key(key) and not self._sealed_content.missing(data, objects):
                memory = self._sealed_content.memory(data, objects)
                found |= {Memory.from_bytes(memory)} if memory.startswith(MARKER.encode()) else set()
        return found

    def _on_disk(self, program: str) -> bool:
        for machine in self._world.machines.values():
            record = machine.containers.get(program)
            if machine.tasks_lost and record is not None and record.snapshot_key in machine.snapshots:
                return True
        return False

    # ---- at the end

    def check_end(self) -> None:
        """Rules 6, 7 and 8, when everything has healed and nothing moves any more.

        Verdicts that came too late to be heard are housekeeping's by design: it goes first.
        """
        later = self._world.controllers[0].now() + timedelta(days=1)
        StoreKeeper(self._world.database, self._world.checkpoints, now=lambda: later).remove_notes()
        stopped = [job for job in self._jobs() if job.phase is Phase.NEEDS_OPERATOR]
        for job in stopped or self._jobs():
            self._check_ended(job)
        for table in self._world.database.tables.values():
            if self._world.thorough:
                self.read(repr(table))
        if not stopped:
            for machine in self._world.machines.values():
                if not machine.destroyed:
                    self._check_clean(machine)
            self._check_store_clean()
            self._check_owners()

    def _check_ended(self, job: Job) -> None:
        if not job.phase.terminal:
            self.broken(7, f"{job.id} does not end: it is {job.phase.value}")
        if job.phase is Phase.NEEDS_OPERATOR and not self._operator_needed(job):
            self.broken(7, f"{job.id} stopped for an operator: {(job.failure or {}).get('message')}")
        if job.phase in (Phase.FAILED, Phase.CANCELLED) and job.request.kind in FROM_A_SOURCE:
            self._check_source_runs(job)
        if job.phase is Phase.SUCCEEDED and job.request.kind is JobKind.REWIND:
            self._check_rewound(job)

    def _check_rewound(self, job: Job) -> None:
        """Rule 2: what a rewind displaced can be brought back; rule 7: what it restored runs in its place."""
        machine, name = self._world.machines[str(job.request.source_host)], str(job.request.container)
        with self._world.database.transaction(write=False) as tx:
            kept = {checkpoint.id for checkpoint in tx.checkpoints.list() if checkpoint.pinned_at}
        if job.checkpoint_id not in kept:
            self.broken(2, f"{job.id} succeeded, and what ran before it is not kept")
        task = machine.tasks.get(name)
        if not machine.tasks_lost and (task is None or task.memory.program == name):
            self.broken(7, f"{job.id} succeeded, and what it restored does not run")

    def _operator_needed(self, job: Job) -> bool:
        """Whether the documents send this case to an operator."""
        seen = [step for step in job.steps if step.name in ("prove", "fill") and step.status is StepStatus.FAILED]
        lost = any(self._world.machines[str(step.host)].tasks_lost for step in seen)
        return self._world.operator_allowed or lost

    def _check_source_runs(self, job: Job) -> None:
        host, name = str(job.request.source_host), str(job.request.container)
        machine = self._world.machines[host]
        task = machine.tasks.get(name)
        moved = any(name in other.containers for other in self._world.machines.values() if other is not machine)
        if task is None and not machine.tasks_lost and not moved:
            self.broken(7, f"{job.id} is {job.phase.value} and its source is gone")
        if task is not None and task.state is not TaskState.RUNNING:
            self.broken(7, f"{job.id} is {job.phase.value} and its source is {task.state.value}")
        if task is not None and task.memory.program != name:
            self.broken(7, f"{job.id} is {job.phase.value} and in place of its source {task.memory.program} runs")

    def _check_clean(self, machine: Machine) -> None:
        left: dict[str, Sequence[object]] = {
            "leases": [*machine.leases],
            "guards": [*machine.guards],
            "guard processes": [*machine.guard_processes],
            "memory images": [*machine.memory_images, *machine.ahead],
            "notes of hooks": [*machine.hook_notes],
            "locked programs": [name for name, task in machine.tasks.items() if task.memory.program in self.locked],
            "ingests": [*machine.ingests],
            "content": [digest for digest in machine.content if digest not in machine.images],
            "marks": [record.name for record in machine.containers.values() if record.job or record.hooked],
            "snapshots": self._unowned(machine),
            "frozen tasks": [name for name, task in machine.tasks.items() if task.state is not TaskState.RUNNING],
        }
        for what, names in left.items():
            if names:
                self.broken(6, f"{what} left on {machine.name}: {', '.join(map(str, names))}")

    def _unowned(self, machine: Machine) -> list[str]:
        owned = {record.snapshot_key for record in machine.containers.values()}
        return [key for key in machine.snapshots if key not in owned]

    def _check_store_clean(self) -> None:
        objects = self._world.store.objects()
        with self._world.database.transaction(write=False) as tx:
            kept = {checkpoint.id: checkpoint for checkpoint in tx.checkpoints.list()}
            backing_up = any(job.request.kind is JobKind.BACKUP for job in tx.jobs.list())
        named: set[str] = {layout.blob_key(digest) for digest in IMAGE} | {layout.OCI_LAYOUT}
        for key, data in objects.items():
            found = layout.parse_index_key(key)
            if found and found[1] not in kept:
                self.broken(6, f"{key} is left in the store")
            if found:
                named |= {key, *self._sealed_content.keys(data, objects)}
        named |= {layout.pin_key(checkpoint.id) for checkpoint in kept.values() if checkpoint.pinned_at}
        chunked = backing_up or any(key.startswith(layout.PACKS) for key in named)
        if chunked:  # what was sent for it and is not needed is prune's
            named |= {key for key in objects if key.startswith((layout.PACKS, layout.PACK_INDEXES))}
            named |= {key for key in objects if key.startswith(layout.BLOBS)}
        left = [key[-50:] for key in objects if key not in named]
        if left:
            self.broken(6, f"objects left in the store: {', '.join(left)}")
        for checkpoint in kept.values():
            if layout.index_key(checkpoint.workload_id, checkpoint.id) not in objects:
                self.broken(5, f"checkpoint {checkpoint.id} is in the catalogue and not in the store")

    def _check_owners(self) -> None:
        """Rule 1, as the database sees it: a program runs where its owner is."""
        workloads: dict[str, Workload] = self._world.database.tables[WORKLOADS]  # type: ignore[assignment]
        for machine in self._world.machines.values():
            for name in machine.tasks:
                owners = [workload.owner_host for workload in workloads.values() if workload.container == name]
                if owners and machine.name not in owners:
                    self.broken(1, f"{name} runs on {machine.name} and belongs to {', '.join(owners)}")

    # ----

    def broken(self, number: int, what: str) -> None:
        """Say that a rule was broken.

        Raises:
            Violation: Always.
        """
        raise Violation(f"rule {number}: {what}")

    def _tasks(self, program: str) -> list[Task]:
        return [
            task
            for machine in self._world.machines.values()
            for task in machine.tasks.values()
            if task.memory.program == program
        ]

    def _jobs(self) -> list[Job]:
        return [*self._world.database.tables[JOBS].values()]

    def _job(self, job_id: str) -> Job:
        job: Job = self._world.database.tables[JOBS][str(find_job(job_id))]
        return job
