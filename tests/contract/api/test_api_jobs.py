"""Jobs through the real server: what is written down, what is refused and in which words."""

from __future__ import annotations

from typing import Any

import pytest

from migrator.errors import KINDS, WorkloadFailed
from migrator.gen.migrator.v1 import migrator_pb2 as pb
from migrator.models.phase import Phase
from migrator.models.values import TcpPolicy
from migrator.service.plans import MIGRATION
from tests.servers.api import CALL_S, ServedApi, failure_of

REQUESTS: dict[str, dict[str, Any]] = {
    "mig": {"kind": pb.JOB_KIND_MIGRATION, "source": "alpha", "container": "web", "target": "beta"},
    "chk": {"kind": pb.JOB_KIND_CHECKPOINT, "source": "alpha", "container": "web"},
    "res": {"kind": pb.JOB_KIND_RESTORE, "checkpoint_id": "ck-1", "target": "beta", "new_name": "web-2"},
}


def create(api: ServedApi, **values: Any) -> pb.Job:
    return api.jobs.CreateJob(pb.CreateJobRequest(**values), timeout=CALL_S).job


def get(api: ServedApi, job_id: str) -> pb.Job:
    return api.jobs.GetJob(pb.GetJobRequest(id=job_id), timeout=CALL_S).job


def listed(api: ServedApi, **values: Any) -> list[str]:
    return [job.id for job in api.jobs.ListJobs(pb.ListJobsRequest(**values), timeout=CALL_S).jobs]


def refused(api: ServedApi, kind: str, code: str, /, **values: Any) -> pb.Failure:
    status, failure = failure_of(lambda: create(api, **values))
    assert (failure.kind, failure.code, status) == (kind, code, KINDS[kind].grpc_status), failure
    assert failure.message
    assert failure.remedy
    assert not listed(api), "a refused request leaves no job"
    return failure


@pytest.mark.parametrize("prefix", REQUESTS)
def test_a_job_is_written_down_told_and_read_back(two_hosts: ServedApi, prefix: str) -> None:
    two_hosts.keep_checkpoint()
    wanted = REQUESTS[prefix]
    job = create(two_hosts, **wanted)
    assert job.id.startswith(f"{prefix}-")
    assert (job.state, job.phase, job.namespace) == (pb.JOB_STATE_QUEUED, "accepted", "default")
    assert {name: getattr(job, name) for name in wanted} == wanted
    assert job.checkpoint_id
    assert all(step.status == "pending" for step in job.steps)
    assert get(two_hosts, job.id) == job
    assert listed(two_hosts) == [job.id]
    assert two_hosts.bell.rung == [job.id]


@pytest.mark.parametrize(
    ("number", "policy"),
    [
        (pb.TCP_POLICY_UNSPECIFIED, TcpPolicy.KEEP),
        (pb.TCP_POLICY_KEEP, TcpPolicy.KEEP),
        (pb.TCP_POLICY_CLOSE, TcpPolicy.CLOSE),
        (pb.TCP_POLICY_REFUSE, TcpPolicy.REFUSE),
    ],
)
def test_what_becomes_of_connections_is_written_down(two_hosts: ServedApi, number: int, policy: TcpPolicy) -> None:
    job = create(two_hosts, **REQUESTS["mig"], tcp=number)
    assert two_hosts.plane.get_job(job.id).request.tcp is policy


def test_an_unknown_policy_for_connections_is_refused(two_hosts: ServedApi) -> None:
    refused(two_hosts, "InvalidRequest", "bad_tcp_policy", **REQUESTS["mig"], tcp=9)


def test_a_job_shows_its_plan(two_hosts: ServedApi) -> None:
    job = two_hosts.migrate()
    assert [step.name for step in job.steps] == [line.step for line in MIGRATION]
    assert {step.host for step in job.steps} == {"alpha", "beta", ""}


def test_a_controller_that_cannot_be_told_makes_nothing_fail(two_hosts: ServedApi) -> None:
    two_hosts.bell.broken = True
    job = two_hosts.migrate()
    two_hosts.jobs.CancelJob(pb.CancelJobRequest(id=job.id), timeout=CALL_S)
    assert get(two_hosts, job.id).cancel_requested


# ---- idempotency keys


@pytest.mark.parametrize("prefix", REQUESTS)
def test_the_same_key_gives_the_same_job(two_hosts: ServedApi, prefix: str) -> None:
    two_hosts.keep_checkpoint(namespace="shop")
    first = create(two_hosts, **REQUESTS[prefix], idempotency_key="again")
    two_hosts.move(first.id, Phase.FAILED)
    two_hosts.beat("alpha", "beta", age_s=60)  # nothing is checked anew: the job is there
    with two_hosts.database.transaction() as tx:
        tx.checkpoints.remove("ck-1")
    second = create(two_hosts, **REQUESTS[prefix], idempotency_key="again")
    assert second.id == first.id
    assert listed(two_hosts) == [first.id]


