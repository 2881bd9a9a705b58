"""Several writers at the same moment: one wins, the others are told, nothing is torn."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace

import pytest

from migrator.errors import MigratorError, ResourceBusy
from migrator.models import schema
from migrator.models.drains import DrainOptions
from migrator.models.phase import JobKind, Phase
from migrator.models.session import Database
from migrator.models.values import ContainerView, Host, Job, JobRequest, StepStatus, Workload
from tests.contract.models.samples import a_job, moment, race

WRITERS = 8
UPGRADE = "import sys; from migrator.models.session import Database; Database(sys.argv[1]).upgrade()"
DIE_WRITING = """
import os, sys
from datetime import UTC, datetime
from migrator.models.session import Database
from migrator.models.values import Host
with Database(sys.argv[1]).transaction() as tx:
    tx.hosts.record(Host("ghost", datetime.now(UTC)))
    print("written", flush=True)
    sys.stdin.read()
"""


def codes(errors: list[MigratorError]) -> list[str]:
    return [error.code for error in errors]


def test_one_commit_wins(database: Database) -> None:
    with database.transaction() as tx:
        tx.workloads.add(Workload("w", "default", "web", "alpha", 1))

    def commit(number: int) -> Workload:
        with database.transaction() as tx:
            return tx.workloads.commit("w", epoch=1, owner_host=f"host-{number}")

    winners, losers = race(WRITERS, commit)
    assert len(winners) == 1
    assert codes(losers) == ["commit_lost"] * (WRITERS - 1)
    assert winners[0].epoch == 2
    with database.transaction(write=False) as tx:
        assert tx.workloads.get("w") == winners[0]


def test_one_drain_of_a_host_is_accepted(database: Database) -> None:
    drain = JobRequest(JobKind.DRAIN, source_host="alpha")
    back = JobRequest(JobKind.RETURN, target_host="alpha")

    def accept(number: int) -> Job:
        with database.transaction() as tx:
            return tx.jobs.add(a_job(f"drn-{number}", request=back if number % 2 else drain, steps=()))

    winners, losers = race(WRITERS, accept)
    assert len(winners) == 1
    assert codes(losers) == ["drain_under_way"] * (WRITERS - 1)
    assert winners[0].id in str(losers[0])
    with database.transaction() as tx:
        dry = replace(drain, drain=DrainOptions(dry_run=True))
        tx.jobs.add(a_job("drn-dry", request=dry, steps=()))
        tx.jobs.add(a_job("drn-beta", request=replace(drain, source_host="beta"), steps=()))
        assert tx.jobs.alone_with("host alpha") == winners[0]
        tx.jobs.save(winners[0], replace(winners[0], phase=Phase.FAILED))
        assert tx.jobs.alone_with("host alpha") is None
        tx.jobs.add(a_job("drn-next", request=drain, steps=()))


def test_a_drain_goes_on_after_an_operator_only_if_no_other_has_begun(database: Database) -> None:
    drain = JobRequest(JobKind.DRAIN, source_host="alpha")
    with database.transaction() as tx:
        stopped = tx.jobs.add(a_job("drn-1", request=drain, steps=()))
        stopped = tx.jobs.save(stopped, replace(stopped, phase=Phase.NEEDS_OPERATOR))
        other = tx.jobs.add(a_job("drn-2", request=drain, steps=()))
    goes_on = replace(stopped, phase=Phase.ROLLING_BACK)
    with pytest.raises(ResourceBusy, match="drn-2") as caught, database.transaction() as tx:
        tx.jobs.save(stopped, goes_on)
    assert caught.value.code == "drain_under_way"
    with database.transaction() as tx:
        tx.jobs.save(other, replace(other, phase=Phase.SUCCEEDED))
        assert tx.jobs.save(stopped, goes_on).phase is Phase.ROLLING_BACK


def test_one_restore_under_its_own_name_is_accepted(database: Database) -> None:
    """Of all generations together: of an older checkpoint, too, and whatever the target."""
    family = "web-23456789ab"

    def accept(number: int) -> Job:
        request = JobRequest(JobKind.RESTORE, checkpoint_id=f"ck-{number % 2}", target_host=f"host-{number}")
        job = a_job(f"res-{number}", request=request, workload_id=f"{family}.23456789a{number}", steps=())
        with database.transaction() as tx:
            return tx.jobs.add(job)

    winners, losers = race(WRITERS, accept)
    assert len(winners) == 1
    assert codes(losers) == ["restore_under_way"] * (WRITERS - 1)
    clone = JobRequest(JobKind.RESTORE, checkpoint_id="ck-1", target_host="beta", new_name="web-2")
    with database.transaction() as tx:
        tx.jobs.add(a_job("res-clone", request=clone, workload_id="web-2-23456789ab", steps=()))
        tx.jobs.save(winners[0], replace(winners[0], phase=Phase.SUCCEEDED))
    assert accept(9).id == "res-9"


def test_one_save_wins(database: Database) -> None:
    before = a_job()
    with database.transaction() as tx:
        tx.jobs.add(before)

    def save(number: int) -> Job:
        steps = tuple(replace(step, attempt=number + 1) for step in before.steps)
        with database.transaction() as tx:
            return tx.jobs.save(before, replace(before, checkpoint_id=f"ck-{number}", steps=steps))

    winners, losers = race(WRITERS, save)
    assert len(winners) == 1
    assert codes(losers) == ["job_changed"] * (WRITERS - 1)
    with database.transaction(write=False) as tx:
        assert tx.jobs.get("mig-1") == winners[0]


def test_read_change_write_loses_no_change(database: Database) -> None:
    with database.transaction() as tx:
        tx.jobs.add(a_job())

    def count(_number: int) -> int:
        """Raise the epoch by one, beginning anew whenever somebody else was faster."""
        for tries in range(1, 1000):
            try:
                with database.transaction() as tx:
                    job = tx.jobs.get("mig-1")
                    tx.jobs.save(job, replace(job, epoch=job.epoch + 1))
            except MigratorError as error:
                if error.code != "job_changed":
                    raise
            else:
                return tries
        raise AssertionError("never won")

    race(WRITERS, count)
    with database.transaction(write=False) as tx:
        job = tx.jobs.get("mig-1")
    assert (job.epoch, job.version) == (WRITERS, WRITERS + 1)


def test_one_job_per_idempotency_key(database: Database) -> None:
    def add(number: int) -> Job:
        with database.transaction() as tx:
            return tx.jobs.add(a_job(f"mig-{number}", idempotency_key="k"))

    jobs, losers = race(WRITERS, add)
    assert losers == []
    assert len({job.id for job in jobs}) == 1
    with database.transaction(write=False) as tx:
        assert tx.jobs.list() == jobs[:1]


def test_one_job_takes_the_workload(database: Database) -> None:
    jobs = [a_job(f"mig-{number}") for number in range(WRITERS)]
    with database.transaction() as tx:
        for job in jobs:
            tx.jobs.add(job)

    def claim(number: int) -> Job:
        with database.transaction() as tx:
            return tx.jobs.save(jobs[number], replace(jobs[number], workload_id="w", phase=Phase.PREFLIGHT))

    winners, losers = race(WRITERS, claim)
    assert len(winners) == 1
    assert codes(losers) == ["workload_busy"] * (WRITERS - 1)
    assert all(f"'{winners[0].id}'" in error.message for error in losers)
    with database.transaction(write=False) as tx:
        assert tx.jobs.active_for_workload("w") == winners[0]
        assert [job.id for job in tx.jobs.list(phases=frozenset({Phase.PREFLIGHT}))] == [winners[0].id]


def test_one_name_is_one_workload(database: Database) -> None:
    def register(number: int) -> str:
        with database.transaction() as tx:
            tx.workloads.add(Workload(f"web-{number}", "default", "web", "alpha", 1))
            return f"web-{number}"

    winners, losers = race(WRITERS, register)
    assert len(winners) == 1
    assert codes(losers) == ["workload_busy"] * (WRITERS - 1)


def test_heartbeats_and_looks_of_one_host_do_not_collide(database: Database) -> None:
    def report(number: int) -> None:
        views = [ContainerView("alpha", "default", f"c{index}", f"by-{number}") for index in range(5)]
        for _ in range(5):
            with database.transaction() as tx:
                tx.hosts.record(Host("alpha", moment(number)))
            with database.transaction() as tx:
                tx.hosts.replace_containers("alpha", views, moment(number))

    _, losers = race(WRITERS, report)
    assert losers == []
    with database.transaction(write=False) as tx:
        views = tx.hosts.containers("alpha")
        seen_at = tx.hosts.containers_seen_at("alpha")
    assert len(views) == 5
    assert [moment(int(views[0].status.removeprefix("by-")))] == [seen_at]
    assert len({view.status for view in views}) == 1


def test_progress_arrives_while_the_job_is_saved(database: Database) -> None:
    started = replace(a_job().steps[3], status=StepStatus.STARTED, attempt=1)
    with database.transaction() as tx:
        tx.jobs.add(a_job(steps=(*a_job().steps[:3], started)))

    def work(number: int) -> None:
        for value in range(1, 11):
            with database.transaction() as tx:
                if number:
                    tx.jobs.record_progress("mig-1", 3, 1, value * 10, 100)
                else:
                    job = tx.jobs.get("mig-1")
                    tx.jobs.save(job, replace(job, epoch=value))

    _, losers = race(4, work)
    assert losers == []
    with database.transaction(write=False) as tx:
        job = tx.jobs.get("mig-1")
    assert (job.epoch, job.version, job.steps[3].progress_bytes) == (10, 11, 100)


def test_a_reader_neither_waits_for_a_writer_nor_sees_half_of_its_work(database: Database, rival: Database) -> None:
    with database.transaction() as tx:
        tx.hosts.record(Host("alpha", moment(0)))
    with database.transaction(write=False) as reader:
        assert [host.name for host in reader.hosts.list()] == ["alpha"]
        with rival.transaction() as writer:
            writer.hosts.record(Host("beta", moment(0)))
            assert [host.name for host in reader.hosts.list()] == ["alpha"]
        assert [host.name for host in reader.hosts.list()] == ["alpha"], "one snapshot till its end"
    with database.transaction(write=False) as reader:
        assert [host.name for host in reader.hosts.list()] == ["alpha", "beta"]


def test_a_writer_waits_for_a_writer(database: Database, rival: Database) -> None:
    with database.transaction() as tx:
        tx.jobs.add(a_job())
    written, ended = threading.Event(), threading.Event()

    def hold() -> None:
        with database.transaction() as tx:
            tx.jobs.request_cancel("mig-1", moment(1))
            written.set()
            ended.wait(0.3)

    holder = threading.Thread(target=hold)
    holder.start()
    assert written.wait(10)
    with rival.transaction() as tx:
        job = tx.jobs.request_cancel("mig-1", moment(2))
    holder.join(10)
    assert (job.version, job.updated_at) == (2, moment(1)), "the second cancel saw the first"


@pytest.mark.sql
def test_processes_that_start_together_may_all_upgrade(empty_url: str) -> None:
    processes = [
        subprocess.Popen([sys.executable, "-c", UPGRADE, empty_url], stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    ends = [(process.communicate(timeout=60)[1], process.returncode) for process in processes]
    assert ends == [("", 0)] * 4
    database = Database(empty_url)
    with database.transaction() as tx:
        assert tx.jobs.add(a_job()).id == "mig-1"
    database.close()


@pytest.mark.sql
def test_an_upgrade_waits_for_the_one_under_way(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    second: list[subprocess.Popen[str]] = []

    def let_another_come(*_arguments: object) -> None:
        """Called when all revisions are applied and nothing is committed yet."""
        if not second:
            second.append(
                subprocess.Popen([sys.executable, "-c", UPGRADE, empty_url], stderr=subprocess.PIPE, text=True)
            )
            with pytest.raises(subprocess.TimeoutExpired):
                second[0].wait(3)

    monkeypatch.setattr(schema, "_check_references", let_another_come)
    Database(empty_url).upgrade()
    assert second[0].communicate(timeout=60)[1] == ""
    assert second[0].returncode == 0


@pytest.mark.sql
def test_threads_of_one_process_may_all_upgrade(empty_url: str) -> None:
    _, losers = race(4, lambda _number: Database(empty_url).upgrade())
    assert losers == []


@pytest.mark.sql
@pytest.mark.parametrize("_round", range(3))
def test_a_writer_that_is_killed_leaves_nothing(database: Database, empty_url: str, _round: int) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", DIE_WRITING, empty_url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == "written\n"
    os.kill(writer.pid, signal.SIGKILL)
    writer.communicate(timeout=20)
    with database.transaction() as tx:
        tx.hosts.record(Host("alpha", moment(0)))
        assert [host.name for host in tx.hosts.list()] == ["alpha"]
