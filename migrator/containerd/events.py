"""The daemon's event stream."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Self

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from migrator.containerd.channel import Caller
from migrator.containerd.faults import Subject, read_status, reraise
from migrator.containerd.values import moment, pack_message
from migrator.errors import InvalidRequest, MigratorError, Unavailable
from migrator.gen.containerd.events import container_pb2, task_pb2
from migrator.gen.containerd.services.events.v1 import events_pb2 as pb
from migrator.gen.containerd.services.events.v1.events_pb2_grpc import EventsStub
from migrator.gen.containerd.types import event_pb2

PROBE_TOPIC = "/migrator/subscribed"
PROBE_EVERY_S = 0.05

_KINDS: dict[str, type[Message]] = {
    kind.DESCRIPTOR.full_name: kind
    for kind in (
        task_pb2.TaskCreate,
        task_pb2.TaskStart,
        task_pb2.TaskExecAdded,
        task_pb2.TaskExecStarted,
        task_pb2.TaskPaused,
        task_pb2.TaskCheckpointed,
        task_pb2.TaskResumed,
        task_pb2.TaskOOM,
        task_pb2.TaskExit,
        task_pb2.TaskDelete,
        container_pb2.ContainerCreate,
        container_pb2.ContainerUpdate,
        container_pb2.ContainerDelete,
    )
}


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. `event` is the decoded message for tasks and containers, an `Any` for the rest."""

    topic: str
    namespace: str
    event: Message
    at: datetime | None = None

    @classmethod
    def from_wire(cls, wire: event_pb2.Envelope) -> Event:
        """Read containerd's form."""
        return cls(wire.topic, wire.namespace, decode(wire.event), moment(wire.timestamp))


def decode(packed: Any) -> Message:
    """Return the message inside if its kind is known, else the `Any` itself."""
    kind = _KINDS.get(packed.type_url.rsplit("/", 1)[-1])
    return kind.FromString(packed.value) if kind is not None else packed


class Events:
    """The event stream of the daemon, all namespaces."""

    def __init__(self, caller: Caller):
        self._caller = caller

    def publish(self, topic: str, event: Message) -> None:
        """Tell all subscribers something, in the client's namespace."""
        request = pb.PublishRequest(topic=topic, event=pack_message(event))
        subject = self._caller.subject("publish", "event", topic, changes=True)
        self._caller.unary(self._caller.stub(EventsStub).Publish, request, subject)

    def subscribe(self, *filters: str, timeout_s: float = 3600.0) -> Subscription:
        """Listen; what happens after this returns is not missed.

        Args:
            filters: Any of them lets an event through, such as `topic=="/tasks/exit"` or `namespace==default`;
                a value with a slash needs the quotes. None lets all through.
            timeout_s: The subscription ends by itself after this time.

        Raises:
            Unavailable: The daemon does not answer.
            InvalidRequest: `event_subscribe_to_failed`: a filter makes no sense.
        """
        return Subscription(self, self._caller, filters, timeout_s)


class Subscription:
    """An iterator over events. `close` ends it, also from another thread; so does leaving its `with` block."""

    def __init__(self, events: Events, caller: Caller, filters: tuple[str, ...], timeout_s: float):
        self._subject = Subject("subscribe to", "event", failure=InvalidRequest)  # the daemon has no status for it
        self._socket = caller.transport.socket
        self._closed = False
        self._probe = f"{PROBE_TOPIC}/{secrets.token_hex(8)}"
        through = (*filters, f'topic=="{self._probe}"') if filters else ()
        subscribe = caller.stub(EventsStub).Subscribe
        request = pb.SubscribeRequest(filters=through)
        self._answers = subscribe(request, timeout=timeout_s, metadata=caller.metadata)
        self._held: list[Event] = []
        self._problem: MigratorError | None = None
        self._await_probe(events, caller.timeout_s)

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        if self._held:
            return self._held.pop(0)
        while (event := self._next()).topic.startswith(PROBE_TOPIC):
            pass
        return event

    def close(self) -> None:
        """End the subscription; a waiting `next` stops."""
        self._closed = True
        self._answers.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _next(self) -> Event:
        try:
            return Event.from_wire(next(self._answers))
        except grpc.RpcError as error:
            if self._closed or read_status(error)[0] in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED):
                raise StopIteration from None
            reraise(error, self._subject, self._socket)

    def _await_probe(self, events: Events, timeout_s: float) -> None:
        """Containerd does not say when a subscription stands: publish a sign until it comes back."""
        seen = threading.Event()
        timer = threading.Timer(timeout_s, self._answers.cancel)
        timer.start()
        publisher = threading.Thread(target=self._publish_until, args=(events, seen), daemon=True)
        publisher.start()
        try:
            while (event := self._next()).topic != self._probe:
                if not event.topic.startswith(PROBE_TOPIC):
                    self._held.append(event)
        except StopIteration:
            if isinstance(self._problem, Unavailable):
                raise self._problem from None
            words = f"containerd on {self._socket} delivers no events"
            raise Unavailable(words, code="containerd_timeout") from self._problem
        finally:
            seen.set()
            timer.cancel()
            publisher.join()

    def _publish_until(self, events: Events, seen: threading.Event) -> None:
        try:
            while not seen.is_set():
                events.publish(self._probe, Empty())
                seen.wait(PROBE_EVERY_S)
        except MigratorError as problem:
            self._problem = problem
            self._answers.cancel()