def test_a_key_belongs_to_one_request(two_hosts: ServedApi) -> None:
    job = two_hosts.migrate(idempotency_key="again")
    status, failure = failure_of(lambda: two_hosts.migrate(idempotency_key="again", container="other"))
    assert (status, failure.kind, failure.code) == ("ALREADY_EXISTS", "AlreadyExists", "idempotency_key_reused")
    assert job.id in failure.message
    assert listed(two_hosts) == [job.id]


def test_without_a_key_every_request_is_a_job(two_hosts: ServedApi) -> None:
    assert two_hosts.migrate().id != two_hosts.migrate().id


def test_a_restore_goes_into_the_namespace_of_its_checkpoint(two_hosts: ServedApi) -> None:
    two_hosts.keep_checkpoint(namespace="shop")
    assert create(two_hosts, **REQUESTS["res"]).namespace == "shop"
    assert create(two_hosts, **REQUESTS["res"], namespace="other").namespace == "other"


# ---- refusals


@pytest.mark.parametrize(
    ("kind", "code", "change"),
    [
        ("InvalidRequest", "incomplete_request", {"kind": pb.JOB_KIND_UNSPECIFIED}),
        ("InvalidRequest", "incomplete_request", {"kind": 99}),
        ("InvalidRequest", "incomplete_request", {"source": ""}),
        ("InvalidRequest", "incomplete_request", {"container": ""}),
        ("InvalidRequest", "incomplete_request", {"target": ""}),
        ("InvalidRequest", "incomplete_request", {"kind": pb.JOB_KIND_RESTORE}),
        ("InvalidRequest", "contradictory_request", {"kind": pb.JOB_KIND_CHECKPOINT}),
        ("InvalidRequest", "contradictory_request", {"checkpoint_id": "ck-1"}),
        ("InvalidRequest", "contradictory_request", {"new_name": "web-2"}),
        ("InvalidRequest", "bad_name", {"container": "a/b"}),
        ("InvalidRequest", "bad_name", {"container": "-web"}),
        ("InvalidRequest", "bad_name", {"container": "w" * 77}),
        ("InvalidRequest", "bad_name", {"container": "we\0b"}),
        ("InvalidRequest", "bad_name", {"container": "wéb"}),
        ("InvalidRequest", "bad_name", {"container": "web\n"}),
        ("InvalidRequest", "bad_name", {"namespace": "a b"}),
        ("InvalidRequest", "bad_idempotency_key", {"idempotency_key": "k" * 201}),
        ("InvalidRequest", "bad_idempotency_key", {"idempotency_key": "a\0b"}),
        ("InvalidRequest", "same_host", {"target": "alpha"}),
        ("NotFound", "host_not_found", {"source": "nowhere"}),
        ("NotFound", "host_not_found", {"target": "nowhere"}),
    ],
    ids=str,
)
def test_a_bad_migration_is_refused(two_hosts: ServedApi, kind: str, code: str, change: dict[str, Any]) -> None:
    refused(two_hosts, kind, code, **(REQUESTS["mig"] | change))


@pytest.mark.parametrize(
    ("kind", "code", "change"),
    [
        ("NotFound", "checkpoint_not_found", {"checkpoint_id": "ck-none"}),
        ("NotFound", "host_not_found", {"target": "nowhere"}),
        ("InvalidRequest", "incomplete_request", {"checkpoint_id": ""}),
        ("InvalidRequest", "contradictory_request", {"container": "web"}),
        ("InvalidRequest", "contradictory_request", {"source": "alpha"}),
        ("InvalidRequest", "bad_name", {"new_name": "a b"}),
    ],
    ids=str,
)
def test_a_bad_restore_is_refused(two_hosts: ServedApi, kind: str, code: str, change: dict[str, Any]) -> None:
    two_hosts.keep_checkpoint()
    refused(two_hosts, kind, code, **(REQUESTS["res"] | change))


@pytest.mark.parametrize("silent", ["alpha", "beta"])
def test_a_silent_host_refuses_the_job_and_says_what_to_do(two_hosts: ServedApi, silent: str) -> None:
    two_hosts.beat(silent, age_s=60)
    failure = refused(two_hosts, "Unavailable", "no_live_worker", **REQUESTS["mig"])
    assert failure.host == silent
    assert "60 s ago" in failure.message
    assert f"migrator worker --host {silent}" in failure.remedy


def test_on_a_busy_machine_a_host_is_silent_only_if_others_were_heard_since(two_hosts: ServedApi) -> None:
    """The controller has got as far as ten seconds ago, and so have the heartbeats."""
    two_hosts.beat("alpha", "beta", age_s=12)
    two_hosts.heard(10)
    assert create(two_hosts, **REQUESTS["mig"]).id
    two_hosts.heard(5)
    status, failure = failure_of(lambda: create(two_hosts, **REQUESTS["mig"]))
    assert (status, failure.code) == (KINDS["Unavailable"].grpc_status, "no_live_worker")


