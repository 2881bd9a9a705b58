"""The one place where an answer of containerd becomes an error of ours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

import grpc

from migrator.errors import (
    AlreadyExists,
    IntegrityError,
    InternalError,
    InvalidRequest,
    MigratorError,
    NotFound,
    OutcomeUnknown,
    PermanentError,
    PermissionDenied,
    PreconditionFailed,
    ResourceBusy,
    ResourceExhausted,
    Unavailable,
)

_NEVER_SENT = ("failed to connect", "connection refused", "no such file or directory", "name resolution")
"""What gRPC says when not one byte of the request left this process."""
_GO_WORDS = {
    "context deadline exceeded": grpc.StatusCode.DEADLINE_EXCEEDED,
    "context canceled": grpc.StatusCode.CANCELLED,
}


@dataclass(frozen=True, slots=True)
class Subject:
    """What a call is about; becomes the words and the code of its errors.

    Args:
        act: The verb of the message: `pause`, `delete`, ….
        kind: The noun of the code: `container` gives `container_not_found`.
        name: Which one.
        namespace: containerd's namespace in which it was looked for.
        changes: Whether the call changes anything: a lost answer then means that nobody knows.
        failure: The kind raised when the runtime itself reports a failure (gRPC's UNKNOWN).
    """

    act: str
    kind: str
    name: str = ""
    namespace: str = ""
    changes: bool = False
    failure: type[PermanentError] = InternalError

    def __str__(self) -> str:
        where = f" in namespace {self.namespace}" if self.namespace else ""
        return f"{self.kind} {self.name}{where}" if self.name else f"{self.kind}{where}"


_KINDS: dict[grpc.StatusCode, tuple[type[MigratorError], str]] = {
    grpc.StatusCode.NOT_FOUND: (NotFound, "{kind}_not_found"),
    grpc.StatusCode.ALREADY_EXISTS: (AlreadyExists, "{kind}_already_exists"),
    grpc.StatusCode.FAILED_PRECONDITION: (PreconditionFailed, "{kind}_precondition_failed"),
    grpc.StatusCode.INVALID_ARGUMENT: (InvalidRequest, "{kind}_invalid"),
    grpc.StatusCode.OUT_OF_RANGE: (InvalidRequest, "{kind}_invalid"),
    grpc.StatusCode.PERMISSION_DENIED: (PermissionDenied, "containerd_permission_denied"),
    grpc.StatusCode.UNAUTHENTICATED: (PermissionDenied, "containerd_permission_denied"),
    grpc.StatusCode.RESOURCE_EXHAUSTED: (ResourceExhausted, "containerd_resource_exhausted"),
    grpc.StatusCode.ABORTED: (ResourceBusy, "{kind}_busy"),
    grpc.StatusCode.DATA_LOSS: (IntegrityError, "{kind}_damaged"),
    grpc.StatusCode.UNIMPLEMENTED: (PreconditionFailed, "containerd_unsupported"),
}


def translate(error: grpc.RpcError, subject: Subject, socket: str) -> MigratorError:
    """Return our error for a failed call; the caller chains it."""
    status, details = read_status(error)
    words = f"cannot {subject.act} {subject}: {details or status.name.lower()}"
    if status in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED):
        return _no_answer(status, details, subject, socket, words)
    if "no space left on device" in details:
        return ResourceExhausted(words, code="disk_full", remedy="free disk space below containerd's root directory")
    if status not in _KINDS:
        return subject.failure(words, code=f"{subject.kind}_{subject.act}_failed".replace(" ", "_"))
    kind, code = _KINDS[status]
    noun = _missing_noun(details, subject.kind) if status is grpc.StatusCode.NOT_FOUND else subject.kind
    return kind(words, code=code.format(kind=noun))


def reraise(error: grpc.RpcError, subject: Subject, socket: str) -> NoReturn:
    """Raise our error for a failed call, chained.

    Raises:
        MigratorError: Always.
    """
    raise translate(error, subject, socket) from error


def read_status(error: grpc.RpcError) -> tuple[grpc.StatusCode, str]:
    """Return a failed call's status and words.

    The deadline travels with the call: when the daemon notices it first, it answers in Go's words, with no fitting
    status.
    """
    code, words = getattr(error, "code", None), getattr(error, "details", None)  # the declared base class has neither
    if code is None or words is None:
        return grpc.StatusCode.UNKNOWN, str(error)
    status, details = code(), words() or ""
    if status is grpc.StatusCode.UNKNOWN:
        status = next((real for end, real in _GO_WORDS.items() if details.endswith(end)), status)
    return status, details


def _missing_noun(details: str, kind: str) -> str:
    """A call on a task says NOT_FOUND for the container, the task or the process: its words tell which."""
    text = details.lower()
    if kind in ("task", "process") and text.startswith('container "'):
        return "container"
    if kind == "process" and text.startswith("task "):
        return "task"
    return kind


def _no_answer(
    status: grpc.StatusCode, details: str, subject: Subject, socket: str, words: str
) -> OutcomeUnknown | Unavailable | ResourceBusy:
    text = details.lower()
    if "locked" in text:
        return ResourceBusy(words, code=f"{subject.kind}_locked", remedy="wait until the other writer ends")
    if status is grpc.StatusCode.UNAVAILABLE and any(sign in text for sign in _NEVER_SENT):
        return Unavailable(
            f"containerd does not answer on {socket}: {details}",
            code="containerd_unavailable",
            remedy="start containerd, or set MIGRATOR_CONTAINERD_SOCKET to its socket",
        )
    if subject.changes:
        return OutcomeUnknown(
            f"containerd gave no answer to {subject.act} {subject}: {details}",
            code="containerd_no_answer",
            remedy=f"look at {subject} before trying again: it may have happened",
        )
    # When the daemon sees the deadline first it may also just drop the stream, which reads as cancelled.
    slow = status in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)
    return Unavailable(
        f"containerd gave no answer on {socket} to {subject.act} {subject}: {details}",
        code="containerd_timeout" if slow else "containerd_unavailable",
        remedy="see whether containerd or the shim hangs" if slow else "see whether containerd runs",
    )
