"""Which checkpoint is meant, whether its original lives, what a drill says of it, and what the report makes of that."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from migrator.errors import (
    AlreadyExists,
    IntegrityError,
    InvalidRequest,
    MigratorError,
    NotFound,
    PreconditionFailed,
    ResourceExhausted,
    Unavailable,
    WorkloadFailed,
)
from migrator.models.generations import family_of
from migrator.models.memory import MemoryDatabase
from migrator.models.phase import JobKind, Phase
from migrator.models.session import Transaction
from migrator.models.values import (
    Checkpoint,
    ContainerView,
    Host,
    Job,
    JobRequest,
    NetworkPolicy,
    Probe,
    StepStatus,
    Workload,
)
from migrator.models.volumes import Volume, VolumeKind, VolumePolicy, relocated
from migrator.service.choosing import Choice, choose
from migrator.service.control import engine
from migrator.service.control.decisions import OWNERSHIP
from migrator.service.control.endings import conclude
from migrator.service.identifiers import find_job, new_generation, new_id
from migrator.service.job_making import KIND_PREFIX
from migrator.service.network.attachment import Attachment
from migrator.service.originals import check_original_gone
from migrator.service.plans import steps_for
from migrator.service.reports import report_workloads
from migrator.service.requests import check_request
from migrator.service.steps.restored_spec import alone, with_sources

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


def taken(
    number: int, hours_ago: float, *, workload: str = "web-1", host: str = "alpha", name: str = "web"
) -> Checkpoint:
    at = NOW - timedelta(hours=hours_ago)
    return Checkpoint(f"ck-{number}", workload, None, host, "default", name, "web:1", "sha256:0", 1000, at)


@pytest.fixture
def database() -> MemoryDatabase:
    database = MemoryDatabase()
    with database.transaction() as tx:
        for item in (taken(1, 30), taken(2, 6), taken(3, 1, host="beta"), taken(4, 2, workload="db-1", name="db")):
            tx.checkpoints.add(item)
        tx.workloads.add(Workload("web-1", "default", "web", "beta", 4))
    return database


@pytest.fixture
def tx(database: MemoryDatabase) -> Iterator[Transaction]:
    with database.transaction() as tx:
        yield tx


@pytest.mark.parametrize(
    ("workload", "hours_ago", "expected"),
    [
        ("beta/web", None, "ck-3"),
        ("beta/web", 0.5, "ck-3"),
        ("beta/web", 1, "ck-3"),
        ("beta/web", 1.1, "ck-2"),
        ("beta/web", 30, "ck-1"),
        ("web-1", 7, "ck-1"),
        ("alpha/web", None, "ck-2"),
        ("ck-1", None, "ck-1"),
    ],
)
def test_the_newest_of_a_time_or_before_is_chosen(
    tx: Transaction, workload: str, hours_ago: float | None, expected: str
) -> None:
    at = None if hours_ago is None else NOW - timedelta(hours=hours_ago)
    assert choose(tx, Choice(workload, at=at), NOW).id == expected


def test_a_time_before_the_first_names_the_oldest(tx: Transaction) -> None:
    with pytest.raises(NotFound) as caught:
        choose(tx, Choice("beta/web", at=NOW - timedelta(days=9)), NOW)
    assert caught.value.code == "no_checkpoint_then"
    assert caught.value.remedy == "the oldest is ck-1, of 2026-11-19 06:00:00 UTC"


@pytest.mark.parametrize(
    ("choice", "kind", "code"),
    [
        (Choice("beta/web", at=NOW + timedelta(seconds=1)), InvalidRequest, "time_in_future"),
        (Choice("gamma/web"), NotFound, "no_checkpoints"),
        (Choice("beta/web", "other"), NotFound, "no_checkpoints"),
        (Choice("nothing"), NotFound, "no_checkpoints"),
    ],
)
def test_what_cannot_be_chosen_is_told(tx: Transaction, choice: Choice, kind: type[MigratorError], code: str) -> None:
    with pytest.raises(kind) as caught:
        choose(tx, choice, NOW)
    assert caught.value.code == code
    assert caught.value.remedy


def show(tx: Transaction, status: str, host: str = "beta") -> None:
    tx.hosts.record(Host(host, NOW))
    tx.hosts.replace_containers(host, [ContainerView(host, "default", "web", status)], NOW)


@pytest.mark.parametrize("status", ["running", "paused", "unknown", "created"])
def test_under_its_own_name_nothing_is_restored_while_the_original_may_run(tx: Transaction, status: str) -> None:
    show(tx, status)
    with pytest.raises(AlreadyExists) as caught:
        check_original_gone(tx, taken(1, 30), "default", "web")
    assert (caught.value.code, caught.value.host) == ("original_runs", "beta")
    assert "--name" in str(caught.value.remedy)
    check_original_gone(tx, taken(1, 30), "default", "web-2")
    check_original_gone(tx, taken(1, 30), "other", "web")
    check_original_gone(tx, taken(4, 2, workload="db-1"), "default", "web")


def test_whichever_generation_runs_it_is_the_original(tx: Transaction) -> None:
    """Restored under its name on gamma, the first one's record gone: an older checkpoint is still of that program."""
    first, second = "web-23456789ab", new_generation("web-23456789ab")
    assert (family_of(second), family_of(new_generation(second))) == (first, first)
    older, newer = taken(7, 50, workload=first), taken(8, 1, workload=second, host="gamma")
    tx.workloads.add(Workload(second, "default", "web", "gamma", 2))
    show(tx, "running", host="gamma")
    for checkpoint in (older, newer):
        with pytest.raises(AlreadyExists) as caught:
            check_original_gone(tx, checkpoint, "default", "web")
        assert caught.value.host == "gamma"
    check_original_gone(tx, taken(1, 30), "default", "web")  # another program of that name


