"""What becomes of fire times: over the real plans of jobs, with hosts and a clock that the test moves."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from migrator.errors import AlreadyExists, InvalidRequest, NotFound, PreconditionFailed, ResourceBusy
from migrator.models.drains import DrainOptions
from migrator.models.memory import MemoryJobs, Rows
from migrator.models.memory_schedules import MemorySchedules
from migrator.models.phase import JobKind, Phase
from migrator.models.retention import ForgetRequest, RetentionPolicy
from migrator.models.schedule_values import Cause, Overlap, RunState, Target, Trigger
from migrator.models.values import Checkpoint, JobRequest, Probe, Workload
from migrator.service.identifiers import new_generation
from tests.unit.service.schedules.bench import CHECKPOINT, WEB, Bench
from tests.unit.service.schedules.walk import utc

MOVE = JobRequest(JobKind.MIGRATION, target_host="beta")
RUNNING, WAITING, SKIPPED = RunState.RUNNING, RunState.WAITING, RunState.SKIPPED
SUCCEEDED, FAILED, PARTIAL = RunState.SUCCEEDED, RunState.FAILED, RunState.PARTIAL


@pytest.fixture
def bench() -> Bench:
    return Bench()


# ---- firing


def test_an_interval_fires_each_time_once_and_tells_how_it_went(bench: Bench) -> None:
    began = bench.now
    bench.create()
    for _ in range(3):
        bench.pass_time(60)
        bench.end()
    bench.pass_time(1)
    assert bench.states() == [(SUCCEEDED, 1)] * 3
    assert [run.fire_time for run in bench.runs()] == [began + timedelta(minutes=n) for n in (1, 2, 3)]
    assert [job.id for job in bench.jobs()] == [run.jobs[0] for run in bench.runs()] == bench.advanced
    request = bench.jobs()[0].request
    assert (request.kind, request.source_host, request.container, request.schedule) == (
        JobKind.CHECKPOINT,
        "alpha",
        "web",
        "s",
    )


def test_once_at_a_time_and_never_again(bench: Bench) -> None:
    bench.create(trigger=Trigger(at=bench.now + timedelta(seconds=30)))
    bench.pass_time(29)
    assert bench.runs() == []
    bench.pass_time(100)
    assert bench.states() == [(RUNNING, 1)]
    assert bench.desk.get("s").look_at is None


def test_start_and_end_bound_it(bench: Bench) -> None:
    start = bench.now + timedelta(seconds=90)
    bench.create(start=start, end=start + timedelta(seconds=130), overlap=Overlap.ALLOW)
    bench.pass_time(600)
    assert [run.fire_time - start for run in bench.runs()] == [timedelta(seconds=60 * n) for n in range(3)]
    assert bench.desk.get("s").look_at is None


def test_jitter_delays_by_the_same_on_every_controller(bench: Bench) -> None:
    bench.create(jitter_s=50, overlap=Overlap.ALLOW)
    delays = [item.fire.due - item.fire.time for item in bench.desk.preview(bench.desk.get("s"), None, 5)]
    assert len(set(delays)) == 5
    assert all(timedelta() <= delay < timedelta(seconds=50) for delay in delays)
    bench.pass_time(60 * 6)
    runs = bench.runs()[:5]
    assert [run.due_at - run.fire_time for run in runs] == delays
    assert all(run.started_at and timedelta() <= run.started_at - run.due_at < timedelta(seconds=1) for run in runs)


def test_blackouts_leave_out_and_say_so(bench: Bench) -> None:
    bench.create(blackouts=("12:03-12:05",), overlap=Overlap.ALLOW)
    planned = [item.blackout for item in bench.desk.preview(bench.desk.get("s"), None, 5)]
    assert planned == [None, "12:03-12:05", "12:03-12:05", None, None]
    bench.pass_time(301)
    assert [(run.fire_time.minute, run.state) for run in bench.runs()] == [
        (2, RUNNING),
        (3, SKIPPED),
        (4, SKIPPED),
        (5, RUNNING),
        (6, RUNNING),
    ]
    assert bench.runs()[1].reason == "blackout 12:03-12:05"


# ---- overlaps


def test_skip_leaves_out_while_the_last_run_goes_on(bench: Bench) -> None:
    bench.create()
    bench.pass_time(180)
    assert bench.states() == [(RUNNING, 1), (SKIPPED, 1), (SKIPPED, 1)]
    assert "overlap" in bench.runs()[1].reason
    bench.end()
    bench.pass_time(60)
    assert bench.states()[-1] == (RUNNING, 1)


def test_buffer_lets_one_wait(bench: Bench) -> None:
    bench.create(overlap=Overlap.BUFFER)
    bench.pass_time(180)
    assert [run.state for run in bench.runs()] == [RUNNING, WAITING, SKIPPED]
    bench.end()
    bench.pass_time(2)
    assert [run.state for run in bench.runs()] == [SUCCEEDED, RUNNING, SKIPPED]
    assert len(bench.jobs()) == 2


def test_allow_lets_both_run(bench: Bench) -> None:
    bench.create(overlap=Overlap.ALLOW)
    bench.pass_time(180)
    assert bench.states() == [(RUNNING, 1)] * 3
    assert len(bench.jobs()) == 3


def test_cancel_asks_the_last_run_to_stop_and_begins_when_it_has(bench: Bench) -> None:
    bench.create(overlap=Overlap.CANCEL)
    bench.pass_time(119)
    assert not bench.jobs()[0].cancel_requested
    bench.pass_time(3)
    assert [run.state for run in bench.runs()] == [RUNNING, WAITING]
    assert bench.jobs()[0].cancel_requested
    bench.end(phase=Phase.CANCELLED)
    bench.pass_time(2)
    assert [run.state for run in bench.runs()] == [FAILED, RUNNING]


def test_a_run_that_waits_for_an_operator_holds_nobody_up(bench: Bench) -> None:
    bench.create()
    bench.pass_time(60)
    bench.end(phase=Phase.NEEDS_OPERATOR)
    bench.pass_time(60)
    assert [run.state for run in bench.runs()] == [FAILED, RUNNING]


# ---- away


def test_after_a_short_absence_one_missed_run_is_made_up_for(bench: Bench) -> None:
    bench.create()
    bench.pass_time(60 * 5 + 10, tick=False)
    bench.pass_time(1)
    assert bench.states() == [(RUNNING, 1), (SKIPPED, 4)]
    assert len(bench.jobs()) == 1


def test_what_is_older_than_the_window_is_told_and_not_run(bench: Bench) -> None:
    bench.create(catchup_s=90, overlap=Overlap.ALLOW)
    began = bench.now
    bench.pass_time(3600 + 30, step_s=3630, tick=False)
    bench.pass_time(1)
    assert bench.states() == [(SKIPPED, 59), (RUNNING, 1)]
    skipped, ran = bench.runs()
    assert "missed" in skipped.reason
    assert (skipped.fire_time, ran.fire_time) == (began + timedelta(minutes=1), began + timedelta(minutes=60))


def test_years_away_take_no_time(bench: Bench) -> None:
    bench.create(trigger=Trigger(every_s=2), overlap=Overlap.BUFFER, catchup_s=10)
    bench.pass_time(5 * 365 * 86400, step_s=5 * 365 * 86400, tick=False)
    bench.pass_time(1)
    assert bench.states()[0] == (SKIPPED, 100_000)
    assert len(bench.jobs()) == 1
    assert bench.desk.get("s").look_at == bench.now + timedelta(seconds=1)


def test_a_controller_that_has_just_begun_waits_for_heartbeats(bench: Bench) -> None:
    bench.create()
    bench.now += timedelta(seconds=70)
    bench.scheduler = bench.new_controller()
    bench.scheduler.tick()
    assert bench.runs() == []
    bench.pass_time(1)
    assert bench.states() == [(RUNNING, 1)]
    assert bench.runs()[0].acts[0].failure is None


def test_a_host_that_stays_silent_is_a_failure(bench: Bench) -> None:
    bench.create(overlap=Overlap.ALLOW)
    bench.silent = {"alpha"}
    bench.pass_time(62)
    (run,) = bench.runs()
    assert run.state is FAILED
    assert run.acts[0].failure is not None
    assert run.acts[0].failure["code"] == "no_live_worker"
    assert "alpha" in run.reason


# ---- pausing


def test_a_resumed_schedule_does_not_fire_at_once(bench: Bench) -> None:
    bench.create(overlap=Overlap.ALLOW)
    bench.pass_time(60)
    paused = bench.desk.pause("s", "ann", "window cleaning")
    assert paused.pause is not None
    assert (paused.pause.actor, paused.pause.reason) == ("ann", "window cleaning")
    bench.pass_time(200)
    assert len(bench.jobs()) == 1
    bench.desk.resume("s")
    bench.pass_time(35)
    assert bench.states() == [(RUNNING, 1), (SKIPPED, 3)]
    assert bench.runs()[1].reason == "paused"
    bench.pass_time(5)
    assert bench.states()[-1] == (RUNNING, 1)
    assert len(bench.jobs()) == 2


def test_pausing_leaves_out_what_waits(bench: Bench) -> None:
    bench.create(overlap=Overlap.BUFFER)
    bench.pass_time(120)
    bench.desk.pause("s", "ann", "")
    assert [run.state for run in bench.runs()] == [RUNNING, SKIPPED]
    bench.end()
    bench.pass_time(120)
    assert [run.state for run in bench.runs()] == [SUCCEEDED, SKIPPED]


def test_it_pauses_itself_after_failures_in_a_row(bench: Bench) -> None:
    bench.create(pause_after=2)
    for phase in (Phase.FAILED, Phase.SUCCEEDED, Phase.FAILED, Phase.FAILED):
        assert bench.desk.get("s").pause is None
        bench.pass_time(60)
        bench.end(phase=phase)
    bench.pass_time(300)
    pause = bench.desk.get("s").pause
    assert pause is not None
    assert pause.reason == "2 runs in a row did not succeed; the last: it broke"
    assert [run.state for run in bench.runs()] == [FAILED, SUCCEEDED, FAILED, FAILED]
    assert bench.desk.resume("s").failures == 0


# ---- by hand


def test_trigger_runs_now_even_when_paused(bench: Bench) -> None:
    bench.create()
    bench.desk.pause("s", "ann", "")
    run = bench.desk.trigger("s", None, None)
    assert (run.state, run.cause, run.fire_time) == (RUNNING, Cause.TRIGGER, bench.now)
    assert bench.bell.rung == list(run.jobs)
    with pytest.raises(PreconditionFailed, match="still goes on") as caught:
        bench.desk.trigger("s", None, None)
    assert caught.value.code == "run_underway"
    assert bench.desk.trigger("s", Overlap.BUFFER, None).state is WAITING
    bench.end()
    bench.pass_time(2)
    assert [run.state for run in bench.runs()] == [SUCCEEDED, RUNNING]


def test_trigger_with_a_key_runs_once(bench: Bench) -> None:
    bench.create()
    first = bench.desk.trigger("s", None, "k")
    bench.now += timedelta(seconds=1)
    assert bench.desk.trigger("s", None, "k").id == first.id
    assert len(bench.jobs()) == len(bench.bell.rung) == 1


def test_backfill_runs_what_has_not_run_one_after_the_other(bench: Bench) -> None:
    began = bench.now
    bench.create(catchup_s=10)
    bench.pass_time(60)
    bench.end()
    bench.pass_time(200, step_s=200, tick=False)
    bench.pass_time(1)
    runs = bench.desk.backfill("s", began, bench.now)
    assert [run.fire_time - began for run in runs] == [timedelta(minutes=n) for n in (2, 3, 4)]
    assert bench.desk.backfill("s", began, bench.now) == []
    for _ in range(3):
        bench.pass_time(2)
        bench.end()
    bench.pass_time(2)
    filled = [run for run in bench.runs() if run.cause is Cause.BACKFILL]
    assert [run.state for run in filled] == [SUCCEEDED] * 3
    assert [run.started_at for run in filled] == sorted(run.started_at for run in filled if run.started_at)


def test_backfill_refuses_ranges(bench: Bench) -> None:
    bench.create(trigger=Trigger(every_s=2))
    minute = timedelta(minutes=1)
    for first, last in (
        (bench.now, bench.now - minute),
        (bench.now - minute, bench.now + minute),
        (bench.now - 99 * minute, bench.now),
    ):
        with pytest.raises(InvalidRequest) as caught:
            bench.desk.backfill("s", first, last)
        assert caught.value.code == "bad_range"
    assert bench.runs() == []


# ---- targets


def test_a_container_is_followed_when_it_has_moved(bench: Bench) -> None:
    bench.create(overlap=Overlap.ALLOW)
    with bench.database.transaction() as tx:
        web = tx.workloads.find("alpha", "default", "web")
        assert web is not None
        tx.workloads.commit(web.id, epoch=web.epoch, owner_host="beta")
    bench.pass_time(60)
    assert bench.jobs()[0].request.source_host == "beta"


def test_what_was_restored_under_its_name_is_followed_like_the_original(bench: Bench) -> None:
    """On another host; the record of the lost one is still there, or went with it."""
    first = str(bench.create(overlap=Overlap.ALLOW).spec.target.workload_id)
    bench.views = [replace(view, host="beta") if view.name == "web" else view for view in bench.views]
    with bench.database.transaction() as tx:
        tx.workloads.add(Workload(new_generation(first), "default", "web", "beta", 2))
    bench.beat()
    bench.pass_time(60)
    with bench.database.transaction() as tx:
        tx.workloads.remove(first)
    bench.pass_time(60)
    assert [job.request.source_host for job in bench.jobs()] == ["beta", "beta"]


def test_a_selector_is_looked_up_at_each_firing(bench: Bench) -> None:
    bench.run_containers("alpha/a", "beta/b", labels={"app": "web", "tier": "front"})
    bench.create(target=Target(selector="app=web"), overlap=Overlap.ALLOW)
    bench.pass_time(60)
    bench.run_containers("beta/c", labels={"app": "web"})
    bench.views = [replace(view, status="stopped") if view.name == "a" else view for view in bench.views]
    bench.pass_time(60)
    taken = [[f"{act.host}/{act.container}" for act in run.acts] for run in bench.runs()]
    assert taken == [["alpha/a", "beta/b"], ["beta/b", "beta/c"]]


def test_all_on_a_host(bench: Bench) -> None:
    bench.create(target=Target(host="alpha"))
    bench.pass_time(60)
    assert [act.container for act in bench.runs()[0].acts] == ["db", "web"]


def test_one_run_tells_what_became_of_each_container(bench: Bench) -> None:
    bench.create(target=Target(host="alpha"), pause_after=1)
    bench.pass_time(60)
    good, bad = bench.runs()[0].jobs
    bench.end([good])
    bench.end([bad], Phase.FAILED)
    bench.pass_time(2)
    (run,) = bench.runs()
    assert run.state is PARTIAL
    assert [act.failure and act.failure["message"] for act in run.acts] == [None, "it broke"]
    assert bench.desk.get("s").pause is not None


def test_a_selector_that_matches_nothing_any_more_is_a_failure(bench: Bench) -> None:
    bench.run_containers("alpha/a", labels={"app": "x"})
    bench.create("strict", target=Target(selector="app=x"))
    bench.create("lax", target=Target(selector="app=x"), allow_empty=True)
    bench.views = [view for view in bench.views if view.name != "a"]
    bench.pass_time(62)
    assert [run.state for run in bench.runs("strict")] == [FAILED]
    assert "nothing that runs matches app=x" in bench.runs("strict")[0].reason
    assert [run.state for run in bench.runs("lax")] == [SKIPPED]


def test_what_is_there_already_is_not_moved(bench: Bench) -> None:
    bench.run_containers("alpha/a", "beta/b", labels={"app": "x"})
    bench.create(job=MOVE, target=Target(selector="app=x"))
    bench.pass_time(60)
    assert [act.note for act in bench.runs()[0].acts] == ["", "it is on host 'beta' already"]
    bench.end()
    bench.views = [replace(view, host="beta") if view.name == "a" else view for view in bench.views]
    bench.pass_time(62)
    assert [run.state for run in bench.runs()] == [SUCCEEDED, SKIPPED]


def test_a_selector_is_the_drains_one(bench: Bench) -> None:
    bench.run_containers("alpha/a", labels={"app": "web"})
    bench.run_containers("beta/b", labels={"app": "web", "tier": "db"})
    bench.create(target=Target(selector="app in (web,api),tier!=db"))
    bench.pass_time(60)
    assert [act.container for act in bench.runs()[0].acts] == ["a"]


def test_a_workload_by_its_id(bench: Bench) -> None:
    bench.create("first")
    with bench.database.transaction() as tx:
        web = tx.workloads.find("alpha", "default", "web")
        assert web is not None
        tx.workloads.commit(web.id, epoch=web.epoch, owner_host="beta")
    bench.views = [replace(view, host="beta") if view.name == "web" else view for view in bench.views]
    bench.beat()
    bench.create("second", target=Target(workload_id=web.id))
    bench.pass_time(60)
    (act,) = bench.runs("second")[0].acts
    assert (act.host, act.container, act.failure) == ("beta", "web", None)


def test_a_workload_that_is_gone_is_a_failure(bench: Bench) -> None:
    with pytest.raises(NotFound, match="workload 'web-1' does not exist"):
        bench.create(target=Target(workload_id="web-1"))
    bench.create(target=Target(workload_id="web-1"), allow_empty=True)
    bench.pass_time(62)
    assert bench.runs()[0].reason == "workload 'web-1' does not exist"


def test_an_update_still_follows_a_container_that_has_moved(bench: Bench) -> None:
    before = bench.create()
    with bench.database.transaction() as tx:
        tx.workloads.commit(str(before.spec.target.workload_id), epoch=1, owner_host="beta")
    bench.views = [replace(view, host="beta") if view.name == "web" else view for view in bench.views]
    bench.beat()
    after = bench.desk.update("s", replace(before.spec, target=WEB, jitter_s=5), None)
    assert after.spec.target == before.spec.target
    assert bench.desk.host_of(after) == "beta"


# ---- drills

DRAIN = JobRequest(JobKind.DRAIN)
DRILL = JobRequest(JobKind.DRILL, target_host="beta", probe=Probe("true"))


def take(bench: Bench, checkpoint_id: str, workload_id: str = "web-9", container: str = "web") -> None:
    taken = Checkpoint(checkpoint_id, workload_id, None, "alpha", "default", container, "i", "sha256:0", 1, bench.now)
    with bench.database.transaction() as tx:
        tx.checkpoints.add(taken)


def test_a_drill_proves_the_newest_checkpoint_of_each_firing(bench: Bench) -> None:
    take(bench, "ck-1")
    bench.create(job=DRILL)
    bench.pass_time(60)
    take(bench, "ck-2")
    bench.end()
    bench.pass_time(60)
    requests = [job.request for job in bench.jobs()]
    assert [(request.kind, request.checkpoint_id, request.target_host) for request in requests] == [
        (JobKind.DRILL, "ck-1", "beta"),
        (JobKind.DRILL, "ck-2", "beta"),
    ]
    assert {(request.probe.command, request.schedule) for request in requests} == {("true", "s")}
    assert bench.runs()[0].acts[0].container == "web"


def test_a_drill_needs_no_running_container_and_no_host(bench: Bench) -> None:
    take(bench, "ck-1")
    bench.views = [view for view in bench.views if view.name != "web"]
    bench.beat()
    bench.create("named", job=DRILL)
    bench.create("by-id", job=DRILL, target=Target(workload_id="web-9"))
    with bench.database.transaction() as tx:
        tx.hosts.forget("alpha")
    bench.views = [view for view in bench.views if view.host != "alpha"]
    bench.create("of-a-lost-host", job=DRILL)
    bench.pass_time(60)
    for name in ("named", "by-id", "of-a-lost-host"):
        assert [act.failure for act in bench.runs(name)[0].acts] == [None]
    assert [job.request.checkpoint_id for job in bench.jobs()] == ["ck-1"] * 3


def test_one_without_checkpoints_keeps_no_other_from_its_drill(bench: Bench) -> None:
    take(bench, "ck-1")
    with pytest.raises(NotFound, match="no checkpoints of 'alpha/db'"):
        bench.create(job=DRILL, target=Target("alpha"))
    bench.create(job=DRILL, target=Target("alpha"), allow_empty=True)
    bench.pass_time(60)
    acts = {act.container: act for act in bench.runs()[0].acts}
    assert (acts["db"].failure or {})["code"] == "no_checkpoints"
    assert acts["web"].job_id == bench.jobs()[0].id


# ---- what is refused


def test_nothing_is_written_down_that_makes_no_sense(bench: Bench) -> None:
    bench.run_containers("alpha/a", labels={"app": "x"})
    past, later = bench.now - timedelta(days=1), bench.now + timedelta(days=1)
    cases: list[tuple[str, dict[str, object]]] = [
        ("bad_cron", {"trigger": Trigger(cron="0 0 31 2 *")}),
        ("unknown_zone", {"time_zone": "Mars/Olympus"}),
        ("bad_trigger", {"trigger": Trigger()}),
        ("bad_trigger", {"trigger": Trigger(cron="@daily", every_s=60)}),
        ("bad_interval", {"trigger": Trigger(every_s=1)}),
        ("bad_interval", {"trigger": Trigger(every_s=10**12)}),
        ("in_the_past", {"trigger": Trigger(at=past)}),
        ("in_the_past", {"end": past}),
        ("end_before_start", {"start": later, "end": later}),
        ("never_fires", {"trigger": Trigger(at=later), "end": bench.now + timedelta(hours=1)}),
        ("never_fires", {"trigger": Trigger(cron="0 3 * * *"), "blackouts": ("02:00-04:00",)}),
        ("bad_blackout", {"blackouts": ("8-18",)}),
        ("bad_jitter", {"jitter_s": 60}),
        ("bad_jitter", {"jitter_s": -1}),
        ("bad_catchup", {"catchup_s": 9}),
        ("bad_pause_after", {"pause_after": -1}),
        ("kind_not_scheduled", {"job": JobRequest(JobKind.PREFLIGHT)}),
        ("bad_target", {"target": Target()}),
        ("bad_target", {"target": Target("alpha", "web", selector="app=x")}),
        ("bad_target", {"target": Target(workload_id="web-1", selector="app=x")}),
        ("bad_selector", {"target": Target(selector="app web")}),
        ("no_checkpoints", {"job": DRILL}),
        ("incomplete_request", {"job": replace(DRILL, target_host=None), "target": Target(selector="app=x")}),
        (
            "host_not_found",
            {"job": replace(DRAIN, drain=DrainOptions(targets=("nowhere",))), "target": Target("alpha")},
        ),
        ("contradictory_request", {"job": replace(DRAIN, drain=DrainOptions(plan_id="p")), "target": Target("alpha")}),
        ("host_not_found", {"target": Target("nowhere", "web")}),
        ("host_not_found", {"job": replace(MOVE, target_host="nowhere")}),
        ("container_not_found", {"target": Target("alpha", "nothing")}),
        ("nothing_matches", {"target": Target(selector="app=y")}),
        ("incomplete_request", {"job": JobRequest(JobKind.MIGRATION)}),
        ("contradictory_request", {"job": replace(CHECKPOINT, target_host="beta")}),
    ]
    for code, values in cases:
        with pytest.raises((InvalidRequest, NotFound)) as caught:
            bench.create(**values)
        assert caught.value.code == code, values
        assert caught.value.remedy
    with pytest.raises(InvalidRequest):
        bench.create("a b")
    assert bench.desk.list() == []
    with bench.database.transaction(write=False) as tx:
        assert tx.workloads.find("alpha", "default", "web") is None


def test_a_name_is_taken_once(bench: Bench) -> None:
    bench.create()
    with pytest.raises(AlreadyExists):
        bench.create()


def test_unknown_names(bench: Bench) -> None:
    for act in (
        bench.desk.get,
        bench.desk.resume,
        bench.desk.delete,
        lambda name: bench.desk.pause(name, "", ""),
        lambda name: bench.desk.trigger(name, None, None),
        lambda name: bench.desk.runs(name, 1),
        lambda name: bench.desk.backfill(name, utc(2026, 1, 1), utc(2026, 1, 2)),
    ):
        with pytest.raises(NotFound, match="schedule 'no' does not exist"):
            act("no")


def test_an_update_fires_from_now_on_and_notices_a_rival(bench: Bench) -> None:
    before = bench.create()
    bench.pass_time(30)
    spec = replace(before.spec, trigger=Trigger(every_s=600))
    after = bench.desk.update("s", spec, before.updated_at)
    assert after.look_at == bench.now + timedelta(minutes=10)
    with pytest.raises(ResourceBusy) as caught:
        bench.desk.update("s", before.spec, before.updated_at)
    assert caught.value.code == "schedule_changed"
    with pytest.raises(InvalidRequest):
        bench.desk.update("s", replace(spec, trigger=Trigger(cron="0 0 31 2 *")), None)
    assert bench.desk.get("s") == after


def test_deleting_forgets_it_and_its_jobs_go_on(bench: Bench) -> None:
    bench.create()
    bench.pass_time(60)
    bench.desk.delete("s")
    bench.pass_time(120)
    assert bench.desk.list() == []
    assert [job.phase for job in bench.jobs()] == [Phase.ACCEPTED]


# ---- what stands where


def test_a_workload_that_is_gone_is_looked_for_where_it_was(bench: Bench) -> None:
    created = bench.create()
    with bench.database.transaction() as tx:
        tx.workloads.remove(str(created.spec.target.workload_id))
        tx.workloads.add(Workload("other", "default", "web", "beta", 1))
    bench.pass_time(60)
    assert bench.jobs()[0].request.source_host == "alpha"
    assert WEB.container == "web"


# ---- a controller that dies


class Death(BaseException):
    """The machine is gone: nothing catches this."""


def test_a_controller_that_dies_on_any_line_neither_loses_nor_doubles_a_firing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    survived = 0
    for lines in range(100):
        bench = Bench()
        bench.create(overlap=Overlap.ALLOW)
        bench.pass_time(59)
        bench.now += timedelta(seconds=1)
        bench.beat()
        with monkeypatch.context() as patch:
            dies_after(patch, lines)
            try:
                bench.scheduler.tick()
                survived += 1
            except Death:
                pass
        bench.scheduler = bench.new_controller()
        bench.pass_time(2)
        assert bench.states() == [(RUNNING, 1)], lines
        assert len(bench.jobs()) == 1, lines
        if survived:
            assert lines > 10
            return
    raise AssertionError("it never got to the end")


def dies_after(patch: pytest.MonkeyPatch, lines: int) -> None:
    """Let the next calls of repositories and commits go well, and die in the one after."""
    left = iter(range(lines))

    def mortal(holder: type, name: str) -> None:
        act = getattr(holder, name)

        def call(*args: object, **kwargs: object) -> object:
            if next(left, None) is None:
                raise Death
            result = act(*args, **kwargs)
            if next(left, None) is None:
                raise Death
            return result

        patch.setattr(holder, name, call)

    for name in ("wanting", "get", "open_runs", "save", "add_run", "save_run", "prune_runs"):
        mortal(MemorySchedules, name)
    mortal(MemoryJobs, "add")
    mortal(Rows, "commit")


# ---- the store


def test_after_a_backup_that_went_well_the_policy_thins_out(bench: Bench) -> None:
    bench.create(keep=RetentionPolicy(daily=7), target=Target(host="alpha"))
    bench.pass_time(60)
    good, bad = bench.runs()[0].jobs
    with bench.database.transaction() as tx:
        job = tx.jobs.get(good)
        tx.checkpoints.add(Checkpoint("ck", "w-1", good, "alpha", "default", "web", "i", "d", 1, bench.now))
        tx.jobs.save(job, replace(job, workload_id="w-1", phase=Phase.PREPARING))
    bench.end([good])
    bench.end([bad], Phase.FAILED)
    bench.pass_time(5)
    (forget,) = [job for job in bench.jobs() if job.request.kind is JobKind.FORGET]
    assert forget.request.forget is not None
    assert (forget.request.forget.workload_id, forget.request.forget.policy) == ("w-1", RetentionPolicy(daily=7))
    assert forget.request.schedule == "s"
    assert forget.id in bench.advanced
    with bench.database.transaction() as tx:
        tx.checkpoints.remove("ck")
    bench.pass_time(60)
    with bench.database.transaction() as tx:
        job = tx.jobs.get(bench.runs()[1].jobs[0])
        tx.jobs.save(job, replace(job, workload_id="w-2", phase=Phase.PREPARING))
    bench.end()
    bench.pass_time(5)
    assert bench.runs()[1].finished_at, "there is nothing to forget, and that holds nobody up"


def test_kinds_that_are_about_the_store_and_hosts(bench: Bench) -> None:
    forget = ForgetRequest(everything=True, policy=RetentionPolicy(daily=7))
    bench.create("prune", job=JobRequest(JobKind.PRUNE), target=Target())
    bench.create("verify", job=JobRequest(JobKind.VERIFICATION), target=Target())
    bench.create("forget", job=JobRequest(JobKind.FORGET, forget=forget), target=Target())
    bench.create("drain", job=JobRequest(JobKind.DRAIN), target=Target("alpha"))
    bench.create("return", job=JobRequest(JobKind.RETURN, target_host="beta"), target=Target())
    bench.pass_time(60)
    kinds = {job.request.schedule: job.request.kind.value for job in bench.jobs()}
    assert kinds.pop("verify") == "verification"
    assert kinds == {name: name for name in ("prune", "forget", "drain", "return")}
    with pytest.raises(PreconditionFailed) as caught:
        bench.create("all", keep=RetentionPolicy())
    assert caught.value.code == "removes_everything"
    with pytest.raises(InvalidRequest):
        bench.create("thin", job=MOVE, keep=RetentionPolicy(daily=1))
