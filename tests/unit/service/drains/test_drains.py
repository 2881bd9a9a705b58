"""A drain and its way back, over hosts that answer at once."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
import structlog

from migrator.errors import (
    InvalidRequest,
    PreconditionFailed,
    ResourceBusy,
    ResourceExhausted,
    WorkloadFailed,
)
from migrator.models.drains import DrainOptions, PassageStatus
from migrator.models.phase import JobKind, Phase
from migrator.models.values import JobRequest, StepCommand
from migrator.service.drains.fleet import Fleet
from tests.unit.service.drains.bench import MB, Bench

SIX = ("a", "b", "c", "d", "e", "f")


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    config = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    yield
    structlog.configure(**config)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_everything_leaves_and_comes_back(bench: Bench) -> None:
    bench.add(*SIX)
    job = bench.run(bench.drain(drain=DrainOptions(parallel=2)))
    assert job.phase is Phase.SUCCEEDED
    assert bench.on("alpha") == []
    assert len(bench.on("beta")) == len(bench.on("gamma")) == 3, "spread"
    assert bench.most_moving == 2
    assert bench.plane.list_hosts()[0].cordon is not None

    job = bench.run(bench.bring_back())
    assert job.phase is Phase.SUCCEEDED
    assert bench.on("alpha") == [*SIX]
    assert bench.plane.list_hosts()[0].cordon is None
    job = bench.run(bench.bring_back())
    assert (job.failure or {})["code"] == "nothing_to_return"


def test_a_container_that_cannot_move_stays_with_its_reason_and_the_others_go(bench: Bench) -> None:
    bench.add(*SIX)
    bench.refusals["alpha", "c"] = PreconditionFailed("it uses io_uring", code="io_uring", remedy="turn it off")
    job_id = bench.drain()
    job = bench.run(job_id)
    assert job.phase is Phase.FAILED
    assert job.failure is not None
    assert job.failure["code"] == "drain_incomplete"
    assert "default/c (it uses io_uring)" in job.failure["message"]
    assert bench.on("alpha") == ["c"]
    stays = bench.passages(job_id)["c"]
    assert stays.status is PassageStatus.REFUSED
    assert (stays.reason or {})["remedy"] == "turn it off"
    assert bench.plane.list_hosts()[0].cordon is not None, "it stays cordoned until somebody says otherwise"


def test_refusals_may_be_skipped(bench: Bench) -> None:
    bench.add("a", "b")
    bench.refusals["alpha", "a"] = PreconditionFailed("no")
    assert bench.run(bench.drain(drain=DrainOptions(skip_refused=True))).phase is Phase.SUCCEEDED
    assert bench.on("alpha") == ["a"]


def test_the_next_target_is_asked_when_the_best_one_refuses(bench: Bench) -> None:
    bench.add("a")
    bench.refusals["beta", "a"] = PreconditionFailed("its kernel is older", code="kernel_older")
    job_id = bench.drain()
    assert bench.run(job_id).phase is Phase.SUCCEEDED
    assert bench.on("gamma") == ["a"]
    assert bench.passages(job_id)["a"].refusals["beta"]["code"] == "kernel_older"


def test_a_target_that_refuses_only_the_migration_itself_is_left_out(bench: Bench) -> None:
    """Between its preflight and its migration a target may fill up."""
    bench.add("a")

    def fault(command: StepCommand) -> ResourceExhausted | None:
        late = command.step == "prepare" and command.request.target_host == "beta"
        return ResourceExhausted("no room") if late else None

    bench.faults = fault
    assert bench.run(bench.drain()).phase is Phase.SUCCEEDED
    assert bench.on("gamma") == ["a"]


def test_a_migration_that_fails_for_good_is_told_and_not_repeated(bench: Bench) -> None:
    bench.add("a", "b")

    def fault(command: StepCommand) -> WorkloadFailed | None:
        return WorkloadFailed("CRIU says no") if (command.step, command.request.container) == ("dump", "a") else None

    bench.faults = fault
    job_id = bench.drain()
    assert bench.run(job_id).phase is Phase.FAILED
    assert bench.passages(job_id)["a"].status is PassageStatus.FAILED
    assert [job.request.container for job in bench.jobs(JobKind.MIGRATION)].count("a") == 1
    assert bench.on("alpha") == ["a"]


def test_a_dry_run_changes_nothing_and_its_plan_is_followed(bench: Bench) -> None:
    bench.add(*SIX)
    dry_id = bench.drain(drain=DrainOptions(dry_run=True))
    assert bench.run(dry_id).phase is Phase.SUCCEEDED
    assert bench.on("alpha") == [*SIX]
    assert bench.plane.list_hosts()[0].cordon is None
    planned = {name: passage.target for name, passage in bench.passages(dry_id).items()}
    asked = len(bench.jobs(JobKind.PREFLIGHT))
    job_id = bench.drain(drain=DrainOptions(plan_id=dry_id))
    assert bench.run(job_id).phase is Phase.SUCCEEDED
    assert {name: passage.target for name, passage in bench.passages(job_id).items()} == planned
    assert len(bench.jobs(JobKind.PREFLIGHT)) == asked, "nobody was asked twice"


def test_a_plan_of_something_else_is_refused(bench: Bench) -> None:
    bench.add("a")
    dry_id = bench.drain(drain=DrainOptions(dry_run=True))
    bench.run(dry_id)
    for other in (DrainOptions(plan_id=dry_id, selector="x"), DrainOptions(plan_id=dry_id, targets=("beta",))):
        with pytest.raises(PreconditionFailed) as caught:
            bench.drain(drain=other)
        assert caught.value.code == "plan_not_usable"


def test_only_what_is_selected_goes_and_only_where_it_may(bench: Bench) -> None:
    bench.add("web", app="web")
    bench.add("db", app="db")
    options = DrainOptions(selector="app=web", targets=("gamma",))
    assert bench.run(bench.drain(drain=options)).phase is Phase.SUCCEEDED
    assert (bench.on("alpha"), bench.on("gamma")) == (["db"], ["web"])


def test_a_selector_that_matches_nothing_changes_nothing(bench: Bench) -> None:
    bench.add("web", app="web")
    job = bench.run(bench.drain(drain=DrainOptions(selector="app=none")))
    assert (job.failure or {})["code"] == "nothing_selected"
    assert bench.plane.list_hosts()[0].cordon is None


def test_an_empty_host_is_drained_at_once(bench: Bench) -> None:
    assert bench.run(bench.drain()).phase is Phase.SUCCEEDED
    assert bench.plane.list_hosts()[0].cordon is not None


def test_what_does_not_run_stays_and_is_no_failure(bench: Bench) -> None:
    bench.add("old", status="stopped")
    job_id = bench.drain()
    assert bench.run(job_id).phase is Phase.SUCCEEDED
    assert bench.passages(job_id)["old"].status is PassageStatus.SKIPPED


def test_nothing_new_comes_to_a_cordoned_host(bench: Bench) -> None:
    bench.add("a", host="beta")
    bench.plane.cordon_host("alpha", "me", "new disks")
    move = JobRequest(JobKind.MIGRATION, source_host="beta", container="a", target_host="alpha")
    with pytest.raises(PreconditionFailed, match="new disks") as caught:
        bench.plane.create_job(move, None)
    assert caught.value.code == "host_cordoned"
    bench.plane.uncordon_host("alpha", "me")
    assert bench.run(bench.plane.create_job(move, None).id).phase is Phase.SUCCEEDED


def test_targets_that_are_cordoned_or_silent_get_nothing(bench: Bench) -> None:
    bench.add("a", "b")
    bench.plane.cordon_host("beta", "me", "")
    assert bench.run(bench.drain()).phase is Phase.SUCCEEDED
    assert bench.on("gamma") == ["a", "b"]


def test_a_busy_machine_makes_no_target_silent(bench: Bench) -> None:
    """The last heartbeats are old, and the controller has not got any further with its messages."""
    bench.add("a")
    job_id, silence = bench.drain(), timedelta(seconds=4)
    with bench.database.transaction() as tx:
        tx.hosts.note_hearing(bench.now)
    with bench.database.transaction(write=False) as tx:
        job = tx.jobs.get(job_id)
        assert Fleet.read(tx, bench.now + timedelta(seconds=10), silence).targets(job) == ["beta", "gamma"]
        assert Fleet.read(tx, bench.now + timedelta(seconds=60), silence).targets(job) == [], "the controller is dead"


def test_without_any_target_it_says_so(bench: Bench) -> None:
    bench.add("a")
    for host in ("beta", "gamma"):
        bench.plane.cordon_host(host, "me", "")
    job_id = bench.drain()
    bench.run(job_id)
    assert (bench.passages(job_id)["a"].reason or {})["code"] == "no_target"


def test_targets_are_not_overfilled(bench: Bench) -> None:
    bench.free = {"alpha": 10_000 * MB, "beta": 1350 * MB, "gamma": 1150 * MB}
    bench.beat()
    bench.add("a", "b", "c", memory_mb=150)
    job_id = bench.drain(drain=DrainOptions(dry_run=True))
    bench.run(job_id)
    placed = {name: passage.target for name, passage in bench.passages(job_id).items()}
    assert sorted(placed.values(), key=str) == ["beta", "beta", "gamma"], "1000 MB stay free on each host"
    bench.add("d", memory_mb=150)
    job_id = bench.drain(drain=DrainOptions(dry_run=True))
    bench.run(job_id)
    last = bench.passages(job_id)["d"]
    assert last.status is PassageStatus.REFUSED
    assert "it needs 150 MB of memory" in (last.reason or {})["message"]


def test_a_container_on_which_another_job_works_is_waited_for(bench: Bench) -> None:
    bench.add("a")
    backup = JobRequest(JobKind.CHECKPOINT, source_host="alpha", container="a")
    held = bench.plane.create_job(backup, None).id
    bench.slow = (held, "upload")
    bench.work(5)
    job_id = bench.drain()
    bench.work(20)
    assert bench.passages(job_id)["a"].phase == f"waits for job {held}"
    assert bench.jobs(JobKind.MIGRATION) == []
    bench.slow = None
    assert bench.run(job_id).phase is Phase.SUCCEEDED
    assert bench.job(held).phase is Phase.SUCCEEDED


def test_what_arrives_while_the_host_is_drained_goes_too(bench: Bench) -> None:
    bench.add("a")
    bench.faults = lambda command: bench.add("late") if command.step == "prepare" else None  # type: ignore[func-returns-value]
    job_id = bench.drain()
    assert bench.run(job_id).phase is Phase.SUCCEEDED
    assert bench.passages(job_id)["late"].status is PassageStatus.MOVED
    assert bench.on("alpha") == []


def test_two_drains_of_one_host_are_one_too_many(bench: Bench) -> None:
    bench.add("a")
    first = bench.drain(key="once")
    with pytest.raises(ResourceBusy) as caught:
        bench.drain()
    assert caught.value.code == "drain_under_way"
    assert bench.drain(key="once") == first, "asking again is no second drain"


def test_cancel_starts_nothing_more_and_takes_back_what_is_not_handed_over(bench: Bench) -> None:
    bench.add(*SIX)
    bench.faults = lambda command: _stop_all(bench) if command.step == "prepare" else None  # type: ignore[func-returns-value]
    job_id = bench.drain(drain=DrainOptions(parallel=2))
    job = bench.run(job_id)
    assert job.phase is Phase.CANCELLED
    assert not bench.moving()
    assert bench.on("alpha") == [*SIX]


def _stop_all(bench: Bench) -> None:
    for job in bench.jobs(JobKind.DRAIN):
        if not job.cancel_requested:
            bench.plane.cancel_job(job.id)


def test_what_was_handed_over_before_the_cancel_is_on_record(bench: Bench) -> None:
    bench.add(*SIX)
    bench.faults = lambda command: _stop_all(bench) if command.step == "remove" else None  # type: ignore[func-returns-value]
    job_id = bench.drain(drain=DrainOptions(parallel=1))
    assert bench.run(job_id).phase is Phase.CANCELLED
    (moved,) = [name for name in SIX if name not in bench.on("alpha")]
    assert bench.passages(job_id)[moved].status is PassageStatus.MOVED
    bench.run(bench.bring_back())
    assert bench.on("alpha") == [*SIX]


def test_what_somebody_has_moved_on_stays_there(bench: Bench) -> None:
    bench.add("a", "b")
    bench.run(bench.drain(drain=DrainOptions(targets=("beta",))))
    on = JobRequest(JobKind.MIGRATION, source_host="beta", container="a", target_host="gamma")
    bench.run(bench.plane.create_job(on, None).id)
    job_id = bench.bring_back()
    assert bench.run(job_id).phase is Phase.SUCCEEDED
    assert (bench.on("alpha"), bench.on("gamma")) == (["b"], ["a"])
    assert (bench.passages(job_id)["a"].reason or {})["code"] == "moved_on"


def test_a_new_maintenance_forgets_what_an_earlier_one_moved(bench: Bench) -> None:
    bench.add("a")
    bench.run(bench.drain(drain=DrainOptions(targets=("beta",))))
    bench.plane.uncordon_host("alpha", "me")
    bench.add("b")
    bench.run(bench.drain(drain=DrainOptions(targets=("beta",))))
    bench.run(bench.bring_back())
    assert (bench.on("alpha"), bench.on("beta")) == (["b"], ["a"])


def test_it_returns_by_itself_when_its_time_has_come_and_the_host_lives(bench: Bench) -> None:
    bench.add("a", "b")
    job_id = bench.drain(drain=DrainOptions(return_after_s=3600))
    end = bench.run(job_id).finished_at
    assert end is not None
    cordon = bench.plane.list_hosts()[0].cordon
    assert cordon is not None
    assert cordon.return_at is not None
    assert abs(cordon.return_at - end - timedelta(hours=1)) < timedelta(seconds=2)
    free = bench.free.pop("alpha")  # switched off
    bench.now += timedelta(hours=1)
    bench.work(10)
    assert bench.jobs(JobKind.RETURN) == []
    bench.free["alpha"] = free
    bench.work(30)
    (back,) = bench.jobs(JobKind.RETURN)
    bench.run(back.id)
    assert bench.on("alpha") == ["a", "b"]
    assert bench.plane.list_hosts()[0].cordon is None


def test_a_return_that_is_refused_says_so_and_the_host_is_open_all_the_same(bench: Bench) -> None:
    bench.add("a", "b")
    bench.run(bench.drain())
    bench.refusals["alpha", "a"] = PreconditionFailed("its kernel is older", code="kernel_older")
    job = bench.run(bench.bring_back())
    assert (job.failure or {})["code"] == "return_incomplete"
    assert bench.on("alpha") == ["b"]
    assert bench.plane.list_hosts()[0].cordon is None
    bench.refusals.clear()
    bench.run(bench.bring_back())
    assert bench.on("alpha") == ["a", "b"]


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (JobRequest(JobKind.DRAIN), "incomplete_request"),
        (JobRequest(JobKind.DRAIN, source_host="alpha", container="a"), "contradictory_request"),
        (JobRequest(JobKind.DRAIN, source_host="alpha", drain=DrainOptions(parallel=0)), "bad_parallel"),
        (JobRequest(JobKind.DRAIN, source_host="alpha", drain=DrainOptions(selector="a b")), "bad_selector"),
        (
            JobRequest(JobKind.DRAIN, source_host="alpha", drain=DrainOptions(targets=("alpha",))),
            "contradictory_request",
        ),
        (JobRequest(JobKind.DRAIN, source_host="alpha", drain=DrainOptions(return_after_s=-1)), "bad_return"),
        (
            JobRequest(JobKind.RETURN, target_host="alpha", drain=DrainOptions(targets=("beta",))),
            "contradictory_request",
        ),
        (
            JobRequest(JobKind.CHECKPOINT, source_host="alpha", container="a", drain=DrainOptions()),
            "contradictory_request",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(bench: Bench, request_: JobRequest, code: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        bench.plane.create_job(request_, None)
    assert caught.value.code == code


@pytest.mark.parametrize("stride", [8, pytest.param(1, marks=pytest.mark.wide)])
def test_a_controller_may_die_anywhere_in_a_drain_and_in_a_return(stride: int) -> None:
    """Before and after every single commit: nothing is lost, nothing is done twice."""
    deaths = 0
    for at in range(1, 2000, stride):
        bench = Bench()
        bench.add("a", "b")
        job_id = bench.drain(drain=DrainOptions(parallel=2))
        bench.database.lives = at
        assert bench.run(job_id).phase is Phase.SUCCEEDED, at
        assert bench.on("alpha") == [], at
        back_id = bench.bring_back(drain=DrainOptions(parallel=2))
        assert bench.run(back_id).phase is Phase.SUCCEEDED, at
        assert bench.on("alpha") == ["a", "b"], at
        assert len(bench.jobs(JobKind.MIGRATION)) == 4, f"{at}: a migration was started twice"
        assert bench.most_moving <= 2
        if bench.database.lives > 0:
            break
        deaths += 1
    assert deaths > 50 // stride
