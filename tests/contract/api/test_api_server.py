"""The server itself: health, reflection, its addresses, and what a crash inside it looks like from outside."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from structlog.testing import capture_logs

from migrator.api.server import build_server
from migrator.errors import AlreadyExists, InvalidRequest
from migrator.gen.migrator.v1 import migrator_pb2 as pb
from tests.servers.api import CALL_S, ServedApi, failure_of

PROTOS = Path(__file__).parents[3] / "protos" / "migrator" / "v1"
TEXTS = [file.read_text() for file in sorted(PROTOS.glob("*.proto"))]
SERVICES = tuple(f"migrator.v1.{name}" for text in TEXTS for name in re.findall(r"^service (\w+)", text, re.MULTILINE))
"""All that are described: one that nobody serves is forgotten."""


@pytest.mark.parametrize("name", ["", *SERVICES])
def test_health(api: ServedApi, name: str) -> None:
    stub = health_pb2_grpc.HealthStub(api.channel)
    answer = stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=CALL_S)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_reflection_lists_the_services(api: ServedApi) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(api.channel)
    asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
    (answer,) = stub.ServerReflectionInfo(asked, timeout=CALL_S)
    listed = {service.name for service in answer.list_services_response.service}
    assert listed == {*SERVICES, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}


@pytest.mark.parametrize("call", ["GetJob", "WatchJob"])
def test_a_crash_is_told_without_a_stack_trace_and_logged(
    api: ServedApi, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def crash(_: str) -> None:
        raise RuntimeError("password=hunter2")

    monkeypatch.setattr(api.plane, "get_job", crash)
    with capture_logs() as logs:
        status, failure = failure_of(
            lambda: list(getattr(api.jobs, call)(getattr(pb, f"{call}Request")(id="mig-1"), timeout=CALL_S))
        )
    assert (status, failure.kind, failure.code) == ("INTERNAL", "InternalError", "internal")
    assert failure.message == "the server crashed: RuntimeError"
    assert failure.remedy == "see the server's log"
    assert "hunter2" not in str(failure)
    assert [(entry["event"], entry["log_level"], entry["exc_info"]) for entry in logs] == [
        ("the API crashed", "error", True)
    ]


def test_the_socket_is_for_owner_and_group_only(api: ServedApi) -> None:
    assert api.socket.stat().st_mode & 0o777 == 0o660


def test_a_socket_that_a_killed_server_left_is_replaced(api: ServedApi, tmp_path: Path) -> None:
    left = tmp_path / "left.sock"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(left))
    server = build_server(api.plane, api.desk, left, None)
    server.start()
    server.stop(0)


def test_a_second_server_does_not_take_the_socket_of_a_living_one(api: ServedApi) -> None:
    with pytest.raises(AlreadyExists) as caught:
        build_server(api.plane, api.desk, api.socket, None).start()
    assert caught.value.code == "server_runs"
    assert str(api.socket) in caught.value.message
    api.hosts.ListHosts(pb.ListHostsRequest(), timeout=CALL_S)


def test_a_tcp_address(api: ServedApi, tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    server = build_server(api.plane, api.desk, tmp_path / "tcp.sock", address)
    server.start()
    try:
        with grpc.insecure_channel(address) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            assert stub.Check(health_pb2.HealthCheckRequest(), timeout=CALL_S).status
        with pytest.raises(InvalidRequest) as caught:
            build_server(api.plane, api.desk, tmp_path / "second.sock", address).start()
    finally:
        server.stop(0)
    assert caught.value.code == "bad_configuration"
    assert address in caught.value.message
    assert "MIGRATOR_API_LISTEN" in str(caught.value.remedy)


@pytest.mark.parametrize("address", ["nonsense", "192.0.2.1:80"])
def test_an_address_that_cannot_be_used(api: ServedApi, tmp_path: Path, address: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        build_server(api.plane, api.desk, tmp_path / "bad.sock", address).start()
    assert address in caught.value.message


def test_a_socket_path_that_is_too_long(api: ServedApi, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest) as caught:
        build_server(api.plane, api.desk, tmp_path / ("s" * 120), None).start()
    assert "MIGRATOR_API_SOCKET" in str(caught.value.remedy)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
