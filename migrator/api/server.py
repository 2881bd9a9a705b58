"""The gRPC server: always on a unix socket, on a TCP address only if the settings say so."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from migrator.api.servicers import CheckpointServicer, HostServicer, JobServicer, Streams
from migrator.errors import InvalidRequest
from migrator.gen.migrator.v1 import migrator_pb2
from migrator.gen.migrator.v1 import migrator_pb2_grpc as services
from migrator.service.control_plane import ControlPlane

THREADS = 48
STREAMS = 32
"""Watches and exports at once; the other threads stay free for short calls."""
SOCKET_MODE = 0o660
NAMES = tuple(service.full_name for service in migrator_pb2.DESCRIPTOR.services_by_name.values())


class ApiServer:
    """A server that is ready to start.

    Args:
        server: With all services added.
        socket: Its unix socket.
        listen: Its TCP address, if any.
    """

    def __init__(self, server: grpc.Server, socket: Path, listen: str | None):
        self._server = server
        self._socket = socket
        self._listen = listen

    def start(self) -> None:
        """Listen.

        Raises:
            InvalidRequest: `bad_configuration`, an address cannot be used.
        """
        self._socket.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        self._socket.unlink(missing_ok=True)  # what a killed server left
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
        except RuntimeError:
            bound = 0
        if not bound and not address.startswith("unix:"):
            raise InvalidRequest(
                f"cannot listen on {address}", code="bad_configuration", remedy=f"correct {setting}, or free the port"
            )


def build_server(plane: ControlPlane, socket: Path, listen: str | None) -> ApiServer:
    """Put the services together with health and reflection."""
    server = grpc.server(ThreadPoolExecutor(THREADS, thread_name_prefix="api"))
    streams = Streams(STREAMS)
    services.add_JobServiceServicer_to_server(JobServicer(plane, streams), server)
    services.add_HostServiceServicer_to_server(HostServicer(plane), server)
    services.add_CheckpointServiceServicer_to_server(CheckpointServicer(plane, streams), server)
    checks = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    for name in ("", *NAMES):
        checks.set(name, health_pb2.HealthCheckResponse.SERVING)
    reflection.enable_server_reflection((*NAMES, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    return ApiServer(server, socket, listen)
