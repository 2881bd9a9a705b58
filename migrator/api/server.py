"""The gRPC server: always on a unix socket, on a TCP address only if the settings say so."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from migrator.api.inspection import InspectionServicer
from migrator.api.reports import ReportServicer
from migrator.api.retention_servicer import RetentionServicer
from migrator.api.schedules import ScheduleServicer
from migrator.api.servicers import CheckpointServicer, HostServicer, JobServicer, Streams
from migrator.errors import AlreadyExists, InvalidRequest
from migrator.gen.migrator.v1 import (
    inspection_pb2,
    inspection_pb2_grpc,
    migrator_pb2,
    reports_pb2,
    reports_pb2_grpc,
    retention_pb2,
    retention_pb2_grpc,
    schedules_pb2,
)
from migrator.gen.migrator.v1 import migrator_pb2_grpc as services
from migrator.gen.migrator.v1 import schedules_pb2_grpc as schedule_services
from migrator.service.control_plane import ControlPlane
from migrator.service.schedules.desk import ScheduleDesk

THREADS = 48
STREAMS = 32
"""Watches and exports at once; the other threads stay free for short calls."""
SOCKET_MODE = 0o660
FILES = (migrator_pb2, reports_pb2, retention_pb2, schedules_pb2, inspection_pb2)
NAMES = tuple(service.full_name for file in FILES for service in file.DESCRIPTOR.services_by_name.values())


class ApiServer:
    """A server that is ready to start.

    Args:
        server: With all services added.
        path: Its unix socket.
        listen: Its TCP address, if any.
    """

    def __init__(self, server: grpc.Server, path: Path, listen: str | None):
        self._server = server
        self._socket = path
        self._listen = listen

    def start(self) -> None:
        """Listen.

        Raises:
            InvalidRequest: `bad_configuration`, an address cannot be used.
            AlreadyExists: `server_runs`, another server answers on the socket.
        """
        try:
            self._socket.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
            _clear(self._socket)
        except OSError as error:
            raise _unusable(str(self._socket), "MIGRATOR_API_SOCKET") from error
        self._bind(f"unix://{self._socket}", "MIGRATOR_API_SOCKET")
        if self._listen:
            self._bind(self._listen, "MIGRATOR_API_LISTEN")
        self._server.start()
        self._socket.chmod(SOCKET_MODE)

    def stop(self, grace_s: float) -> None:
        """Stop; calls under way get so much time."""
        self._server.stop(grace_s).wait(grace_s + 1)
        self._socket.unlink(missing_ok=True)

    def _bind(self, address: str, setting: str) -> None:
        try:
            bound = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise _unusable(address, setting) from error
        if not bound:
            raise _unusable(address, setting)


def _clear(path: Path) -> None:
    """Remove the socket that a killed server left; a living one is left alone."""
    with socket.socket(socket.AF_UNIX) as probe, suppress(FileNotFoundError, ConnectionRefusedError):
        probe.connect(str(path))
        raise AlreadyExists(
            f"a server answers on {path} already", code="server_runs", remedy="stop it, or set MIGRATOR_API_SOCKET"
        )
    path.unlink(missing_ok=True)


def _unusable(address: str, setting: str) -> InvalidRequest:
    return InvalidRequest(
        f"cannot listen on {address}", code="bad_configuration", remedy=f"correct {setting}, or free the address"
    )


def build_server(plane: ControlPlane, desk: ScheduleDesk, path: Path, listen: str | None) -> ApiServer:
    """Put the services together with health and reflection."""
    # Otherwise a second server on the same TCP address would get half of the calls.
    options = (("grpc.so_reuseport", 0),)
    server = grpc.server(ThreadPoolExecutor(THREADS, thread_name_prefix="api"), options=options)
    streams = Streams(STREAMS)
    services.add_JobServiceServicer_to_server(JobServicer(plane, streams), server)
    services.add_HostServiceServicer_to_server(HostServicer(plane), server)
    services.add_CheckpointServiceServicer_to_server(CheckpointServicer(plane, streams), server)
    reports_pb2_grpc.add_ReportServiceServicer_to_server(ReportServicer(plane), server)
    inspection_pb2_grpc.add_InspectionServiceServicer_to_server(InspectionServicer(plane.looker, streams), server)
    retention_pb2_grpc.add_RetentionServiceServicer_to_server(RetentionServicer(plane), server)
    schedule_services.add_ScheduleServiceServicer_to_server(ScheduleServicer(desk), server)
    checks = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    for name in ("", *NAMES):
        checks.set(name, health_pb2.HealthCheckResponse.SERVING)
    reflection.enable_server_reflection((*NAMES, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    return ApiServer(server, path, listen)
