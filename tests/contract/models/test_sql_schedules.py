"""Schedules and runs in each database, and three controllers that fire them at the same moment."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from migrator.errors import AlreadyExists, NotFound, ResourceBusy
from migrator.models.phase import JobKind
from migrator.models.schedule_values import (
    Act,
    Cause,
    Overlap,
    Pause,
    Run,
    RunState,
    Schedule,
    ScheduleSpec,
    Target,
    Trigger,
)
from migrator.models.session import Database
from migrator.models.values import Host, JobRequest, TcpPolicy
from migrator.models.volumes import VolumePolicy
from tests.contract.models.samples import moment, race
from tests.unit.service.schedules.bench import Bench

JOB = JobRequest(JobKind.MIGRATION, target_host="beta", volumes={"/d": VolumePolicy.COPY}, tcp=TcpPolicy.CLOSE)
SPEC = ScheduleSpec(
    trigger=Trigger(cron="30 2 * * *"),
    job=JOB,
    target=Target("alpha", "web", "web-1", {"a": "b"}),
    time_zone="Europe/Berlin",
    start=moment(0),
    end=moment(100),
    overlap=Overlap.CANCEL,
    catchup_s=60,
    jitter_s=5,
    blackouts=("22:00-06:00", "2026-12-24"),
    pause_after=3,
    allow_empty=True,
    asked="{}",
)


def a_schedule(name: str = "s", **values: object) -> Schedule:
    standard = Schedule(f"sch-{name}", name, 1, SPEC, moment(0), moment(0), moment(0), moment(0), moment(5))
    return replace(standard, **values)  # type: ignore[arg-type]


def a_run(run_id: str = "run-1", minutes: float = 0, state: RunState = RunState.RUNNING) -> Run:
    act = Act("alpha", "default", "web", "mig-1", failure={"code": "x"})
    return Run(run_id, "sch-s", moment(minutes), moment(minutes + 1), state, Cause.BACKFILL, "why", acts=(act,))


def test_what_was_written_is_read(database: Database) -> None:
    written = a_schedule(pause=Pause(moment(3), "ann", "why"), failures=2)
    one_off = a_schedule("t", spec=replace(SPEC, trigger=Trigger(at=moment(9)), start=None, end=None), look_at=None)
    run = replace(a_run(), until=moment(9), count=4, started_at=moment(1), finished_at=moment(2))
    with database.transaction() as tx:
        tx.schedules.add(written)
        tx.schedules.add(one_off)
        assert tx.schedules.add_run(run)
    with database.transaction(write=False) as tx:
        assert tx.schedules.get("s") == tx.schedules.get("sch-s") == written
        assert tx.schedules.list() == [written, one_off]
        assert tx.schedules.runs("sch-s") == [run]
        assert tx.schedules.find_run("run-1") == run
        assert tx.schedules.find_run("run-2") is None
        with pytest.raises(NotFound):
            tx.schedules.get("u")


def test_names_are_taken_once(database: Database) -> None:
    with database.transaction() as tx:
        tx.schedules.add(a_schedule())
        other = tx.schedules.add(a_schedule("t"))
    with pytest.raises(AlreadyExists), database.transaction() as tx:
        tx.schedules.add(a_schedule(id="other"))
    with pytest.raises(AlreadyExists), database.transaction() as tx:
        tx.schedules.save(other, replace(other, name="s"))


def test_one_save_wins(database: Database) -> None:
    with database.transaction() as tx:
        before = tx.schedules.add(a_schedule())

    def save(number: int) -> Schedule:
        with database.transaction() as tx:
            return tx.schedules.save(before, replace(before, failures=number))

    winners, losers = race(6, save)
    assert len(winners) == 1
    assert [error.code for error in losers] == ["schedule_changed"] * 5
    with database.transaction(write=False) as tx:
        assert tx.schedules.get("s") == winners[0]


def test_a_schedule_that_is_gone_was_changed(database: Database) -> None:
    with pytest.raises(ResourceBusy), database.transaction() as tx:
        tx.schedules.save(a_schedule(), a_schedule())


def test_a_fire_time_runs_once_and_may_be_skipped_often(database: Database) -> None:
    with database.transaction() as tx:
        tx.schedules.add(a_schedule())
        assert tx.schedules.add_run(a_run("skip-1", state=RunState.SKIPPED))
        assert tx.schedules.add_run(a_run("run-1"))
        assert not tx.schedules.add_run(a_run("run-2", state=RunState.WAITING))
        assert tx.schedules.add_run(a_run("skip-2", state=RunState.SKIPPED))
        tx.schedules.save_run(replace(a_run("run-1"), state=RunState.FAILED))
        assert not tx.schedules.add_run(a_run("run-3"))
        assert tx.schedules.ran_at("sch-s", moment(0), moment(1)) == {moment(0)}
        assert tx.schedules.ran_at("sch-s", moment(1), moment(2)) == set()


def test_what_wants_to_be_looked_after(database: Database) -> None:
    with database.transaction() as tx:
        for name, look_at in (("due", moment(5)), ("later", moment(9)), ("never", None), ("busy", None)):
            tx.schedules.add(a_schedule(name, look_at=look_at))
        tx.schedules.add(a_schedule("paused", pause=Pause(moment(0), "", "")))
        tx.schedules.add_run(replace(a_run("r1", state=RunState.WAITING), schedule_id="sch-busy"))
        tx.schedules.add_run(replace(a_run("r2", state=RunState.FAILED), schedule_id="sch-later"))
    with database.transaction(write=False) as tx:
        assert tx.schedules.wanting(moment(5)) == ["sch-busy", "sch-due"]


def test_runs_in_their_order(database: Database) -> None:
    with database.transaction() as tx:
        tx.schedules.add(a_schedule())
        for number, state in enumerate((RunState.RUNNING, RunState.FAILED, RunState.WAITING, RunState.SKIPPED)):
            tx.schedules.add_run(a_run(f"r{number}", number, state))
    with database.transaction(write=False) as tx:
        assert [run.id for run in tx.schedules.runs("sch-s", limit=3)] == ["r3", "r2", "r1"]
        assert [run.id for run in tx.schedules.open_runs("sch-s")] == ["r0", "r2"]
        last = tx.schedules.last_run("sch-s")
        assert last is not None
        assert last.id == "r2"


def test_old_runs_are_forgotten_unless_they_go_on(database: Database) -> None:
    with database.transaction() as tx:
        tx.schedules.add(a_schedule())
        for number in range(9):
            tx.schedules.add_run(a_run(f"r{number}", number, RunState.FAILED if number else RunState.RUNNING))
        tx.schedules.prune_runs("sch-s", kept=4)
        assert [run.id for run in tx.schedules.runs("sch-s")] == ["r8", "r7", "r6", "r5", "r0"]


def test_a_schedule_goes_with_its_runs(database: Database) -> None:
    with database.transaction() as tx:
        tx.schedules.add(a_schedule())
        tx.schedules.add_run(a_run())
    with database.transaction() as tx:
        tx.schedules.remove("sch-s")
        tx.schedules.remove("sch-s")
    with database.transaction(write=False) as tx:
        assert tx.schedules.list() == tx.schedules.runs("sch-s") == []


def test_three_controllers_fire_each_time_once(database: Database, rival: Database, empty_url: str) -> None:
    """Three controllers tick as fast as they can while time goes by, each with connections of its own."""
    third = database if empty_url == "memory:" else Database(empty_url)
    benches = [Bench(each) for each in (database, rival, third)]
    begin, names, minutes = benches[0].now, ("a", "b"), range(1, 9)
    for name in names:
        benches[0].create(name, trigger=Trigger(every_s=60), overlap=Overlap.ALLOW)
    with database.transaction() as tx:
        tx.hosts.record(Host("alpha", begin + timedelta(days=1)))  # it is never silent
    over = threading.Event()

    def tick(bench: Bench) -> None:
        while not over.wait(0.03):
            bench.scheduler.tick()

    with capture_logs():
        threads = [threading.Thread(target=tick, args=(bench,)) for bench in benches]
        for thread in threads:
            thread.start()
        for _ in minutes:
            for bench in benches:
                bench.now += timedelta(minutes=1)
            over.wait(0.1)
        over.set()
        for thread in threads:
            thread.join()
        benches[0].scheduler.tick()
    for name in names:
        runs = benches[0].runs(name)
        assert [run.fire_time for run in runs] == [begin + timedelta(minutes=minute) for minute in minutes]
        assert all(len(run.jobs) == 1 for run in runs)
    jobs = sorted(job.id for job in benches[0].jobs())
    assert len(jobs) == len(names) * len(minutes)
    assert jobs == sorted(job_id for bench in benches for job_id in bench.advanced)
    if third is not database:
        third.close()
