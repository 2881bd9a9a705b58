"""Watching: every change until the end; whoever leaves gives the place back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from migrator.api import server
from migrator.gen.migrator.v1 import migrator_pb2 as pb
from migrator.models.phase import Phase
from tests.servers.api import CALL_S, ServedApi, failure_of, served_api

STREAMS = 2


def watch(api: ServedApi, job_id: str) -> Iterator[pb.WatchJobResponse]:
    return api.jobs.WatchJob(pb.WatchJobRequest(id=job_id), timeout=CALL_S)


def amounts(job: pb.Job) -> tuple[int, int]:
    step = next(step for step in job.steps if step.name == "upload")
    return step.progress_bytes, step.total_bytes


def test_a_watch_sends_every_change_and_ends_with_the_job(two_hosts: ServedApi) -> None:
    job = two_hosts.migrate()
    stream = watch(two_hosts, job.id)
    assert next(stream).job == job, "the job as it stands comes first"
    two_hosts.move(job.id, Phase.UPLOADING, start="upload")
    assert next(stream).job.phase == "uploading"
    for done_bytes in (10, 20):
        two_hosts.report(job.id, "upload", done_bytes, 20)
        assert amounts(next(stream).job) == (done_bytes, 20)
    two_hosts.move(job.id, Phase.SUCCEEDED)
    last = next(stream).job
    assert last.state == pb.JOB_STATE_SUCCEEDED
    assert last.measures.HasField("total_ms")
    assert list(stream) == []


def test_nothing_is_sent_while_nothing_changes(two_hosts: ServedApi) -> None:
    job = two_hosts.migrate()
    stream = two_hosts.jobs.WatchJob(pb.WatchJobRequest(id=job.id), timeout=1.0)
    assert next(stream).job == job
    with pytest.raises(grpc.RpcError) as caught:
        next(stream)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED  # type: ignore[attr-defined]


@pytest.mark.parametrize("phase", [Phase.SUCCEEDED, Phase.FAILED, Phase.CANCELLED, Phase.NEEDS_OPERATOR])
def test_a_watch_of_a_job_that_has_ended_sends_it_once(two_hosts: ServedApi, phase: Phase) -> None:
    job = two_hosts.migrate()
    two_hosts.move(job.id, phase)
    assert [answer.job.phase for answer in watch(two_hosts, job.id)] == [phase]


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServedApi]:
    """A server that serves two watches at once and has one thread more."""
    monkeypatch.setattr(server, "STREAMS", STREAMS)
    monkeypatch.setattr(server, "THREADS", STREAMS + 1)
    with served_api(tmp_path) as api:
        api.beat("alpha", "beta")
        yield api


def test_watches_leave_a_thread_for_short_calls_and_one_too_many_is_refused(small: ServedApi) -> None:
    job = small.migrate()
    streams = [watch(small, job.id) for _ in range(STREAMS)]
    assert [next(stream).job.id for stream in streams] == [job.id] * STREAMS
    status, failure = failure_of(lambda: next(watch(small, job.id)))
    assert (status, failure.kind, failure.code) == ("RESOURCE_EXHAUSTED", "ResourceExhausted", "too_many_streams")
    assert small.jobs.GetJob(pb.GetJobRequest(id=job.id), timeout=CALL_S).job.id == job.id


def test_whoever_leaves_frees_the_thread(small: ServedApi) -> None:
    job = small.migrate()
    for _ in range(3):
        streams = [watch(small, job.id) for _ in range(STREAMS)]
        assert [next(stream).job.id for stream in streams] == [job.id] * STREAMS
        for stream in streams:
            stream.cancel()  # type: ignore[attr-defined]
        until_free(small, job.id)


def until_free(api: ServedApi, job_id: str) -> None:
    deadline = time.monotonic() + 3
    while True:
        streams = [watch(api, job_id) for _ in range(STREAMS)]
        try:
            for stream in streams:
                next(stream)
            return
        except grpc.RpcError:
            assert time.monotonic() < deadline, "the places of those who left are not given back"
            time.sleep(0.05)
        finally:
            for stream in streams:
                stream.cancel()  # type: ignore[attr-defined]
            time.sleep(0.3)


def test_a_stopped_server_ends_its_watches(two_hosts: ServedApi) -> None:
    stream = watch(two_hosts, two_hosts.migrate().id)
    next(stream)
    two_hosts.stop()
    with pytest.raises(grpc.RpcError) as caught:
        next(stream)
    assert caught.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)  # type: ignore[attr-defined]
    assert not two_hosts.socket.exists()
