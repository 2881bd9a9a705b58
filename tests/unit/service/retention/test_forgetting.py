"""Forgetting: what is chosen, what is refused, and that no crash leaves half a checkpoint."""

from __future__ import annotations

import pytest

from migrator.errors import InvalidRequest, MigratorError, NotFound, PermissionDenied, PreconditionFailed, ResourceBusy
from migrator.models.phase import JobKind, Phase
from migrator.models.retention import ForgetRequest, RetentionPolicy
from migrator.models.values import Job, JobRequest
from migrator.service.housekeeping.store import StoreKeeper
from migrator.service.retention.removal import Remover
from tests.unit.service.retention.bench import Bench, Died


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    for number in range(4):
        bench.keep(f"ck-{number}", hours_ago=number)
    return bench


def fates(job: Job) -> dict[str, bool]:
    return {found["id"]: found["keep"] for found in job.facts["judged"]}


def test_what_no_rule_keeps_is_gone_from_catalogue_and_store(bench: Bench) -> None:
    job = bench.forget(last=2)
    assert job.phase is Phase.SUCCEEDED
    assert fates(job) == {"ck-0": True, "ck-1": True, "ck-2": False, "ck-3": False}
    assert bench.listed() == bench.sealed() == ["ck-0", "ck-1"]
    assert bench.restores("ck-0")
    assert bench.restores("ck-1")


def test_a_dry_run_says_the_same_and_changes_nothing(bench: Bench) -> None:
    before = bench.clockwork.count
    dry = bench.forget(last=2, dry_run=True)
    assert [step.name for step in dry.steps] == ["choose-checkpoints"]
    assert bench.listed() == bench.sealed() == ["ck-0", "ck-1", "ck-2", "ck-3"]
    assert bench.clockwork.count > before
    assert fates(dry) == fates(bench.forget(last=2))


def test_forgetting_twice_changes_nothing_more(bench: Bench) -> None:
    bench.forget(last=2)
    assert all(fates(bench.forget(last=2)).values())
    assert bench.listed() == ["ck-0", "ck-1"]


def test_workloads_are_judged_each_by_itself(bench: Bench) -> None:
    bench.keep("other", hours_ago=99, workload="db-1")
    bench.forget(last=1, everything=True)
    assert bench.listed() == ["ck-0", "other"]


def test_a_container_is_found_by_where_it_was_backed_up(bench: Bench) -> None:
    bench.forget(last=1, host="alpha", container="web")
    assert bench.listed() == ["ck-0"]


@pytest.mark.parametrize(
    ("words", "kind", "code"),
    [
        ({"last": 1, "workload_id": "web-9"}, NotFound, "nothing_selected"),
        ({"last": 1, "host": "alpha", "container": "db"}, NotFound, "nothing_selected"),
        ({}, PreconditionFailed, "removes_everything"),
        ({"last": 1, "within": "soon"}, InvalidRequest, "bad_duration"),
        ({"daily": 1, "time_zone": "Mars"}, InvalidRequest, "bad_time_zone"),
        ({"last": 1, "container": "web"}, InvalidRequest, "contradictory_request"),
    ],
)
def test_bad_requests_change_nothing(bench: Bench, words: dict[str, object], kind: type, code: str) -> None:
    with pytest.raises(kind) as refused:
        bench.forget(**words)
    assert isinstance(refused.value, MigratorError)
    assert refused.value.code == code
    assert refused.value.remedy
    assert bench.listed() == ["ck-0", "ck-1", "ck-2", "ck-3"]
    assert bench.plane.list_jobs() == []


def test_requests_that_mix_kinds_are_refused(bench: Bench) -> None:
    asked = ForgetRequest(workload_id="web-1", policy=RetentionPolicy(last=1))
    move = JobRequest(JobKind.MIGRATION, source_host="alpha", container="web", target_host="beta", forget=asked)
    for request in (move, JobRequest(JobKind.FORGET), JobRequest(JobKind.FORGET, source_host="alpha", forget=asked)):
        with pytest.raises(InvalidRequest):
            bench.plane.create_job(request, None)


def test_a_policy_that_leaves_nothing_needs_force(bench: Bench) -> None:
    bench.plane.pin_checkpoint("ck-3", "the first")
    assert bench.forget(force=True).phase is Phase.SUCCEEDED
    assert bench.listed() == ["ck-3"]


def test_pinned_ones_stay_and_named_ones_are_refused_while_pinned(bench: Bench) -> None:
    bench.plane.pin_checkpoint("ck-3", "the first")
    bench.forget(last=1)
    assert bench.listed() == ["ck-0", "ck-3"]
    with pytest.raises(PreconditionFailed) as refused:
        bench.forget("ck-3")
    assert refused.value.code == "checkpoint_pinned"
    bench.plane.unpin_checkpoint("ck-3")
    bench.forget("ck-3", "ck-0")
    assert bench.listed() == bench.sealed() == []
    assert [info.key for info in bench.objects.scan("pins/")] == []


