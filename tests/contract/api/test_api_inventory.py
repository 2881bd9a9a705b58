"""Hosts, containers and checkpoints through the real server."""

from __future__ import annotations

import io
import json
import tarfile
import time

import grpc
import pytest

from migrator.api import server
from migrator.gen.migrator.v1 import migrator_pb2 as pb
from migrator.models.values import ContainerView
from migrator.service import control_plane
from tests.servers.api import CALL_S, ServedApi, failure_of
from tests.unit.storage.samples import Sample

WEB = ContainerView("alpha", "default", "web", "running", "local/web:1", 42, 80_000_000, {"tier": "front"})
DB = ContainerView("beta", "shop", "db", "paused", "local/db:1", 43, 10)


def containers(api: ServedApi, host: str = "") -> pb.ListContainersResponse:
    return api.hosts.ListContainers(pb.ListContainersRequest(host=host), timeout=CALL_S)


# ---- hosts


def test_hosts_are_listed_with_what_they_told(api: ServedApi) -> None:
    api.beat("beta", age_s=60)
    api.beat("alpha")
    alpha, beta = api.hosts.ListHosts(pb.ListHostsRequest(), timeout=CALL_S).hosts
    assert (alpha.name, alpha.alive, beta.name, beta.alive) == ("alpha", True, "beta", False)
    assert alpha.facts == {"kernel": "6.18.44", "criu": "4.2.1", "containerd": "2.1.9", "cpus": "2"}
    assert alpha.seen_at.ToSeconds() - beta.seen_at.ToSeconds() in (59, 60, 61)


def test_there_may_be_no_hosts(api: ServedApi) -> None:
    assert not api.hosts.ListHosts(pb.ListHostsRequest(), timeout=CALL_S).hosts
    assert containers(api) == pb.ListContainersResponse()


def test_a_host_that_is_gone_is_removed(two_hosts: ServedApi) -> None:
    job = two_hosts.migrate()
    two_hosts.beat("beta", age_s=60)
    answer = two_hosts.hosts.RemoveHost(pb.RemoveHostRequest(host="beta", actor="me"), timeout=CALL_S)
    assert list(answer.jobs) == [job.id]
    assert [host.name for host in two_hosts.hosts.ListHosts(pb.ListHostsRequest(), timeout=CALL_S).hosts] == ["alpha"]


def test_a_host_that_lives_is_not_removed(two_hosts: ServedApi) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        two_hosts.hosts.RemoveHost(pb.RemoveHostRequest(host="beta"), timeout=CALL_S)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert len(two_hosts.hosts.ListHosts(pb.ListHostsRequest(), timeout=CALL_S).hosts) == 2


# ---- containers


def test_hosts_are_asked_now(two_hosts: ServedApi) -> None:
    two_hosts.show(WEB, DB)
    answer = containers(two_hosts)
    assert two_hosts.bell.asked == ["alpha", "beta"]
    assert [(item.host, item.name) for item in answer.containers] == [("alpha", "web"), ("beta", "db")]
    web = answer.containers[0]
    assert (web.status, web.image, web.pid, web.memory_bytes, dict(web.labels)) == (
        "running", "local/web:1", 42, 80_000_000, {"tier": "front"},
    )  # fmt: skip
    assert not answer.failures


def test_one_host_is_asked_alone(two_hosts: ServedApi) -> None:
    two_hosts.show(WEB, DB)
    assert [item.name for item in containers(two_hosts, "beta").containers] == ["db"]
    assert two_hosts.bell.asked == ["beta"]


def test_a_silent_host_is_named_and_not_asked(two_hosts: ServedApi) -> None:
    two_hosts.show(WEB, DB)
    containers(two_hosts)  # beta's containers of former times are in the database now
    two_hosts.beat("beta", age_s=60)
    began = time.monotonic()
    answer = containers(two_hosts)
    assert time.monotonic() - began < 1
    assert [item.name for item in answer.containers] == ["web"]
    (failure,) = answer.failures
    assert (failure.kind, failure.code, failure.host) == ("Unavailable", "no_live_worker", "beta")
    assert "migrator worker --host beta" in failure.remedy


def test_a_host_that_does_not_answer_is_named(two_hosts: ServedApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_plane, "LOOK_S", 0.3)
    answer = containers(two_hosts)
    assert [(failure.code, failure.host) for failure in answer.failures] == [
        ("host_silent", "alpha"),
        ("host_silent", "beta"),
    ]
    assert all(failure.remedy for failure in answer.failures)


