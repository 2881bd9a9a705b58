"""Every protection is needed: take one away, and the simulator sees a rule broken."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice
from random import Random
from typing import Any

import pytest

from migrator.errors import MigratorError
from migrator.models.memory import MemoryJobs, MemoryWorkloads
from migrator.models.phase import JobKind
from migrator.models.values import Job, Step, Workload
from migrator.service.control import decisions, engine, rounds
from migrator.service.control.chase import Chase
from migrator.service.control.rounds import Rounds
from migrator.service.fence import Fence
from migrator.service.guards import Guards
from migrator.service.ledger import Ledger, key_of
from migrator.service.pause_guard import PauseGuard
from migrator.service.plans import PLANS
from migrator.simulator.faults import Fault, Kind, Place
from migrator.simulator.runs import (
    Run,
    late_commands,
    perform,
    points_of,
    races,
    random_run,
    single_faults,
    turned_back,
)
from migrator.simulator.steps import STEPS
from migrator.simulator.steps.restore import Fill
from migrator.simulator.steps.step import Acts, Here
from migrator.simulator.steps.upload import Upload
from migrator.storage import layout
from migrator.storage.checkpoints import CheckpointStore

Patch = pytest.MonkeyPatch
LIMIT = 1500
"""So many runs a mutant may survive."""


def seeds() -> Iterator[Run]:
    return (random_run(seed) for seed in range(1, LIMIT))


def singles(*kinds: Kind) -> Iterator[Run]:
    """Single faults of some kinds, or of all, in an order that soon has been everywhere."""
    runs = [*single_faults("migration"), *turned_back("migration")]
    chosen = [run for run in runs if not kinds or {fault.kind for fault in [*run.schedule.values()][-1]} & {*kinds}]
    Random(1).shuffle(chosen)
    return iter(chosen)


def around_the_restore() -> Iterator[Run]:
    """Single faults at the points of a restore that is under way."""
    points = points_of("migration")
    return (run for run in singles() if "restore run" in points[max(run.schedule) % len(points) - 1][1])


def slow_stores() -> Iterator[Run]:
    """Transfers that outlast the freeze budget, and not the limit of their step."""
    for number, (place, _) in enumerate(points_of("migration"), start=1):
        if place is Place.STORE:
            yield Run("migration", {number: [Fault(Kind.STORE_SLOW, for_s=40.0)]})


def late_restores() -> Iterator[Run]:
    """The command to restore is late, its worker was restarted meanwhile, and then does not listen for a while."""
    sent = next(
        number for number, (_, what) in enumerate(points_of("migration"), start=1) if "beta restore run" in what
    )
    random = Random(1)
    while True:
        schedule = {
            sent: [Fault(Kind.DELAY, for_s=random.uniform(1.0, 8.0))],
            sent + 1: [Fault(Kind.CRASH, "beta", 0.3)],
            sent + random.randint(2, 12): [Fault(Kind.STOP, "beta", random.uniform(0.5, 6.0))],
        }
        yield Run("migration", schedule, seed=random.randint(1, 10**6))


def rivals() -> Iterator[Run]:
    """Two jobs for one container."""
    return (replace(random_run(seed), scenario="rivals") for seed in range(1, LIMIT))


def late() -> Iterator[Run]:
    return chain(late_commands("migration"), late_commands("restore"), late_commands("checkpoint"), seeds())


def collisions() -> Iterator[Run]:
    return chain(races("migration"), races("checkpoint"), races("restore"), seeds())


# ---- the mutants


def no_fence(patch: Patch) -> None:
    patch.setattr(Fence, "check", lambda *_: None)


def no_epoch_at_the_turn(patch: Patch) -> None:
    patch.setattr(rounds, "shut_out", lambda _tx, job: job)


def blind_guard(patch: Patch) -> None:
    patch.setattr(PauseGuard, "_reason_to_resume", lambda *_: None)


def deaf_promise(patch: Patch) -> None:
    patch.setattr(Guards, "promise", lambda *_: None)


def impatient(patch: Patch) -> None:
    """Nobody waits for the memory that still comes."""

    def hurry(_self: Fill, _here: Here, _act: object) -> Acts:
        yield from ()
        return {}

    patch.setattr(Fill, "run", hurry)


def source_that_ran_is_given_away(patch: Patch) -> None:
    """Neither guard nor task is asked whether the source stood still all the time."""
    patch.setattr(Guards, "_watches", lambda _self, record: record is not None)
    for step in ("displace", "dump", "freeze"):
        patch.setattr(f"migrator.simulator.steps.{step}.check_paused", lambda *_: None)


def commit_without_compare(patch: Patch) -> None:
    real = MemoryWorkloads.commit

    def commit(self: MemoryWorkloads, workload_id: str, *, epoch: int, **wanted: Any) -> Workload:
        del epoch
        return real(self, workload_id, epoch=self.get(workload_id).epoch, **wanted)

    patch.setattr(MemoryWorkloads, "commit", commit)


def save_without_compare(patch: Patch) -> None:
    real = MemoryJobs.save

    def save(self: MemoryJobs, before: Job, after: Job) -> Job:
        return real(self, replace(before, version=self.get(before.id).version), after)

    patch.setattr(MemoryJobs, "save", save)


def nothing_compares(patch: Patch) -> None:
    commit_without_compare(patch)
    save_without_compare(patch)


def refusal_of_another_decision(patch: Patch) -> None:
    """What the simulator found in an earlier version: the loser of a race turned the winner's job back."""
    real = Rounds._refuse

    def refuse(self: Rounds, refusal: Any, change: Any, job: Job) -> Job | None:
        del change
        refusal.version = job.version
        return real(self, refusal, lambda same: same, job)

    patch.setattr(Rounds, "_refuse", refuse)


