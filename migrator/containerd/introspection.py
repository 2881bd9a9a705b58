"""What the daemon is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from google.protobuf.empty_pb2 import Empty

from migrator.containerd.channel import Caller
from migrator.gen.containerd.services.introspection.v1 import introspection_pb2 as pb
from migrator.gen.containerd.services.introspection.v1.introspection_pb2_grpc import IntrospectionStub
from migrator.gen.containerd.services.version.v1.version_pb2_grpc import VersionStub


@dataclass(frozen=True, slots=True)
class Version:
    """Which daemon answers."""

    version: str
    revision: str


@dataclass(frozen=True, slots=True)
class Plugin:
    """One part of the daemon; `problem` says why it is not there, and is empty when it is."""

    type: str
    id: str
    capabilities: tuple[str, ...] = ()
    exports: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Server:
    """The daemon's process; `pid` as it counts itself in its own PID namespace, `pidns` that one's inode."""

    uuid: str
    pid: int
    pidns: int
    warnings: tuple[str, ...] = ()


class Introspection:
    """Questions about the daemon itself."""

    def __init__(self, caller: Caller):
        self._caller = caller

    def version(self) -> Version:
        """Return the daemon's version.

        Raises:
            Unavailable: `containerd_unavailable`: nobody answers on the socket.
        """
        stub = self._caller.stub(VersionStub)
        answer = self._caller.unary(stub.Version, Empty(), self._caller.subject("ask", "version"))
        return Version(answer.version, answer.revision)

    def plugins(self, *filters: str) -> list[Plugin]:
        """Return the plugins that match any filter, such as `type==io.containerd.snapshotter.v1`; without one, all."""
        stub = self._caller.stub(IntrospectionStub)
        subject = self._caller.subject("list", "plugin")
        answer = self._caller.unary(stub.Plugins, pb.PluginsRequest(filters=filters), subject)
        return [
            Plugin(found.type, found.id, tuple(found.capabilities), dict(found.exports), found.init_err.message)
            for found in answer.plugins
        ]

    def server(self) -> Server:
        """Return the daemon's identity and process."""
        stub = self._caller.stub(IntrospectionStub)
        answer = self._caller.unary(stub.Server, Empty(), self._caller.subject("ask", "server"))
        warnings = tuple(f"{warning.id}: {warning.message}" for warning in answer.deprecations)
        return Server(answer.uuid, answer.pid, answer.pidns, warnings)