@pytest.mark.parametrize("phase", [Phase.FETCHING, Phase.NEEDS_OPERATOR])
def test_what_a_restore_uses_stays(bench: Bench, phase: Phase) -> None:
    job_id = bench.use("ck-3", phase)
    job = bench.forget(last=1)
    assert job.phase is Phase.SUCCEEDED
    assert bench.listed() == ["ck-0", "ck-3"]
    assert job.facts["judged"][3]["reasons"] == [f"in use by job {job_id}"]
    with pytest.raises(ResourceBusy) as refused:
        bench.forget("ck-3")
    assert refused.value.code == "checkpoint_in_use"


def test_a_restore_that_comes_between_choice_and_removal_is_respected(bench: Bench) -> None:
    remover = Remover(bench.database, bench.checkpoints, lambda: bench.now)
    bench.use("ck-3")
    with pytest.raises(ResourceBusy):
        remover.remove("ck-3")
    assert bench.restores("ck-3")


def test_a_read_only_store_is_said_and_nothing_is_changed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionDenied("the store refuses our credentials (AccessDenied)", code="store_credentials")

    for verb in ("put", "delete"):
        monkeypatch.setattr(bench.objects, verb, refuse)
    job = bench.forget(last=1)
    assert (job.phase, (job.failure or {})["code"]) == (Phase.FAILED, "store_credentials")
    assert bench.listed() == bench.sealed() == ["ck-0", "ck-1", "ck-2", "ck-3"]


def test_one_that_the_store_must_keep_does_not_keep_the_others(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    delete = bench.objects.delete

    def refuse(key: str) -> None:
        if "/ck-2/" in key:
            raise PreconditionFailed("object ck-2 is locked until tomorrow", code="object_locked", remedy="wait")
        delete(key)

    monkeypatch.setattr(bench.objects, "delete", refuse)
    job = bench.forget(last=1)
    failure = job.failure or {}
    assert (job.phase, failure["code"]) == (Phase.FAILED, "object_locked")
    assert "1 of 3" in failure["message"]
    assert "until tomorrow" in failure["message"]
    assert bench.listed() == bench.sealed() == ["ck-0", "ck-2"]
    assert bench.restores("ck-2")


def test_a_store_that_is_away_is_tried_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    probe, tries = bench.objects.probe, []

    def away_at_first() -> None:
        tries.append(1)
        bench.objects.faults.unavailable = len(tries) < 3
        probe()

    monkeypatch.setattr(bench.objects, "probe", away_at_first)
    assert bench.forget(last=1).phase is Phase.SUCCEEDED
    assert bench.listed() == ["ck-0"]


def test_a_pin_survives_in_the_store(bench: Bench) -> None:
    bench.plane.pin_checkpoint("ck-1", "one")
    first = bench.plane.get_checkpoint("ck-1").checkpoint
    bench.plane.pin_checkpoint("ck-1", "two")
    second = bench.plane.get_checkpoint("ck-1").checkpoint
    assert (second.pin_reason, second.pinned_at) == ("two", first.pinned_at)
    with pytest.raises(NotFound):
        bench.plane.pin_checkpoint("ck-9", "")
    with pytest.raises(InvalidRequest):
        bench.plane.pin_checkpoint("ck-1", "line\nbreak")
    assert [info.key for info in bench.objects.scan("pins/")] == ["pins/ck-1"]


def deaths(bench: Bench) -> bool:
    """Forget all but one, and say whether it came to its end alive."""
    try:
        bench.forget(last=1)
    except Died:
        return False
    return True


def test_a_crash_at_any_line_leaves_no_half_of_a_checkpoint() -> None:
    """Dies at the first, second, … write; then what is listed restores, and the next sweep and run finish the work."""
    alive, point = False, 0
    while not alive:
        point += 1
        bench = Bench()
        for number in range(3):
            bench.keep(f"ck-{number}", hours_ago=number)
        bench.clockwork.count, bench.clockwork.dies_at = 0, point
        alive = deaths(bench)
        bench.clockwork.dies_at = None
        bench.start()
        assert all(bench.restores(checkpoint_id) for checkpoint_id in bench.listed()), point
        StoreKeeper(bench.database, bench.checkpoints, now=lambda bench=bench: bench.now).sweep()  # type: ignore[misc]
        bench.forget(last=1)
        assert bench.listed() == bench.sealed() == ["ck-0"], point
    assert point > 15, "the run was not broken at every write"
