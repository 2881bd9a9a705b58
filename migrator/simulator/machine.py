"""A fake host: what containerd, CRIU and the kernel hold on it, and what of that survives a reboot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING

from migrator.errors import (
    AlreadyExists,
    MigratorError,
    NotFound,
    PreconditionFailed,
    ResourceBusy,
    ResourceExhausted,
    Unavailable,
    WorkloadFailed,
)
from migrator.service.guards import GuardRecord
from migrator.service.host import Act
from migrator.simulator.programs import Memory

if TYPE_CHECKING:
    from migrator.simulator.guard import SimulatedGuard
    from migrator.simulator.worker import Worker
    from migrator.simulator.world import World


class TaskState(Enum):
    """How containerd's task stands."""

    CREATED = "created"
    RUNNING = "running"
    FROZEN = "paused"
    UNKNOWN = "unknown"
    """CRIU works on it: its shim does not answer."""


@dataclass(slots=True)
class Task:
    """The processes of a container."""

    memory: Memory
    state: TaskState
    since_s: float
    """When it came into this state."""
    busy_until_s: float = 0.0
    """CRIU dumps it, or brings it to life."""
    restored_by: Act | None = None
    number: int = 0
    """Tells it from those of the same name that were before, as the start of its first process does."""


@dataclass(frozen=True, slots=True)
class ContainerRecord:
    """A container as containerd keeps it; survives a reboot."""

    name: str
    snapshot_key: str
    created_at: str
    job: str | None = None
    """The job that made it, until it is released."""
    hooked: bool = False
    """Its spec is the one for the restore, not its own."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A rw layer; survives a reboot."""

    job: str | None = None
    files: str = ""