def no_claim(patch: Patch) -> None:
    def run(_self: decisions.Claim, tx: Any, job: Job) -> dict[str, Any]:
        found = tx.workloads.find(job.request.source_host, job.request.namespace, job.request.container)
        facts = {"checkpoint_workload": "w", "claimed_at": job.updated_at.isoformat()}
        if found is None:
            tx.workloads.add(Workload("w", job.request.namespace, str(job.request.container), "alpha", 1))
        return facts | {"workload_id": "w", "epoch": found.epoch if found else 1}

    patch.setattr(decisions.Claim, "run", run)
    patch.setattr(MemoryJobs, "_rival", lambda *_: False)


def look_without_epoch(patch: Patch) -> None:
    patch.setattr(Chase, "_ask", lambda self, *asked: self._rounds.resend(*asked))


def source_first(patch: Patch) -> None:
    """The source is resumed before the restored task is gone and the commit is taken back.

    The look before it has raised the epoch on the target, which is a protection of its own: it goes too.
    """
    look_without_epoch(patch)
    real = engine.undo_order

    def order(job: Job) -> list[Step]:
        due = real(job)
        owners = [step for step in due if step.name in ("freeze", "commit", "restore")]
        return [*reversed(owners), *(step for step in due if step not in owners)]

    patch.setattr(engine, "undo_order", order)


def strictly_backwards(patch: Patch) -> None:
    real = engine.undo_order
    patch.setattr(engine, "undo_order", lambda job: sorted(real(job), key=lambda step: -step.position))


def guess_about_a_restore(patch: Patch) -> None:
    for kind in (JobKind.MIGRATION, JobKind.RESTORE):
        patch.setitem(PLANS, kind, tuple(replace(line, observe_first=False) for line in PLANS[kind]))


def no_proof(patch: Patch) -> None:
    def run(_self: Any, _here: Here, _act: Any) -> Acts:
        yield "do not look"
        return {}

    patch.setattr(type(STEPS["prove"]), "run", run)


def forgetful_ledger(patch: Patch) -> None:
    """A host that remembers neither what it did nor what was undone."""

    def take(self: Ledger, act: Any) -> bool:
        self.room(act.command.job_id).running[key_of(act.command)] = act
        return True

    patch.setattr(Ledger, "take", take)
    patch.setattr(Ledger, "check", lambda *_: None)


def index_first(patch: Patch) -> None:
    def run(self: Upload, here: Here, act: Any) -> Acts:
        parts = [_descriptor(part) for part in act.facts["parts"]]
        yield "index first"
        key = layout.index_key(act.command.workload_id, str(act.command.checkpoint_id))
        here.checkpoints.objects.put(key, self._index(here, act, parts))
        return {}

    patch.setattr(Upload, "run", run)


def _descriptor(part: dict[str, Any]) -> Any:
    from migrator.models.descriptors import Descriptor

    return Descriptor.from_oci(part)


def seal_unseen(patch: Patch) -> None:
    patch.setattr(CheckpointStore, "_check_all", lambda *_: None)
    patch.setattr(CheckpointStore, "_reachable_or_missing", lambda *_, **__: [])
    patch.setattr(CheckpointStore, "_see", lambda *_: None)


def blobs_before_index(patch: Patch) -> None:
    """A removal that takes the blobs first."""
    real = CheckpointStore.remove

    def remove(self: CheckpointStore, workload_id: str, checkpoint_id: str, **options: Any) -> int:
        for part in self._parts_left(workload_id, checkpoint_id):
            if "checkpoint" in part.media_type:
                self._delete_blob(part.digest)
        return real(self, workload_id, checkpoint_id, **options)

    patch.setattr(CheckpointStore, "remove", remove)