def test_a_controller_that_hears_nothing_at_all_is_not_asked_who_lives(two_hosts: ServedApi) -> None:
    two_hosts.beat("alpha", "beta", age_s=60)
    two_hosts.heard(60)
    refused(two_hosts, "Unavailable", "no_live_worker", **REQUESTS["mig"])


def test_a_very_long_message_arrives_nevertheless(two_hosts: ServedApi) -> None:
    status, failure = failure_of(lambda: get(two_hosts, "ü" * 30_000))
    assert (status, failure.kind, failure.code) == ("NOT_FOUND", "NotFound", "job_not_found")
    assert failure.message.startswith("job 'üüü")
    assert failure.remedy == "see `migrator jobs list`"


@pytest.mark.parametrize("call", ["GetJob", "CancelJob", "WatchJob"])
@pytest.mark.parametrize("job_id", ["", "mig-none"])
def test_a_job_that_is_not_there(api: ServedApi, call: str, job_id: str) -> None:
    def ask() -> None:
        answer = getattr(api.jobs, call)(getattr(pb, f"{call}Request")(id=job_id), timeout=CALL_S)
        list(answer)

    status, failure = failure_of(ask)
    assert (status, failure.kind, failure.code) == ("NOT_FOUND", "NotFound", "job_not_found")


# ---- lists


def test_jobs_are_listed_newest_first_by_state_host_and_number(two_hosts: ServedApi) -> None:
    two_hosts.beat("gamma")
    first, second, third = (two_hosts.migrate(target=target).id for target in ("beta", "gamma", "beta"))
    two_hosts.move(first, Phase.FAILED, failure=WorkloadFailed("it broke", host="alpha").to_dict())
    two_hosts.move(second, Phase.DUMPING)
    assert listed(two_hosts) == [third, second, first]
    assert listed(two_hosts, states=[pb.JOB_STATE_FAILED]) == [first]
    assert listed(two_hosts, states=[pb.JOB_STATE_RUNNING, pb.JOB_STATE_QUEUED]) == [third, second]
    assert listed(two_hosts, host="gamma") == [second]
    assert listed(two_hosts, host="nowhere") == []
    assert listed(two_hosts, limit=2) == [third, second]
    assert get(two_hosts, first).failure.message == "it broke"


@pytest.mark.parametrize(
    ("code", "values"), [("bad_state", {"states": [0]}), ("bad_state", {"states": [99]}), ("bad_limit", {"limit": -1})]
)
def test_a_filter_that_makes_no_sense_is_refused(two_hosts: ServedApi, code: str, values: dict[str, Any]) -> None:
    two_hosts.migrate()
    status, failure = failure_of(lambda: listed(two_hosts, **values))
    assert (status, failure.kind, failure.code) == ("INVALID_ARGUMENT", "InvalidRequest", code)
    assert failure.remedy


# ---- cancel


def cancel(api: ServedApi, job_id: str) -> pb.Job:
    return api.jobs.CancelJob(pb.CancelJobRequest(id=job_id), timeout=CALL_S).job


@pytest.mark.parametrize("phase", [Phase.PREFLIGHT, Phase.UPLOADING, Phase.PROMISED, Phase.ROLLING_BACK])
@pytest.mark.parametrize("prefix", REQUESTS)
def test_a_job_is_cancelled_before_the_commit(two_hosts: ServedApi, prefix: str, phase: Phase) -> None:
    two_hosts.keep_checkpoint()
    job = create(two_hosts, **REQUESTS[prefix])
    two_hosts.move(job.id, phase)
    assert cancel(two_hosts, job.id).cancel_requested
    assert cancel(two_hosts, job.id).cancel_requested, "once more changes nothing"
    assert two_hosts.bell.rung == [job.id] * 3
    assert get(two_hosts, job.id).phase == phase, "the controller takes it back, not the server"


@pytest.mark.parametrize("phase", [Phase.COMMITTED, Phase.RESTORING, Phase.FINISHING])
def test_a_job_is_not_cancelled_after_the_commit(two_hosts: ServedApi, phase: Phase) -> None:
    job = two_hosts.migrate()
    two_hosts.move(job.id, phase)
    status, failure = failure_of(lambda: cancel(two_hosts, job.id))
    assert (status, failure.kind, failure.code) == ("FAILED_PRECONDITION", "PreconditionFailed", "job_committed")
    assert job.id in failure.message
    assert "migrate back" in failure.remedy
    assert not get(two_hosts, job.id).cancel_requested


@pytest.mark.parametrize("phase", [Phase.SUCCEEDED, Phase.FAILED, Phase.CANCELLED])
def test_a_job_that_has_ended_is_not_cancelled(two_hosts: ServedApi, phase: Phase) -> None:
    job = two_hosts.migrate()
    two_hosts.move(job.id, phase)
    status, failure = failure_of(lambda: cancel(two_hosts, job.id))
    assert (status, failure.kind, failure.code) == ("FAILED_PRECONDITION", "PreconditionFailed", "job_finished")
