"""Runs: a scenario, a schedule of faults, and what came of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import product
from random import Random

from migrator.models.phase import JobKind
from migrator.models.roles import Role
from migrator.models.values import Checkpoint, JobRequest, Mode
from migrator.simulator import programs
from migrator.simulator.faults import CONTROL, HOSTS, Fault, Kind, Place, any_fault, faults_at
from migrator.simulator.programs import CONTAINER, Memory
from migrator.simulator.rules import Violation
from migrator.simulator.world import Schedule, World
from migrator.storage import layout
from migrator.storage.oci import FactAnnotation, parse_index

MIGRATE = JobRequest(JobKind.MIGRATION, source_host="alpha", container=CONTAINER, target_host="beta", mode=Mode.LAZY)
MIGRATE_BACK = JobRequest(JobKind.MIGRATION, source_host="beta", container=CONTAINER, target_host="alpha")
KEEP = JobRequest(JobKind.MIGRATION, source_host="alpha", container=CONTAINER, target_host="beta", keep_checkpoint=True)
CHECKPOINT = JobRequest(JobKind.CHECKPOINT, source_host="alpha", container=CONTAINER)
BACKUP = JobRequest(JobKind.BACKUP, source_host="alpha", container=CONTAINER)
OLD = "ck-old"
"""A checkpoint that was sealed before the run begins, of a program that runs nowhere."""
RESTORE = JobRequest(JobKind.RESTORE, checkpoint_id=OLD, target_host="beta", new_name="copy")
REWIND = JobRequest(JobKind.REWIND, checkpoint_id=OLD, source_host="alpha", container=CONTAINER)
DRILL = JobRequest(JobKind.DRILL, checkpoint_id=OLD, target_host="beta")
PREFLIGHT = JobRequest(JobKind.PREFLIGHT, source_host="alpha", container=CONTAINER, target_host="beta")
DRAIN = JobRequest(JobKind.DRAIN, source_host="alpha")
RETURN = JobRequest(JobKind.RETURN, target_host="alpha")
SUBMIT_S = 1.2


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is asked for: `together` at once, `later` one after the other."""

    together: tuple[JobRequest, ...]
    later: tuple[JobRequest, ...] = ()
    faults: Schedule = field(default_factory=dict)
    """What goes wrong in any case."""


SCENARIOS = {
    "migration": Scenario((MIGRATE,)),
    "checkpoint": Scenario((CHECKPOINT,)),
    "backup": Scenario((BACKUP,)),
    "restore": Scenario((RESTORE,)),
    "rewind": Scenario((REWIND,)),
    "migration-kept": Scenario((KEEP,)),
    "there-and-back": Scenario((MIGRATE,), (MIGRATE_BACK,)),
    "again": Scenario((MIGRATE,), (MIGRATE, CHECKPOINT)),
    "rivals": Scenario((MIGRATE, MIGRATE)),
    "migration-and-checkpoint": Scenario((MIGRATE, CHECKPOINT)),
    "migration-and-restore": Scenario((MIGRATE, RESTORE)),
    "preflight": Scenario((PREFLIGHT,)),
    "drill": Scenario((DRILL,)),
    "drain": Scenario((DRAIN,)),
    "return": Scenario((DRAIN,), (RETURN,)),
}
WEIGHTS = {"migration": 8, "checkpoint": 3, "restore": 3, "again": 3, "preflight": 0, "drain": 0, "return": 0}
"""How often a scenario is drawn; the others once."""