def test_the_past_of_what_was_restored_is_its_own(database: MemoryDatabase) -> None:
    first, second = "api-23456789ab", new_generation("api-23456789ab")
    with database.transaction() as tx:
        tx.checkpoints.add(taken(7, 50, workload=first, name="api"))
        tx.checkpoints.add(taken(8, 1, workload=second, host="gamma", name="api"))
        tx.workloads.add(Workload(first, "default", "api", "alpha", 2))  # nobody has told that it is gone
        tx.workloads.add(Workload(second, "default", "api", "gamma", 2))
        tx.hosts.record(Host("gamma", NOW))
        tx.hosts.replace_containers("gamma", [ContainerView("gamma", "default", "api", "running")], NOW)
        assert choose(tx, Choice("gamma/api", at=NOW - timedelta(hours=10)), NOW).id == "ck-7"
        assert choose(tx, Choice(first), NOW).id == "ck-8"
    (row,) = [row for row in report_workloads(database, "", "default", NOW) if row.container == "api"]
    assert (row.host, row.workload_id, row.checkpoints) == ("gamma", second, 2)
    for name in ("gamma/api", first):
        (row,) = report_workloads(database, name, "default", NOW)
        assert (row.host, row.checkpoints, row.newest and row.newest.id) == ("gamma", 2, "ck-8")


@pytest.mark.parametrize("status", ["stopped", "none"])
def test_an_original_that_has_ended_is_in_nobodys_way(tx: Transaction, status: str) -> None:
    show(tx, status)
    check_original_gone(tx, taken(1, 30), "default", "web")


def test_what_a_job_of_any_kind_leaves_is_known_by_its_name() -> None:
    """Or housekeeping would leave it for ever."""
    assert {*KIND_PREFIX} == {*JobKind}
    for prefix in KIND_PREFIX.values():
        job_id = new_id(prefix)
        assert find_job(job_id) == find_job(f"migrator-{job_id}") == find_job(f"{job_id}-dump") == job_id
    assert find_job(new_id("web")) is None


def test_an_original_went_with_a_host_that_is_gone(tx: Transaction) -> None:
    show(tx, "running")
    tx.hosts.forget("beta")
    check_original_gone(tx, taken(1, 30), "default", "web")