@dataclass
class Machine:
    """One host.

    `containers`, `snapshots`, `content`, `leases`, `ingests`, `images` and `epochs` are on its disk; `tasks`, `guards`
    and `memory_images` are in its memory and gone after a reboot.
    """

    world: World
    name: str
    containers: dict[str, ContainerRecord] = field(default_factory=dict)
    snapshots: dict[str, Snapshot] = field(default_factory=dict)
    content: dict[str, bytes] = field(default_factory=dict)
    leases: dict[str, set[str]] = field(default_factory=dict)
    ingests: dict[str, str] = field(default_factory=dict)
    """Half-written blobs and the lease that holds them."""
    images: set[str] = field(default_factory=set)
    """Blobs that a named image keeps."""
    epochs: dict[str, int] = field(default_factory=dict)
    tasks: dict[str, Task] = field(default_factory=dict)
    guards: dict[str, GuardRecord] = field(default_factory=dict)
    memory_images: dict[str, bytes | None] = field(default_factory=dict)
    ahead: dict[str, bytes] = field(default_factory=dict)
    """What came ahead of a freeze, by job; in memory, too."""
    """By job; None while CRIU writes them."""
    coming: dict[str, str] = field(default_factory=dict)
    """Containers that run before all of their memory is there, by job; in memory, too."""
    hook_notes: set[str] = field(default_factory=set)
    """Jobs that owe a hook after the freeze."""
    guard_processes: dict[int, SimulatedGuard] = field(default_factory=dict)
    worker: Worker | None = None
    boot: int = 0
    up: bool = True
    destroyed: bool = False
    """It will never come back."""
    tasks_lost: bool = False
    """A reboot, or the death of its shim, took tasks from this machine."""
    guard_killed: bool = False
    worker_gone_at_s: float | None = None
    disk_full_until_s: float = 0.0
    clock_ahead_s: float = 0.0

    # ---- tasks

    def status(self, name: str) -> TaskState:
        """What containerd says of a task.

        Raises:
            NotFound: It has none.
        """
        task = self.task(name)
        return TaskState.UNKNOWN if task.busy_until_s > self.world.loop.now_s else task.state

    def task(self, name: str) -> Task:
        """A container's task.

        Raises:
            NotFound: `task_not_found`.
        """
        if name not in self.tasks:
            raise NotFound(f"task {name} does not exist", code="task_not_found")
        return self.tasks[name]

    def pause(self, act: Act, name: str) -> None:
        """Freeze a running task."""
        task = self._answering(name)
        if task.state is not TaskState.RUNNING:
            raise PreconditionFailed(f"task {name} is {task.state.value}")
        self.world.rules.effect(self, act, f"{name} frozen")
        self._enter(task, TaskState.FROZEN)

    def try_to_thaw(self, name: str) -> MigratorError | None:
        """As `containerd.try_to_thaw`: None means that it was seen running, or is gone."""
        if name not in self.tasks:
            return None
        state = self.status(name)
        if state is TaskState.FROZEN:
            self._run(self.tasks[name])
            return None
        if state is TaskState.RUNNING:
            return None
        return ResourceBusy(f"task {name} is {state.value} after a resume", code="task_not_resumed")

    def begin_dump(self, act: Act, name: str, for_s: float) -> None:
        """Let CRIU write a task's memory; that goes on whatever becomes of the worker."""
        task, job = self._answering(name), act.command.job_id
        if task.state is TaskState.CREATED:
            raise WorkloadFailed(f"task {name} has no memory yet")
        self.world.rules.effect(self, act, "memory images")
        self.memory_images[job] = None
        task.busy_until_s = self.world.loop.now_s + for_s
        self.world.loop.after(for_s, self._in_this_boot(lambda: self._finish_dump(job, task)))

    def create_task(self, act: Act, name: str) -> None:
        """Make a task from memory images; it runs nothing yet."""
        images = self.memory_images.get(act.command.job_id)
        if images is None:
            raise WorkloadFailed(f"there are no images to restore {name} from")
        if name in self.tasks:
            raise AlreadyExists(f"task {name} exists")
        self.world.rules.effect(self, act, f"task {name}")
        memory, now_s, number = Memory.from_bytes(images), self.world.loop.now_s, self.world.new_pid()
        self.tasks[name] = Task(memory, TaskState.CREATED, now_s, restored_by=act, number=number)

    def start(self, name: str, for_s: float) -> None:
        """Let CRIU bring a task to life; that goes on whatever becomes of the worker."""
        task = self._answering(name)
        task.busy_until_s = self.world.loop.now_s + for_s
        self.world.loop.after(for_s, self._in_this_boot(lambda: self._finish_start(name, task)))

    def end_task(self, act: Act, name: str) -> None:
        """Kill and delete a task; an absent one is fine.

        Raises:
            Unavailable: CRIU works on it, its shim does not answer.
        """
        if name in self.tasks:
            task = self._answering(name)
            self.world.rules.effect(self, act, f"no task {name}")
            self._leave(task)
            del self.tasks[name]

    def _answering(self, name: str) -> Task:
        task = self.task(name)
        if task.busy_until_s > self.world.loop.now_s:
            raise Unavailable(f"the shim of task {name} does not answer", code="shim_silent")
        return task

    def _finish_dump(self, job: str, task: Task) -> None:
        if job in self.memory_images:
            self.memory_images[job] = self._memory_now(task).to_bytes()

    def _finish_start(self, name: str, task: Task) -> None:
        if self.tasks.get(name) is task:
            if task.restored_by is not None:
                self.world.rules.effect(self, task.restored_by, f"{name} runs")
            self._run(task)

    def _run(self, task: Task) -> None:
        self.world.rules.before_run(self, task)
        self._enter(task, TaskState.RUNNING)

    def _leave(self, task: Task) -> None:
        if task.state is TaskState.RUNNING:
            task.memory = self._memory_now(task)
            self.world.rules.after_run(task.memory)

    def _enter(self, task: Task, state: TaskState) -> None:
        self._leave(task)
        task.state, task.since_s = state, self.world.loop.now_s

    def _memory_now(self, task: Task) -> Memory:
        if task.state is not TaskState.RUNNING:
            return task.memory
        return replace(task.memory, lived_s=task.memory.lived_s + self.world.loop.now_s - task.since_s)

    # ---- hooks

    def note_hook(self, act: Act) -> None:
        """Note that a job owes a hook after the freeze."""
        if act.command.job_id not in self.hook_notes:
            self.world.rules.effect(self, act, "note of a hook")
            self.hook_notes.add(act.command.job_id)

    def forget_hook(self, act: Act) -> None:
        """Forget that note; one that is not there is fine."""
        if act.command.job_id in self.hook_notes:
            self.world.rules.effect(self, act, "no note of a hook")
            self.hook_notes.remove(act.command.job_id)

    def lock(self, act: Act, name: str) -> None:
        """A hook makes the program ready for a freeze."""
        self.world.rules.effect(self, act, f"{name} locked")
        self.world.rules.locked[self.task(name).memory.program] = act.command.job_id

    def unlock(self, act: Act, name: str) -> None:
        """A hook lets the program go on as before."""
        program = self.task(name).memory.program
        if program in self.world.rules.locked:
            self.world.rules.effect(self, act, f"{name} unlocked")
            del self.world.rules.locked[program]

    # ---- containers, snapshots, content

    def container(self, name: str) -> ContainerRecord:
        """A container's record.

        Raises:
            NotFound: `container_not_found`.
        """
        if name not in self.containers:
            raise NotFound(f"container {name} does not exist", code="container_not_found")
        return self.containers[name]

    def put_container(self, act: Act, record: ContainerRecord) -> None:
        """Write a container's record."""
        if self.containers.get(record.name) != record:
            self.need_disk()
            self.world.rules.effect(self, act, f"record {record.name}")
            self.containers[record.name] = record

    def delete_container(self, act: Act, name: str) -> None:
        """Delete a container's record; an absent one is fine."""
        if name in self.containers:
            self.world.rules.effect(self, act, f"no record {name}")
            del self.containers[name]

    def put_snapshot(self, act: Act, key: str, snapshot: Snapshot) -> None:
        """Make a snapshot or change its files."""
        if self.snapshots.get(key) != snapshot:
            self.need_disk()
            self.world.rules.effect(self, act, f"snapshot {key}")
            self.snapshots[key] = snapshot

    def remove_snapshot(self, act: Act, key: str) -> None:
        """Remove a snapshot; an absent one is fine."""
        if key in self.snapshots:
            self.world.rules.effect(self, act, f"no snapshot {key}")
            del self.snapshots[key]

    def take_lease(self, act: Act) -> None:
        """Take the job's lease, or keep it."""
        if act.lease_id not in self.leases:
            self.need_disk()
            self.world.rules.effect(self, act, "lease")
            self.leases[act.lease_id] = set()

    def drop_lease(self, act: Act) -> None:
        """Give the job's lease back; what only it held is collected."""
        held = self.leases.pop(act.lease_id, None)
        if held is None:
            return
        self.world.rules.effect(self, act, "no lease")
        kept = self.images.union(*self.leases.values())
        for digest in held - kept:
            self.content.pop(digest, None)
        self.ingests = {ref: lease for ref, lease in self.ingests.items() if lease != act.lease_id}

    def begin_ingest(self, act: Act, digest: str) -> None:
        """Begin to write a blob under the job's lease."""
        self._leased(act)
        if digest not in self.content:
            self.need_disk()
            self.world.rules.effect(self, act, "ingest")
            self.ingests[f"{act.lease_id}-{digest}"] = act.lease_id

    def finish_ingest(self, act: Act, digest: str, data: bytes) -> None:
        """Make a blob visible; the job's lease holds it."""
        held = self._leased(act)
        self.need_disk()
        self.ingests.pop(f"{act.lease_id}-{digest}", None)
        if digest not in self.content or digest not in held:
            self.world.rules.effect(self, act, "content")
            self.content[digest] = data
            held.add(digest)

    def _leased(self, act: Act) -> set[str]:
        if act.lease_id not in self.leases:
            raise NotFound(f"lease {act.lease_id} does not exist", code="lease_not_found")
        return self.leases[act.lease_id]

    def remove_memory_images(self, act: Act) -> None:
        """Remove the directory that CRIU writes into or reads from."""
        if act.command.job_id in self.memory_images:
            self.world.rules.effect(self, act, "no memory images")
            self.world.rules.images_removed(self, act)
            del self.memory_images[act.command.job_id]

    def remove_ahead(self, act: Act) -> None:
        """Remove what came ahead of the freeze."""
        if act.command.job_id in self.ahead:
            self.world.rules.effect(self, act, "nothing ahead")
            del self.ahead[act.command.job_id]

    # ---- the machine itself

    @property
    def disk_full(self) -> bool:
        """Whether nothing more can be written."""
        return self.disk_full_until_s > self.world.loop.now_s

    def need_disk(self) -> None:
        """Fail when the disk is full.

        Raises:
            ResourceExhausted: `disk_full`.
        """
        if self.disk_full:
            raise ResourceExhausted(f"the disk of {self.name} is full", code="disk_full")

    def reboot(self, for_s: float) -> None:
        """Lose everything but the disk; come back later."""
        if not self.destroyed:
            self._go_down()
            self.world.heal_after(for_s, self._come_up)

    def destroy(self) -> None:
        """Lose everything, for good."""
        self.destroyed = True
        self._go_down()

    def _go_down(self) -> None:
        self.stop_worker()
        for guard in self.guard_processes.values():
            guard.alive = False
        self.kill_tasks()
        self.guard_processes, self.guards, self.memory_images, self.ahead, self.hook_notes = {}, {}, {}, {}, set()
        self.coming = {}
        self.boot, self.up = self.boot + 1, False

    def kill_tasks(self) -> None:
        """Lose every task, as when its shim dies and takes it along; the containers stay."""
        self.world.rules.tasks_lost(self)
        self.tasks, self.tasks_lost = {}, True

    def stop_worker(self) -> None:
        """Kill the worker: its memory and its acts are gone."""
        if self.worker is not None:
            self.worker.alive = False
            self.worker = None
            self.worker_gone_at_s = self.world.loop.now_s

    def start_worker(self) -> None:
        """Start the worker, unless one runs already."""
        if self.up and self.worker is None:
            self.worker = self.world.new_worker(self)
            self.worker.begin()

    def _come_up(self) -> None:
        self.up = not self.destroyed
        self.start_worker()

    def _in_this_boot(self, call: Callable[[], None]) -> Callable[[], None]:
        """Something that happens only if the machine is not rebooted before."""
        boot = self.boot
        return lambda: call() if self.boot == boot else None
