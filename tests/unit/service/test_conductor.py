"""The conductor over a real database: what it sends, what it decides, and what it makes of silence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from migrator.errors import InternalError, Unavailable, WorkloadFailed
from migrator.models.phase import JobKind, Phase
from migrator.models.session import Database
from migrator.models.values import Facts, Job, JobRequest, Outcome, Sight, StepAction, StepCommand, StepStatus
from migrator.service.catalogue import SOURCE_GONE
from migrator.service.control.chase import RESEND_S
from migrator.service.control.conductor import Conductor
from migrator.service.control.control_steps import ControlStep
from migrator.service.ledger import in_a_row
from migrator.service.plans import steps_for

SILENT_S = 4.0


class Settle(ControlStep):
    name = "settle"

    def run(self, job: Job) -> Facts:
        return {}


class LostProgram(ControlStep):
    def undo(self, job: Job) -> Facts:
        return {SOURCE_GONE: True}


@dataclass
class Bench:
    """A conductor with a clock that stands still, and what it sent to hosts."""

    database: Database
    now: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    sent: list[StepCommand] = field(default_factory=list)
    verdicts: list[str] = field(default_factory=list)
    broker_away: bool = False
    lag_s: float = 0.0
    """How long messages wait before the controller takes them."""

    def __post_init__(self) -> None:
        self.conductor = self.new_conductor()
        for host in ("alpha", "beta"):
            self.beat(host)

    def new_conductor(self) -> Conductor:
        return Conductor(
            self.database,
            self,
            {"settle": Settle(), "predict": Settle()},
            {"freeze": LostProgram()},
            host_silent_s=SILENT_S,
            let_run=self.verdicts.append,
            heard_until=lambda: self.now - timedelta(seconds=self.lag_s),
            now=lambda: self.now,
        )

    def send_command(self, host: str, command: StepCommand) -> None:
        if self.broker_away:
            raise Unavailable("no broker")
        self.sent.append(command)

    def beat(self, host: str, boot: str = "first", up_s: float = 1000.0) -> None:
        self.conductor.record_heartbeat(host, {"boot_id": boot}, up_s)

    def remove(self, host: str) -> None:
        with self.database.transaction() as tx:
            tx.hosts.forget(host)

    def start(self, container: str = "c", key: str = "j") -> str:
        request = JobRequest(
            kind=JobKind.MIGRATION, namespace="default", source_host="alpha", container=container, target_host="beta"
        )
        job = Job(key, request, Phase.ACCEPTED, 1, self.now, self.now, checkpoint_id="ck", steps=steps_for(request))
        with self.database.transaction() as tx:
            tx.jobs.add(job)
        self.conductor.advance(key)
        return key

    def job(self, job_id: str = "j") -> Job:
        with self.database.transaction(write=False) as tx:
            return tx.jobs.get(job_id)

    def owner(self) -> tuple[str, int]:
        with self.database.transaction(write=False) as tx:
            workload = tx.workloads.get(str(self.job().workload_id))
        return workload.owner_host, workload.epoch

    def answer(self, command: StepCommand, error: Exception | None = None, **facts: object) -> None:
        failure = error.to_dict() if error else None  # type: ignore[attr-defined]
        host = "alpha"
        self.conductor.receive(
            Outcome(
                command.job_id, command.step, command.position, command.action, command.attempt, host,
                error is None, 0.01, dict(facts), failure,
            )
        )  # fmt: skip

    def run_to(self, step: str) -> StepCommand:
        """Answer every command well until `step` is out; return its command."""
        for _ in range(40):
            for command in in_a_row(self.sent[-1]):
                if command.step == step:
                    return command
                self.answer(command)
        raise AssertionError(f"{step} was never sent")

    def wait(self, seconds: float, *, beating: tuple[str, ...] = ("alpha", "beta")) -> None:
        """Let time pass, with heartbeats and ticks once a second."""
        for _ in range(int(seconds)):
            self.now += timedelta(seconds=1)
            for host in beating:
                self.beat(host)
            self.conductor.tick()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    database = Database(f"sqlite:///{tmp_path}/db")
    database.upgrade()
    yield Bench(database)
    database.close()


def test_a_migration_without_faults(bench: Bench) -> None:
    bench.start()
    bench.answer(bench.run_to("release-target"))
    assert bench.job().phase is Phase.SUCCEEDED
    assert bench.owner()[0] == "beta"
    assert len(bench.sent) == len({command.step for command in bench.sent}), "nothing was sent twice"


def test_a_claim_raises_the_epoch_so_that_hosts_refuse_an_earlier_job(bench: Bench) -> None:
    bench.start()
    bench.answer(bench.run_to("prepare"), WorkloadFailed("no"))
    bench.answer(bench.sent[-1])
    assert bench.job().phase is Phase.FAILED
    first = bench.job().epoch
    bench.start(key="k")
    bench.answer(bench.sent[-1])
    bench.answer(bench.sent[-1])
    assert bench.sent[-1].epoch > first


def test_a_host_moves_the_memory_of_no_more_than_it_may_at_once(bench: Bench) -> None:
    for name in ("a", "b", "c"):
        bench.start(container=name, key=name)
        while (command := bench.sent[-1]).step != "prepare":
            bench.answer(command)
        bench.answer(command)
    moving = [command for command in bench.sent if command.step == "precopy"]
    assert [command.job_id for command in moving] == ["a", "b"]
    assert bench.job("c").phase is Phase.PREPARING
    bench.answer(moving[0], WorkloadFailed("no"))
    undo = bench.sent[-1]
    assert (undo.job_id, undo.step, undo.action) == ("a", "precopy", StepAction.UNDO)
    bench.answer(undo)
    bench.answer(bench.sent[-1])
    bench.conductor.tick()
    assert bench.sent[-1].job_id == "c"
    assert bench.sent[-1].step == "precopy"


def test_of_two_jobs_for_one_container_the_later_is_refused(bench: Bench) -> None:
    bench.start()
    bench.run_to("publish-image")
    bench.start(key="k")
    bench.answer(bench.sent[-1])
    bench.answer(bench.sent[-1])
    assert bench.job("k").phase is Phase.FAILED
    assert (bench.job("k").failure or {})["code"] == "workload_busy"
    assert bench.job().phase is Phase.PREPARING


def test_the_commit_and_the_job_are_one(bench: Bench) -> None:
    bench.start()
    promise = bench.run_to("promise")
    epoch = bench.owner()[1]
    bench.answer(promise)
    assert bench.sent[-1].step == "restore"
    assert bench.owner() == ("beta", epoch + 1)
    assert bench.job().epoch == bench.sent[-1].epoch == epoch + 1


def test_a_commit_that_is_refused_ends_with_the_source_running(bench: Bench) -> None:
    bench.start()
    promise = bench.run_to("promise")
    with bench.database.transaction() as tx:  # somebody else decides
        workload = tx.workloads.get(str(bench.job().workload_id))
        tx.workloads.commit(workload.id, epoch=workload.epoch, owner_host="alpha")
    bench.answer(promise)
    assert (bench.job().failure or {})["code"] == "commit_lost"
    assert {step.status for step in bench.job().steps if step.name == "promise"} == {StepStatus.DONE}
    assert bench.job().phase is Phase.ROLLING_BACK
    assert (bench.sent[-1].step, bench.sent[-1].action) == ("freeze", StepAction.UNDO)


def test_a_failed_restore_gives_the_workload_back_under_a_higher_epoch(bench: Bench) -> None:
    bench.start()
    restore = bench.run_to("restore")
    bench.answer(restore, WorkloadFailed("no"))
    assert (bench.sent[-1].step, bench.sent[-1].action) == ("restore", StepAction.OBSERVE)
    bench.answer(bench.sent[-1], seen="absent")
    undo = bench.sent[-1]
    assert (undo.step, undo.action) == ("restore", StepAction.UNDO)
    assert undo.epoch > restore.epoch, "a late copy of the restore is refused from now on"
    bench.answer(undo)
    assert bench.owner() == ("alpha", undo.epoch + 1)
    assert (bench.sent[-1].step, bench.sent[-1].epoch) == ("freeze", undo.epoch + 1)


def test_what_is_on_its_way_when_a_job_turns_back_is_refused_by_its_epoch(bench: Bench) -> None:
    bench.start()
    freeze = bench.run_to("freeze")
    bench.answer(freeze, WorkloadFailed("no"))
    assert (bench.sent[-1].step, bench.sent[-1].action) == ("freeze", StepAction.UNDO)
    assert bench.sent[-1].epoch > freeze.epoch


def test_a_silent_host_is_waited_for_once_there_is_no_way_back(bench: Bench) -> None:
    bench.start()
    remove = bench.run_to("remove")
    bench.wait(1200, beating=("beta",))
    assert bench.job().phase is Phase.REMOVING
    bench.wait(RESEND_S + 1)
    assert bench.sent[-1] == remove


def test_a_lost_command_is_sent_again_and_counts_once(bench: Bench) -> None:
    bench.start()
    command = bench.run_to("fetch")
    bench.wait(RESEND_S + 1)
    assert bench.sent[-1] == command
    bench.answer(command)
    bench.answer(command)
    assert [c.step for c in bench.sent].count("promise") == 1


def test_a_lost_command_in_a_row_is_sent_again_with_what_follows_it(bench: Bench) -> None:
    bench.start()
    command = bench.run_to("dump")
    bench.wait(RESEND_S + 1)
    again = in_a_row(bench.sent[-1])
    assert [c.step for c in again] == ["dump", "upload"]
    assert again[0] == command


def test_a_command_that_could_not_be_sent_is_sent_later(bench: Bench) -> None:
    bench.broker_away = True
    bench.start()
    assert not bench.sent
    bench.broker_away = False
    bench.wait(RESEND_S + 1)
    assert [command.step for command in bench.sent] == ["inspect-source"]


def test_a_silent_source_turns_a_job_back_and_names_the_host(bench: Bench) -> None:
    bench.start()
    bench.run_to("prepare")
    bench.wait(SILENT_S + 10, beating=("alpha",))  # a preparation is tried several times
    failure = bench.job().failure or {}
    assert bench.job().phase is Phase.ROLLING_BACK
    assert failure["code"] == "no_live_worker"
    assert "beta" in failure["message"]


def test_messages_that_wait_on_a_busy_machine_are_no_silence(bench: Bench) -> None:
    """Nobody was heard for long, and the controller knows that it has not got to what they said since."""
    bench.start()
    bench.run_to("upload")
    bench.lag_s = SILENT_S + 5
    bench.wait(SILENT_S + 4, beating=())
    assert bench.job().phase is not Phase.ROLLING_BACK
    bench.lag_s = 0.0
    bench.wait(1, beating=())
    assert bench.job().phase is Phase.ROLLING_BACK
    assert (bench.job().failure or {})["code"] == "no_live_worker"


def test_a_host_that_is_away_during_a_rollback_is_waited_for_as_long_as_it_takes(bench: Bench) -> None:
    bench.start()
    bench.answer(bench.run_to("upload"), WorkloadFailed("no"))
    assert (bench.sent[-1].step, bench.sent[-1].action) == ("freeze", StepAction.UNDO)
    sent = len(bench.sent)
    bench.wait(300, beating=("beta",))
    assert bench.job().phase is Phase.ROLLING_BACK
    assert len(bench.sent) == sent, "nothing is sent to a host that is away"
    bench.wait(RESEND_S + 1)
    assert len(bench.sent) == sent + 1
    while bench.job().phase is Phase.ROLLING_BACK:
        bench.answer(bench.sent[-1])
    assert bench.job().phase is Phase.FAILED


def test_the_guard_of_a_dead_worker_is_told_when_the_source_may_run_and_not_before(bench: Bench) -> None:
    bench.start()
    restore = bench.run_to("restore")
    bench.wait(20, beating=("beta",))
    assert not bench.verdicts, "the target may have it"
    bench.answer(restore, WorkloadFailed("no"))
    bench.answer(bench.sent[-1], seen="absent")
    bench.wait(20, beating=("beta",))
    assert not bench.verdicts, "the restored task is not yet known to be gone"
    bench.answer(bench.sent[-1])
    assert bench.owner()[0] == "alpha"
    bench.wait(RESEND_S + 1, beating=("beta",))
    assert bench.verdicts == ["j"]


def test_a_worker_that_was_restarted_gets_a_preflight_again(bench: Bench) -> None:
    bench.start()
    command = bench.sent[-1]
    bench.now += timedelta(seconds=1)
    bench.beat("alpha", boot="second", up_s=0.5)
    bench.conductor.tick()
    assert bench.sent[-1] == command
    assert len(bench.sent) == 2
    bench.conductor.tick()
    assert len(bench.sent) == 2, "once is enough"


def test_a_worker_that_was_there_when_the_command_came_did_not_forget_it(bench: Bench) -> None:
    bench.now += timedelta(seconds=10)
    bench.start()
    bench.run_to("dump")
    bench.beat("alpha", boot="second", up_s=5.0)  # its first heartbeat is only now heard
    bench.conductor.tick()
    assert bench.job().phase is Phase.DUMPING


def test_a_worker_that_was_restarted_within_the_freeze_turns_the_job_back(bench: Bench) -> None:
    bench.start()
    bench.run_to("dump")
    bench.now += timedelta(seconds=1)
    bench.beat("alpha", boot="second", up_s=0.5)
    bench.conductor.tick()
    assert bench.job().phase is Phase.ROLLING_BACK


def test_about_a_restore_nobody_guesses(bench: Bench) -> None:
    bench.start()
    restore = bench.run_to("restore")
    bench.wait(100, beating=("alpha",))
    assert bench.job().phase is Phase.RESTORING
    bench.beat("beta", boot="second", up_s=0.5)
    bench.conductor.tick()
    look = bench.sent[-1]
    assert (look.step, look.action) == ("restore", StepAction.OBSERVE)
    bench.answer(look, InternalError("containerd is away"))
    bench.now += timedelta(seconds=RESEND_S + 1)
    bench.beat("beta", boot="second", up_s=0.5)
    bench.conductor.tick()
    assert (bench.sent[-1].action, bench.sent[-1] is look) == (StepAction.OBSERVE, False)
    bench.answer(bench.sent[-1], seen="done")
    assert bench.sent[-1].step == "prove"
    assert restore.attempt == 1


def test_a_database_from_a_backup_learns_the_epochs_that_hosts_have_seen(bench: Bench) -> None:
    bench.start()
    bench.answer(bench.run_to("release-target"))
    workload, (owner, epoch) = str(bench.job().workload_id), bench.owner()
    bench.conductor.record_sight("beta", Sight([], {workload: epoch + 5, "another": 7}))
    assert bench.owner() == (owner, epoch + 5)
    bench.conductor.record_sight("beta", Sight([], {workload: epoch}))
    assert bench.owner() == (owner, epoch + 5)


def test_what_a_job_works_on_is_not_raised_by_what_a_host_has_seen(bench: Bench) -> None:
    bench.start()
    bench.run_to("dump")
    before = bench.owner()
    bench.conductor.record_sight("alpha", Sight([], {str(bench.job().workload_id): before[1] + 5}))
    assert bench.owner() == before


def test_a_removed_target_keeps_no_source_frozen(bench: Bench) -> None:
    bench.start()
    bench.run_to("fetch")
    bench.remove("beta")
    bench.wait(1, beating=("alpha",))
    assert (bench.sent[-1].step, bench.sent[-1].action) == ("freeze", StepAction.UNDO)
    bench.answer(bench.sent[-1])
    for step in ("before-hook", "upload", "dump", "precopy"):
        bench.wait(1, beating=("alpha",))
        assert bench.sent[-1].step == step
        bench.answer(bench.sent[-1])
    bench.wait(1, beating=("alpha",))
    assert bench.job().phase is Phase.FAILED


def test_a_removed_source_is_answered_for(bench: Bench) -> None:
    bench.start()
    fetch = bench.run_to("fetch")
    bench.remove("alpha")
    bench.answer(fetch)
    for _ in range(10):
        bench.wait(1, beating=("beta",))
        if bench.sent[-1].step in ("fetch", "prefetch", "prepare"):
            bench.answer(bench.sent[-1])
    job = bench.job()
    assert (job.phase, (job.failure or {})["code"]) == (Phase.FAILED, "source_gone")


def test_a_controller_that_has_just_begun_blames_nobody_for_silence(bench: Bench) -> None:
    bench.start()
    bench.run_to("dump")
    bench.now += timedelta(seconds=20)
    bench.conductor = bench.new_conductor()
    bench.conductor.tick()
    assert bench.job().phase is Phase.DUMPING


def test_one_bad_row_keeps_no_other_job_waiting(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.start()
    bench.start(container="d", key="k")
    regular = bench.conductor._chase.look_after

    def look_after(job: Job, hosts: object, room: object) -> None:
        if job.id == "j":
            raise IndexError
        regular(job, hosts, room)  # type: ignore[arg-type]

    monkeypatch.setattr(bench.conductor._chase, "look_after", look_after)
    sent = len(bench.sent)
    bench.wait(RESEND_S + 1)
    assert {command.job_id for command in bench.sent[sent:]} == {"k"}


def test_a_cancel_before_the_commit_ends_cancelled(bench: Bench) -> None:
    bench.start()
    bench.run_to("fetch")
    with bench.database.transaction() as tx:
        tx.jobs.request_cancel("j", bench.now)
    bench.conductor.advance("j")
    for _ in range(20):
        if bench.job().phase.terminal:
            break
        bench.answer(bench.sent[-1])
    assert bench.job().phase is Phase.CANCELLED
    assert all(step.status is not StepStatus.STARTED for step in bench.job().steps)


def test_an_answer_after_the_end_changes_nothing(bench: Bench) -> None:
    bench.start()
    prove = bench.run_to("prove")
    bench.answer(prove, WorkloadFailed("ended"))
    ended = bench.job()
    assert ended.phase is Phase.NEEDS_OPERATOR
    bench.answer(replace(bench.sent[0]), Unavailable("late"))
    bench.answer(prove, Unavailable("late"))
    assert bench.job() == ended