def test_a_broker_that_is_down_is_named_at_once(two_hosts: ServedApi) -> None:
    two_hosts.bell.broken = True
    began = time.monotonic()
    answer = containers(two_hosts, "alpha")
    assert time.monotonic() - began < 1
    assert [(failure.code, failure.host) for failure in answer.failures] == [("broker_unavailable", "alpha")]


def test_containers_of_no_host(two_hosts: ServedApi) -> None:
    status, failure = failure_of(lambda: containers(two_hosts, "nowhere"))
    assert (status, failure.kind, failure.code) == ("NOT_FOUND", "NotFound", "host_not_found")


# ---- checkpoints


def show(api: ServedApi, checkpoint_id: str) -> pb.GetCheckpointResponse:
    return api.catalogue.GetCheckpoint(pb.GetCheckpointRequest(id=checkpoint_id), timeout=CALL_S)


def export(api: ServedApi, checkpoint_id: str) -> bytes:
    request = pb.ExportCheckpointRequest(id=checkpoint_id)
    return b"".join(piece.chunk for piece in api.catalogue.ExportCheckpoint(request, timeout=CALL_S))


def test_checkpoints_are_listed_newest_first(api: ServedApi) -> None:
    api.keep_checkpoint("ck-1")
    kept = api.keep_checkpoint("ck-2", minutes=1)
    found = api.catalogue.ListCheckpoints(pb.ListCheckpointsRequest(), timeout=CALL_S).checkpoints
    assert [item.id for item in found] == ["ck-2", "ck-1"]
    assert (found[0].container, found[0].host, found[0].index_digest) == ("web", "alpha", kept.index_digest)
    assert found[0].size_bytes == kept.size_bytes


def test_a_checkpoint_shows_its_parts_and_its_origin(api: ServedApi) -> None:
    api.keep_checkpoint()
    answer = show(api, "ck-1")
    wanted = {part.annotations["io.migrator.role"]: part for part in Sample().parts}
    assert {part.role: (part.digest, part.size_bytes, part.media_type) for part in answer.parts} == {
        role: (part.digest, part.size_bytes, part.media_type) for role, part in wanted.items()
    }
    assert answer.facts == {"io.migrator.container": "demo"}
    assert answer.checkpoint.id == "ck-1"


def test_an_export_is_an_oci_archive(api: ServedApi) -> None:
    kept = api.keep_checkpoint()
    with tarfile.open(fileobj=io.BytesIO(export(api, "ck-1"))) as archive:
        names = archive.getnames()
        (top,) = json.load(archive.extractfile("index.json"))["manifests"]  # type: ignore[arg-type]
    assert top["digest"] == kept.index_digest
    assert {f"blobs/sha256/{digest[7:]}" for digest in Sample().blobs} < set(names)


@pytest.mark.parametrize("call", [show, export])
def test_a_checkpoint_that_is_not_there(api: ServedApi, call: object) -> None:
    status, failure = failure_of(lambda: call(api, "ck-none"))  # type: ignore[operator]
    assert (status, failure.kind, failure.code) == ("NOT_FOUND", "NotFound", "checkpoint_not_found")
    assert failure.remedy


def test_a_damaged_blob_ends_the_export_with_an_error(api: ServedApi) -> None:
    api.keep_checkpoint()
    api.objects.faults.corrupt = True
    status, failure = failure_of(lambda: export(api, "ck-1"))
    assert (status, failure.kind, failure.code) == ("DATA_LOSS", "IntegrityError", "digest_mismatch")


@pytest.mark.parametrize("call", [show, export])
def test_a_store_that_is_down(api: ServedApi, call: object) -> None:
    api.keep_checkpoint()
    api.objects.faults.unavailable = True
    status, failure = failure_of(lambda: call(api, "ck-1"))  # type: ignore[operator]
    assert (status, failure.kind, failure.code) == ("UNAVAILABLE", "Unavailable", "store_unavailable")


def test_an_export_that_nobody_reads_any_more_gives_its_place_back(
    api: ServedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert server.STREAMS == 32
    api.keep_checkpoint()
    for _ in range(server.STREAMS + 1):
        stream = api.catalogue.ExportCheckpoint(pb.ExportCheckpointRequest(id="ck-1"), timeout=CALL_S)
        next(stream)
        stream.cancel()  # type: ignore[attr-defined]
        time.sleep(0.01)
    assert export(api, "ck-1")