@dataclass(frozen=True, slots=True)
class Run:
    """Everything that decides a run."""

    scenario: str
    schedule: Schedule
    seed: int = 1
    controllers: int = 1
    thorough: bool = False

    def __str__(self) -> str:
        faults = ", ".join(f"{fault} at {point}" for point, some in sorted(self.schedule.items()) for fault in some)
        return f"{self.scenario}, {self.controllers} controllers: {faults or 'no faults'}"


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a run."""

    run: Run
    violation: str | None
    places: list[tuple[Place, str]]
    phases: list[str]
    virtual_s: float


def perform(run: Run, trace: Callable[[str], None] | None = None) -> Result:
    """Perform a run and check the rules all the time."""
    world = World(run.seed, run.schedule, controllers=run.controllers, thorough=run.thorough, trace=trace)
    scenario, violation = SCENARIOS[run.scenario], None
    if {RESTORE.kind, DRILL.kind, REWIND.kind} & {request.kind for request in (*scenario.together, *scenario.later)}:
        seal_old_checkpoint(world)
    try:
        world.loop.run_until(SUBMIT_S)
        world.places.clear()
        for request in scenario.together:
            world.submit(request)
        world.follow_with(*scenario.later)
        world.run()
    except Violation as broken:
        violation = str(broken)
    phases = [job.phase.value for job in world.jobs()]
    if trace:
        trace(violation or f"no violation; jobs: {', '.join(phases)}")
    return Result(run, violation, world.places, phases, world.loop.now_s)


def random_run(seed: int) -> Run:
    """What a seed decides: scenario, controllers, faults, and all delays."""
    random = Random(seed)
    names = [*SCENARIOS]
    scenario = random.choices(names, [WEIGHTS.get(name, 1) for name in names])[0]
    schedule: dict[int, list[Fault]] = {}
    points = len(points_of(scenario))
    for _ in range(random.choices((1, 2, 3, 4, 6), (2, 4, 4, 3, 1))[0]):
        schedule.setdefault(random.randint(1, int(points * 1.4)), []).append(any_fault(random))
    return Run(scenario, schedule, seed, controllers=random.choice((1, 2)), thorough=seed % 16 == 0)


@cache
def points_of(scenario: str) -> list[tuple[Place, str]]:
    """The points of a run without faults."""
    return perform(Run(scenario, {})).places


def single_faults(scenario: str, *, variants: bool = True) -> Iterator[Run]:
    """Every fault at every point of a run without faults."""
    for number, (place, _) in enumerate(points_of(scenario), start=1):
        for fault in faults_at(place, variants=variants):
            yield Run(scenario, {number: [fault]}, thorough=True)


def races(scenario: str) -> Iterator[Run]:
    """An answer that comes twice while the controller that took it first is held up: both decide about one job."""
    points = points_of(scenario)
    for number, (_, what) in enumerate(points, start=1):
        if what.startswith("receive to control"):
            for held, for_s in product((1, 2, 3), (0.3, 0.9)):
                schedule = {
                    number: [Fault(Kind.DUPLICATE, for_s=0.2)],
                    number + held: [Fault(Kind.STOP, CONTROL, for_s)],
                }
                yield Run(scenario, schedule, controllers=2)


def control_faults(scenario: str) -> Iterator[Run]:
    """The controller dies at every point, a rival ticks there, and somebody cancels everything."""
    for number, _ in enumerate(points_of(scenario), start=1):
        for kind, who in ((Kind.CRASH, CONTROL), (Kind.RIVAL, ""), (Kind.CANCEL, "")):
            yield Run(scenario, {number: [Fault(kind, who, 0.7)]}, thorough=True)


def late_commands(scenario: str) -> Iterator[Run]:
    """A command that comes a second time to a worker that was restarted meanwhile, after the job has turned back."""
    points = points_of(scenario)
    turning = _last_way_back(points)
    for number, (_, what) in enumerate(points[:turning], start=1):
        if what.startswith("perform to"):
            host = what.split()[2]
            for delay_s, after in product((3.0, 6.0, 12.0), (20, 40)):
                yield Run(
                    scenario,
                    {
                        number: [Fault(Kind.DUPLICATE, for_s=delay_s)],
                        turning: [Fault(Kind.FAIL_LASTING)],
                        turning + after: [Fault(Kind.CRASH, host, 0.3)],
                    },
                )


def turned_back(scenario: str, *, variants: bool = True) -> Iterator[Run]:
    """Every fault at every point of a rollback: the last step that still may fail, fails for good."""
    turning = _last_way_back(points_of(scenario))
    first = {turning: [Fault(Kind.FAIL_LASTING)]}
    for number, (place, _) in enumerate(perform(Run(scenario, first)).places, start=1):
        if number > turning:
            for fault in faults_at(place, variants=variants):
                yield Run(scenario, {**first, number: [fault]}, thorough=True)


def _last_way_back(points: list[tuple[Place, str]]) -> int:
    """The last point at which a failure still turns the job back."""
    last = (
        *(f"{host} restore run: start" for host in HOSTS),
        "alpha upload run: seal",
        "beta inspect-target run: look",
    )
    return max(number for number, (_, what) in enumerate(points, start=1) if what in last)


def seal_old_checkpoint(world: World) -> None:
    """Put a checkpoint into store and catalogue, as an earlier job left it."""
    memory = Memory("copy", 5.0).to_bytes()
    texts = {Role.MEMORY: memory, Role.CONTAINER: programs.record_bytes("old"), Role.RW_DIFF: b"old files"}
    parts = [programs.part(role, data) for role, data in texts.items()]
    snapshot = {"snapshotter": programs.SNAPSHOTTER, "key": "old-rw", "parent": "base"}
    notes = {FactAnnotation.CRIU: "4.2", FactAnnotation.SNAPSHOT: json.dumps(snapshot)}
    index = programs.index_bytes(parts, notes)
    blobs = dict(zip((part.digest for part in parts), texts.values(), strict=True))
    blobs |= {digest: data for digest, (_, data) in programs.IMAGE.items()}
    world.store.fill({layout.blob_key(digest): data for digest, data in blobs.items()})
    world.store.fill({layout.index_key("old", OLD): index})
    digest, size_bytes = parse_index(index).digest, sum(part.size_bytes for part in parts)
    known = Checkpoint(
        id=OLD,
        workload_id="old",
        job_id=None,
        host="alpha",
        namespace=programs.NAMESPACE,
        container="old",
        image=programs.IMAGE_NAME,
        index_digest=digest,
        size_bytes=size_bytes,
        created_at=world.controllers[0].now(),
    )
    with world.database.transaction() as tx:
        tx.checkpoints.add(known)
