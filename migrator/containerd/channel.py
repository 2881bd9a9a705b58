"""The connection to one daemon and the way every call is made: deadline, namespace, lease, errors."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar, cast

import grpc

from migrator.containerd.faults import Subject, reraise

Request = TypeVar("Request")
Response = TypeVar("Response")
Stub = TypeVar("Stub")

NAMESPACE_HEADER = "containerd-namespace"
LEASE_HEADER = "containerd-lease"
SLOW_FACTOR = 10
"""Calls that run programs or copy layers get this many times the usual deadline."""

_OPTIONS = [
    # Go's server refuses the percent-encoded socket path that gRPC would otherwise send as authority.
    ("grpc.default_authority", "localhost"),
    # containerd's own limit is 16 MiB.
    ("grpc.max_receive_message_length", 32 << 20),
    ("grpc.max_send_message_length", 16 << 20),
    # A daemon that comes back must be found at once, not after gRPC's two minutes of growing patience.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.enable_http_proxy", 0),
    # Or a forked child's new channel picks up the connection that its parent opened.
    ("grpc.use_local_subchannel_pool", 1),
]


class Transport:
    """A lazily opened channel to one socket. A forked child opens its own: gRPC channels do not survive a fork."""

    def __init__(self, socket: Path | str):
        self.socket = str(socket)
        self._opened: dict[int, tuple[grpc.Channel, dict[object, object]]] = {}

    def stub(self, kind: Callable[[grpc.Channel], Stub]) -> Stub:
        """Return this process's stub of that service."""
        channel, stubs = self._channel()
        if kind not in stubs:
            stubs[kind] = kind(channel)
        return cast(Stub, stubs[kind])

    def close(self) -> None:
        """Close this process's channel; the next call opens another."""
        opened = self._opened.pop(os.getpid(), None)
        if opened is not None:
            opened[0].close()

    def _channel(self) -> tuple[grpc.Channel, dict[object, object]]:
        pid = os.getpid()
        found = self._opened.get(pid)
        if found is None:
            channel = grpc.insecure_channel(f"unix:{self.socket}", options=_OPTIONS)
            found = self._opened.setdefault(pid, (channel, {}))
        return found


@dataclass(frozen=True, slots=True)
class Caller:
    """Makes calls in one namespace, under at most one lease."""

    transport: Transport
    namespace: str
    timeout_s: float
    lease: str | None = None
    metadata: tuple[tuple[str, str], ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        leased = ((LEASE_HEADER, self.lease),) if self.lease else ()
        object.__setattr__(self, "metadata", ((NAMESPACE_HEADER, self.namespace), *leased))

    @property
    def slow_timeout_s(self) -> float:
        """Deadline of calls that run programs or copy layers."""
        return self.timeout_s * SLOW_FACTOR

    def under(self, lease: str | None) -> Caller:
        """The same, under another lease."""
        return replace(self, lease=lease)

    def stub(self, kind: Callable[[grpc.Channel], Stub]) -> Stub:
        """Return this process's stub of that service."""
        return self.transport.stub(kind)

    def subject(self, act: str, kind: str, name: str = "", *, changes: bool = False) -> Subject:
        """Name what a call is about."""
        return Subject(act, kind, name, self.namespace, changes)

    def unary(
        self,
        method: grpc.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        subject: Subject,
        *,
        timeout_s: float | None = None,
    ) -> Response:
        """Make one call.

        Raises:
            MigratorError: What `faults.translate` makes of the answer.
        """
        try:
            return method(request, timeout=timeout_s or self.timeout_s, metadata=self.metadata)
        except grpc.RpcError as error:
            reraise(error, subject, self.transport.socket)

    def stream(
        self,
        method: grpc.UnaryStreamMultiCallable[Request, Response],
        request: Request,
        subject: Subject,
        *,
        timeout_s: float | None = None,
    ) -> Iterator[Response]:
        """Iterate over the answers of one call; leaving the iteration early cancels it.

        Raises:
            MigratorError: What `faults.translate` makes of the answer, from any step of the iteration.
        """
        answers = method(request, timeout=timeout_s or self.timeout_s, metadata=self.metadata)
        try:
            yield from answers
        except grpc.RpcError as error:
            reraise(error, subject, self.transport.socket)
        finally:
            answers.cancel()