def test_the_adoption_looks_once_more(tx: Transaction) -> None:
    request = JobRequest(JobKind.RESTORE, checkpoint_id="ck-1", target_host="alpha")
    first, *others = steps_for(request)
    steps = (replace(first, facts={"source_name": "web"}), *others)
    job = Job("res-1", request, Phase.FETCHING, 1, NOW, NOW, workload_id="web-2", steps=steps)
    show(tx, "running")
    with pytest.raises(AlreadyExists):
        OWNERSHIP["adopt"].run(tx, job)
    show(tx, "none")
    assert OWNERSHIP["adopt"].run(tx, job)["workload_id"] == "web-2"


def drill(**values: object) -> Job:
    request = JobRequest(JobKind.DRILL, checkpoint_id="ck-1", target_host="beta", new_name="drill-1")
    return replace(Job("drl-1", request, Phase.FAILED, 1, NOW, NOW, steps=steps_for(request)), **values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "remembered"),
    [
        (WorkloadFailed("the probe failed", code="probe_failed"), True),
        (IntegrityError("a blob is damaged"), True),
        (PreconditionFailed("it ended", code="ended_after_restore"), True),
        (PreconditionFailed("no CRIU here", code="criu_missing"), False),
        (ResourceExhausted("no room"), False),
        (Unavailable("no live worker"), False),
    ],
)
def test_only_what_is_about_the_checkpoint_is_remembered_of_a_drill(
    tx: Transaction, error: MigratorError, remembered: bool
) -> None:
    conclude(tx, drill(failure=error.to_dict()))
    known = tx.checkpoints.get("ck-1")
    assert (known.drill_failure, known.drilled_at) == ((error.message, NOW) if remembered else (None, None))
    assert known.proven_at is None


def test_a_drill_that_was_cancelled_says_nothing(tx: Transaction) -> None:
    conclude(tx, drill(phase=Phase.CANCELLED, failure=WorkloadFailed("no").to_dict()))
    assert tx.checkpoints.get("ck-1").drilled_at is None


def test_a_proof_says_when_and_how_long_and_outlives_a_later_failure(tx: Transaction) -> None:
    job = drill(phase=Phase.RESTORING)
    times = {"prepare": (NOW, NOW), "prove": (NOW, NOW + timedelta(seconds=2.5))}
    steps = tuple(
        replace(step, status=StepStatus.DONE, started_at=times[step.name][0], finished_at=times[step.name][1])
        if step.name in times
        else step
        for step in job.steps
    )
    OWNERSHIP["attest"].run(tx, replace(job, steps=steps))
    assert (tx.checkpoints.get("ck-1").proven_at, tx.checkpoints.get("ck-1").restore_s) == (NOW, 2.5)
    later = NOW + timedelta(hours=1)
    tx.checkpoints.record_drill("ck-1", later, failure="the probe failed")
    known = tx.checkpoints.get("ck-1")
    assert (known.proven_at, known.drilled_at, known.drill_failure) == (NOW, later, "the probe failed")
    tx.checkpoints.record_drill("ck-1", later, restore_s=1.0)
    assert tx.checkpoints.get("ck-1").drill_failure is None


def test_a_drill_may_be_cancelled_until_it_is_thrown_away() -> None:
    assert engine.may_cancel(drill(phase=Phase.RESTORING))
    assert not engine.may_cancel(drill(phase=Phase.FINISHING))


def test_the_report_follows_a_workload_over_hosts(database: MemoryDatabase) -> None:
    with database.transaction() as tx:
        tx.checkpoints.record_drill("ck-1", NOW - timedelta(hours=5), restore_s=2.0)
        tx.checkpoints.record_drill("ck-2", NOW - timedelta(hours=4), failure="the probe failed")
    web, db = sorted(report_workloads(database, "", "default", NOW), key=lambda row: row.container, reverse=True)
    assert (web.host, web.container, web.checkpoints) == ("beta", "web", 3)
    assert (web.newest and web.newest.id, web.age_s) == ("ck-3", 3600.0)
    assert (web.proven and web.proven.id, web.failed and web.failed.id) == ("ck-1", "ck-2")
    assert (db.host, db.proven, db.failed, db.age_s) == ("alpha", None, None, 7200.0)
    assert report_workloads(database, "beta/web", "default", NOW) == [web]
    assert report_workloads(database, "web-1", "default", NOW) == [web]
    with pytest.raises(NotFound):
        report_workloads(database, "alpha/nothing", "default", NOW)