def last_copy_removed(patch: Patch) -> None:
    patch.setattr("migrator.simulator.steps.upload.last_copy", lambda *_: None)


def rewinds(*kinds: Kind) -> Iterator[Run]:
    """Single faults of a rewind and of its rollback."""
    runs = [*single_faults("rewind"), *turned_back("rewind")]
    chosen = [run for run in runs if not kinds or {fault.kind for fault in [*run.schedule.values()][-1]} & {*kinds}]
    Random(1).shuffle(chosen)
    return iter(chosen)


def sealed_and_never_read(patch: Patch) -> None:
    def run(_self: Any, _here: Here, _act: Any) -> Acts:
        yield "do not look"
        return {}

    patch.setattr(type(STEPS["read-back"]), "run", run)


def one_name_for_both_halves(patch: Patch) -> None:
    patch.setattr("migrator.service.rewinding.BESIDE", "")


def original_comes_back_by_its_record_alone(patch: Patch) -> None:
    """Its program is not brought back from the images of its dump."""
    patch.setattr(type(STEPS["displace"]), "_revive", lambda *_: iter(()))


@dataclass(frozen=True)
class Mutant:
    protection: str
    remove: Callable[[Patch], None]
    runs: Callable[[], Iterator[Run]]
    rules: tuple[int, ...]
    """Those of which one must be broken."""


MUTANTS = (
    Mutant("hosts refuse lower epochs (fence)", no_fence, late, (1, 4, 6)),
    Mutant("the epoch rises when a job turns back", no_epoch_at_the_turn, late, (1, 4, 6)),
    Mutant("the pause guard resumes a source", blind_guard, lambda: singles(Kind.CRASH), (3,)),
    Mutant("after the promise the guard waits", deaf_promise, seeds, (1,)),
    Mutant("the source stays until the memory is whole", impatient, singles, (2,)),
    Mutant("a source that ran is not given away", source_that_ran_is_given_away, slow_stores, (1, 7)),
    Mutant("a job's row compares its version", save_without_compare, collisions, (1, 2, 4, 7)),
    Mutant("the commit compares the epoch (the row does not)", nothing_compares, collisions, (1, 2, 4, 7)),
    Mutant("a refusal concerns the job as it was", refusal_of_another_decision, collisions, (1, 2)),
    Mutant("a claim keeps other jobs away", no_claim, rivals, (1, 2, 4, 6, 7)),
    Mutant("the restored task goes before the source resumes", source_first, late_restores, (1, 4)),
    Mutant("who runs is settled before it is swept", strictly_backwards, singles, (3,)),
    Mutant("about a restore nobody guesses", guess_about_a_restore, around_the_restore, (1,)),
    Mutant("success only after the proof", no_proof, singles, (9,)),
    Mutant("a host remembers what it has done and undone", forgetful_ledger, lambda: singles(Kind.DUPLICATE), (4,)),
    Mutant("blobs first, index last", index_first, singles, (5,)),
    Mutant("a seal looks at every blob", seal_unseen, lambda: singles(Kind.STORE_KEEPS_LESS), (5,)),
    Mutant("a removal takes the index first", blobs_before_index, singles, (5,)),
    Mutant("the last copy of a lost program stays", last_copy_removed, lambda: singles(Kind.KILL_TASK), (2,)),
    Mutant(
        "what a rewind has sealed is read back", sealed_and_never_read, lambda: rewinds(Kind.STORE_TURNS_A_BIT), (2,)
    ),
    Mutant("the halves of a rewind have two names", one_name_for_both_halves, rewinds, (1, 2, 4, 6, 7)),
    Mutant("what was displaced comes back", original_comes_back_by_its_record_alone, rewinds, (2, 7)),
)


def hunt(runs: Iterator[Run]) -> tuple[int, str] | None:
    """The first run that breaks a rule, and what it says."""
    for number, run in enumerate(islice(runs, LIMIT), start=1):
        try:
            violation = perform(run).violation
        except MigratorError as error:
            violation = f"crash: {error}"
        if violation:
            return number, violation
    return None


@pytest.mark.timeout(600)
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.remove.__name__)
def test_a_missing_protection_is_noticed(mutant: Mutant, monkeypatch: Patch, record_property: Any) -> None:
    runs = mutant.runs()
    first = next(runs)
    assert perform(first).violation is None, "with the protection all is well"
    mutant.remove(monkeypatch)
    found = hunt(chain([first], runs))
    assert found is not None, f"nobody notices that this is gone: {mutant.protection}"
    print(f"| {mutant.protection} | {found[0]} | {found[1][:110]} |")
    record_property("noticed", f"{mutant.protection}: run {found[0]}: {found[1]}")
    assert int(found[1].removeprefix("rule ").split(":")[0]) in mutant.rules
