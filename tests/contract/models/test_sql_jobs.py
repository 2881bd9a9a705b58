"""What every database promises about jobs."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta, timezone

import pytest

from migrator.errors import AlreadyExists, InternalError, NotFound, PreconditionFailed, ResourceBusy
from migrator.models.phase import JobKind, Phase
from migrator.models.session import Database
from migrator.models.values import Job, JobRequest, Step, StepStatus
from tests.contract.models.samples import MIGRATION, a_job, moment


def stored(database: Database, job_id: str = "mig-1") -> Job:
    with database.transaction(write=False) as tx:
        return tx.jobs.get(job_id)


def add(database: Database, *jobs: Job) -> None:
    with database.transaction() as tx:
        for job in jobs:
            tx.jobs.add(job)


def save(database: Database, before: Job, **changes: object) -> Job:
    with database.transaction() as tx:
        return tx.jobs.save(before, replace(before, **changes))  # type: ignore[arg-type]


def with_step(job: Job, position: int, **changes: object) -> Job:
    steps = [replace(s, **changes) if s.position == position else s for s in job.steps]  # type: ignore[arg-type]
    return replace(job, steps=tuple(steps))


def test_a_job_comes_back_as_it_was(database: Database) -> None:
    job = a_job(idempotency_key="k", workload_id="w", checkpoint_id="c", epoch=2**40, failure={"code": "x", "ü": [1.5]})
    job = with_step(
        job, 1, status=StepStatus.STARTED, attempt=3, started_at=moment(1), facts={"bytes": 2**45, "n": None}
    )
    add(database, job)
    assert stored(database) == job


def test_a_new_job_has_version_one(database: Database) -> None:
    with database.transaction() as tx:
        assert tx.jobs.add(a_job(version=7)).version == 1
    assert stored(database).version == 1


def test_moments_of_any_zone_come_back_in_utc(database: Database) -> None:
    add(database, a_job(created_at=moment(0).astimezone(timezone(timedelta(hours=-9, minutes=-30)))))
    created_at = stored(database).created_at
    assert created_at == moment(0)
    assert created_at.utcoffset() == timedelta(0)


def test_a_moment_without_a_zone_is_refused(database: Database) -> None:
    with pytest.raises(InternalError, match="without a time zone"):
        add(database, a_job(created_at=moment(0).replace(tzinfo=None)))


def test_unknown_job(database: Database) -> None:
    with pytest.raises(NotFound, match="'nope'") as caught:
        stored(database, "nope")
    assert caught.value.code == "job_not_found"
    assert caught.value.remedy


class TestIdempotencyKey:
    def test_the_same_request_returns_the_job_that_exists(self, database: Database) -> None:
        first = a_job("mig-1", idempotency_key="k")
        add(database, first)
        with database.transaction() as tx:
            assert tx.jobs.add(a_job("mig-2", minutes=5, idempotency_key="k")) == first
            assert tx.jobs.find_by_key("k") == first
            assert [job.id for job in tx.jobs.list()] == ["mig-1"]

    def test_another_request_is_refused(self, database: Database) -> None:
        add(database, a_job("mig-1", idempotency_key="k"))
        other = a_job("mig-2", idempotency_key="k", request=replace(MIGRATION, target_host="gamma"))
        with pytest.raises(AlreadyExists, match="mig-1") as caught:
            add(database, other)
        assert caught.value.code == "idempotency_key_reused"

    def test_jobs_without_a_key_do_not_meet(self, database: Database) -> None:
        add(database, a_job("mig-1"), a_job("mig-2"))
        with database.transaction(write=False) as tx:
            assert tx.jobs.find_by_key("") is None
            assert len(tx.jobs.list()) == 2

    def test_an_id_twice_is_refused(self, database: Database) -> None:
        add(database, a_job("mig-1"))
        with pytest.raises(AlreadyExists) as caught:
            add(database, a_job("mig-1"))
        assert caught.value.code == "job_exists"


class TestSave:
    def test_writes_job_and_steps_and_raises_the_version(self, database: Database) -> None:
        before = a_job()
        add(database, before)
        after = with_step(
            replace(before, phase=Phase.FREEZING, updated_at=moment(3), epoch=4, checkpoint_id="ck-1"),
            2,
            status=StepStatus.DONE,
            finished_at=moment(3),
            duration_s=0.1 + 0.2,
            facts={"guard": {"pid": 4}},
        )
        with database.transaction() as tx:
            saved = tx.jobs.save(before, after)
        assert saved == replace(after, version=2)
        assert stored(database) == saved

    def test_values_can_be_taken_away_again(self, database: Database) -> None:
        before = with_step(a_job(failure={"a": 1}, workload_id="w"), 0, failure={"b": 2}, started_at=moment(1))
        add(database, before)
        after = with_step(replace(before, failure=None, workload_id=None), 0, failure=None, started_at=None)
        with database.transaction() as tx:
            saved = tx.jobs.save(before, after)
        assert stored(database) == saved

    def test_steps_can_be_added(self, database: Database) -> None:
        before = a_job()
        add(database, before)
        extra = Step(5, "remove", "alpha", Phase.REMOVING)
        saved = save(database, before, steps=(*before.steps, extra))
        assert stored(database) == saved
        assert saved.steps[-1] == extra

    def test_a_stale_version_loses_and_writes_nothing(self, database: Database) -> None:
        before = a_job()
        add(database, before)
        winner = save(database, before, phase=Phase.PREFLIGHT)
        with pytest.raises(ResourceBusy, match="version 2, not 1") as caught:
            save(database, with_step(before, 0, attempt=9), phase=Phase.FREEZING)
        assert caught.value.code == "job_changed"
        assert stored(database) == winner

    def test_an_unknown_job(self, database: Database) -> None:
        with pytest.raises(NotFound):
            save(database, a_job("nope"), phase=Phase.PREFLIGHT)

    def test_a_forbidden_phase_is_a_bug(self, database: Database) -> None:
        before = a_job(phase=Phase.SUCCEEDED)
        add(database, before)
        with pytest.raises(InternalError, match="succeeded to freezing"):
            save(database, before, phase=Phase.FREEZING)
        assert stored(database) == before

    @pytest.mark.parametrize(
        "change",
        [
            {"id": "other"},
            {"request": JobRequest(JobKind.RESTORE)},
            {"created_at": moment(9)},
            {"idempotency_key": "k"},
            {"steps": ()},
            {"steps": tuple(reversed(a_job().steps))},
        ],
        ids=lambda change: next(iter(change)),
    )
    def test_what_never_changes(self, database: Database, change: dict[str, object]) -> None:
        before = a_job()
        add(database, before)
        with pytest.raises(InternalError) as caught:
            save(database, before, **change)
        assert caught.value.code == "bad_change"
        assert stored(database) == before

    def test_only_changed_steps_are_written(self, database: Database, statements: list[str]) -> None:
        before = a_job()
        add(database, before)
        statements.clear()
        with database.transaction() as tx:
            tx.jobs.save(before, with_step(before, 3, status=StepStatus.STARTED, attempt=1))
        assert [s.split()[1] for s in statements if s.startswith("UPDATE")] == ["jobs", "steps"]


class TestProgress:
    @pytest.fixture
    def started(self, database: Database) -> Job:
        job = with_step(a_job(), 3, status=StepStatus.STARTED, attempt=2)
        add(database, job)
        return job

    def note(self, database: Database, *, position: int = 3, attempt: int = 2, done: int) -> tuple[int, int]:
        with database.transaction() as tx:
            tx.jobs.record_progress("mig-1", position, attempt, done, 100)
        step = stored(database).steps[position]
        return step.progress_bytes, step.total_bytes

    def test_grows_and_never_shrinks(self, database: Database, started: Job) -> None:
        assert self.note(database, done=40) == (40, 100)
        assert self.note(database, done=30) == (40, 100)
        assert self.note(database, done=90) == (90, 100)
        assert stored(database).version == started.version

    def test_only_of_the_attempt_under_way(self, database: Database, started: Job) -> None:
        assert self.note(database, attempt=1, done=40) == (0, 0)
        assert self.note(database, attempt=3, done=40) == (0, 0)
        assert self.note(database, position=2, attempt=0, done=40) == (0, 0)

    def test_a_save_does_not_take_it_back(self, database: Database, started: Job) -> None:
        self.note(database, done=40)
        save(database, started, steps=with_step(started, 3, dispatched_at=moment(2)).steps)
        assert stored(database).steps[3].progress_bytes == 40

    def test_a_new_attempt_begins_at_nothing(self, database: Database, started: Job) -> None:
        self.note(database, done=40)
        saved = save(database, started, steps=with_step(started, 3, attempt=3).steps)
        assert stored(database) == saved
        assert saved.steps[3].progress_bytes == 0


class TestCancel:
    def test_is_noted_once(self, database: Database) -> None:
        add(database, a_job())
        with database.transaction() as tx:
            first = tx.jobs.request_cancel("mig-1", moment(4))
            again = tx.jobs.request_cancel("mig-1", moment(5))
        assert first == replace(a_job(), cancel_requested=True, version=2, updated_at=moment(4))
        assert again == first == stored(database)

    def test_makes_a_save_under_way_lose(self, database: Database) -> None:
        before = a_job()
        add(database, before)
        with database.transaction() as tx:
            tx.jobs.request_cancel("mig-1", moment(4))
        with pytest.raises(ResourceBusy):
            save(database, before, phase=Phase.PREFLIGHT)

    @pytest.mark.parametrize("phase", [Phase.SUCCEEDED, Phase.FAILED, Phase.CANCELLED, Phase.NEEDS_OPERATOR])
    def test_is_refused_after_the_end(self, database: Database, phase: Phase) -> None:
        add(database, a_job(phase=phase))
        with pytest.raises(PreconditionFailed, match=phase.value) as caught, database.transaction() as tx:
            tx.jobs.request_cancel("mig-1", moment(4))
        assert caught.value.code == "job_finished"
        assert not stored(database).cancel_requested

    def test_of_an_unknown_job(self, database: Database) -> None:
        with pytest.raises(NotFound), database.transaction() as tx:
            tx.jobs.request_cancel("nope", moment(4))


class TestLists:
    @pytest.fixture(autouse=True)
    def jobs(self, database: Database) -> None:
        there_and_back = replace(MIGRATION, source_host="beta", target_host="alpha")
        backup = JobRequest(JobKind.CHECKPOINT, source_host="gamma", container="db")
        add(
            database,
            a_job("old", minutes=0, phase=Phase.SUCCEEDED),
            a_job("stuck", minutes=3, phase=Phase.NEEDS_OPERATOR),
            a_job("newer", minutes=2, phase=Phase.FREEZING, request=there_and_back),
            a_job("new", minutes=4, request=backup),
            a_job("middle", minutes=1, phase=Phase.ROLLING_BACK),
        )

    def ids(self, database: Database, **query: object) -> list[str]:
        with database.transaction(write=False) as tx:
            return [job.id for job in tx.jobs.list(**query)]  # type: ignore[arg-type]

    def test_newest_first(self, database: Database) -> None:
        assert self.ids(database) == ["new", "stuck", "newer", "middle", "old"]
        assert self.ids(database, limit=2) == ["new", "stuck"]

    def test_by_host_at_either_end(self, database: Database) -> None:
        assert self.ids(database, host="alpha") == ["stuck", "newer", "middle", "old"]
        assert self.ids(database, host="gamma") == ["new"]
        assert self.ids(database, host="nobody") == []

    def test_by_phase(self, database: Database) -> None:
        assert self.ids(database, phases=frozenset({Phase.SUCCEEDED, Phase.FREEZING})) == ["newer", "old"]
        assert self.ids(database, phases=frozenset(), limit=5) == []

    def test_count_of_unfinished_ones_on_a_host(self, database: Database) -> None:
        phases = frozenset({Phase.SUCCEEDED, Phase.FREEZING, Phase.ROLLING_BACK, Phase.NEEDS_OPERATOR})
        with database.transaction(write=False) as tx:
            assert tx.jobs.count(phases, "alpha", but="") == 2
            assert tx.jobs.count(phases, "alpha", but="newer") == 1
            assert tx.jobs.count(frozenset(), "alpha", but="") == 0
            assert tx.jobs.count(phases, "gamma", but="") == 0

    def test_unfinished_oldest_first_with_steps(self, database: Database) -> None:
        with database.transaction(write=False) as tx:
            jobs = tx.jobs.unfinished()
        assert [job.id for job in jobs] == ["middle", "newer", "new"]
        assert all(job.steps == a_job().steps for job in jobs)

    def test_unfinished_takes_two_queries(self, database: Database, statements: list[str]) -> None:
        add(database, *(a_job(f"more-{number}", minutes=number) for number in range(50)))
        statements.clear()
        with database.transaction(write=False) as tx:
            assert len(tx.jobs.unfinished()) == 53
        assert len([s for s in statements if s.startswith("SELECT")]) == 2


class TestOneJobPerWorkload:
    @pytest.mark.parametrize("phase", [Phase.ACCEPTED, Phase.ROLLING_BACK, Phase.NEEDS_OPERATOR])
    def test_a_second_one_is_refused(self, database: Database, phase: Phase) -> None:
        add(database, a_job("first", workload_id="w", phase=phase), a_job("second"))
        with pytest.raises(ResourceBusy, match="'first'") as caught, database.transaction() as tx:
            tx.jobs.add(a_job("third", workload_id="w"))
        assert caught.value.code == "workload_busy"
        assert "first" in str(caught.value.remedy)
        with pytest.raises(ResourceBusy, match="'first'") as caught:
            save(database, a_job("second"), workload_id="w")
        assert caught.value.code == "workload_busy"
        assert stored(database, "second") == a_job("second")

    @pytest.mark.parametrize("phase", [Phase.SUCCEEDED, Phase.FAILED, Phase.CANCELLED])
    def test_an_ended_one_lets_go(self, database: Database, phase: Phase) -> None:
        add(database, a_job("first", workload_id="w", phase=phase), a_job("second", workload_id="w"))
        with database.transaction(write=False) as tx:
            active = tx.jobs.active_for_workload("w")
            assert active is not None
            assert active.id == "second"
            assert tx.jobs.active_for_workload("other") is None

    def test_the_transaction_goes_on_after_a_refusal(self, database: Database) -> None:
        add(database, a_job("first", workload_id="w"), a_job("second"))
        with database.transaction() as tx:
            with pytest.raises(ResourceBusy):
                tx.jobs.save(a_job("second"), replace(a_job("second"), workload_id="w"))
            tx.jobs.save(a_job("second"), replace(a_job("second"), phase=Phase.PREFLIGHT))
        assert stored(database, "second").phase is Phase.PREFLIGHT