def test_a_proof_after_a_failure_is_the_last_word(database: MemoryDatabase) -> None:
    with database.transaction() as tx:
        tx.checkpoints.record_drill("ck-1", NOW - timedelta(hours=5), failure="no")
        tx.checkpoints.record_drill("ck-2", NOW - timedelta(hours=4), restore_s=2.0)
    (web,) = report_workloads(database, "beta/web", "default", NOW)
    assert (web.failed, web.proven and web.proven.id) == (None, "ck-2")


RESTORE = JobRequest(JobKind.RESTORE, checkpoint_id="ck-1", target_host="beta")
DRILL = JobRequest(JobKind.DRILL, checkpoint_id="ck-1", target_host="beta")


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (replace(RESTORE, probe=Probe("true")), "contradictory_request"),
        (replace(DRILL, network=NetworkPolicy.NONE), "contradictory_request"),
        (replace(DRILL, new_name="web"), "contradictory_request"),
        (replace(DRILL, probe=Probe("[1]")), "bad_probe"),
        (replace(DRILL, probe=Probe("true", 1e9)), "bad_probe"),
        (replace(RESTORE, volumes_at="srv"), "bad_volume"),
        (replace(RESTORE, volumes_at="/srv/../etc"), "bad_volume"),
    ],
)
def test_what_makes_no_sense_is_refused(request_: JobRequest, code: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_request(request_, None)
    assert caught.value.code == code
    check_request(replace(RESTORE, network=NetworkPolicy.NONE, volumes_at="/srv/clones"), None)
    check_request(replace(DRILL, probe=Probe("pg_isready", 20)), None)


def volume(policy: VolumePolicy, destination: str = "/data") -> Volume:
    return Volume(destination, "/srv/data", policy, VolumeKind.DIRECTORY)


def test_what_a_clone_makes_lies_below_its_own_place() -> None:
    found = relocated([volume(VolumePolicy.COPY), volume(VolumePolicy.SHARED, "/log")], "/srv/clones/web-1/")
    assert [item.source for item in found] == ["/srv/clones/web-1/srv/data", "/srv/data"]
    assert relocated([volume(VolumePolicy.COPY)], "")[0].source == "/srv/data"


def test_a_spec_shows_volumes_from_where_they_lie() -> None:
    bind = {"destination": "/data/", "type": "bind", "source": "/srv/data", "options": ["rbind"]}
    proc = {"destination": "/proc", "type": "proc", "source": "proc"}
    (moved,) = relocated([volume(VolumePolicy.COPY)], "/srv/x")
    spec = with_sources({"mounts": [bind, proc]}, [moved])
    assert spec["mounts"] == [{**bind, "source": "/srv/x/srv/data"}, proc]


def test_what_is_alone_has_a_network_of_its_own_with_the_addresses_that_it_knows() -> None:
    spec = {"linux": {"namespaces": [{"type": "pid"}, {"type": "network", "path": "/run/netns/web"}]}}
    attachment = Attachment("cni", "net", "default-web", "eth0", "02:00:00:00:00:01", ("10.88.0.5/16", "fd00::5/64"))
    made = alone(spec, attachment)
    assert made["linux"]["namespaces"] == [{"type": "pid"}, {"type": "network"}]
    (hook,) = made["hooks"]["createRuntime"]
    assert "ip link add eth0 type veth peer name nowhere" in hook["args"][2]
    assert "ip address replace fd00::5/64 dev eth0 nodad" in hook["args"][2]
    assert "hooks" not in alone(spec, None)


def test_a_container_on_its_hosts_network_cannot_be_alone() -> None:
    with pytest.raises(PreconditionFailed) as caught:
        alone({"linux": {"namespaces": [{"type": "pid"}]}}, None)
    assert caught.value.code == "host_network"
