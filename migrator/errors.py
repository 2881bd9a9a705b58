"""Every exception the project raises, and what each one means to a caller.

    MigratorError
    ├── TransientError            try again after `delay_s`
    │   ├── Unavailable           a server, host, store, broker or database does not answer
    │   └── ResourceBusy          someone else works on the same thing right now
    ├── PermanentError            trying again changes nothing
    │   ├── InvalidRequest        the words of the request make no sense
    │   ├── NotFound              the named thing does not exist
    │   ├── AlreadyExists         the name is taken
    │   ├── PreconditionFailed    the thing is not in the state the request needs
    │   ├── PermissionDenied      credentials or rights are missing
    │   ├── ResourceExhausted     no room: disk, memory, quota
    │   ├── WorkloadFailed        CRIU or the runtime could not checkpoint or restore this program
    │   ├── IntegrityError        bytes are not what their digest says
    │   ├── Cancelled             somebody asked for it
    │   └── InternalError         a bug of ours
    └── OutcomeUnknown            sent, no answer: observe before anything else

A leaf is chosen by its *code*, a stable lower-case word pair such as `container_not_found`. Every kind has a gRPC
status name and a process exit code, so the API, the CLI and the logs agree. Library exceptions stop at their adapter
and are chained (`raise ... from error`).
"""

from __future__ import annotations

from typing import Any, ClassVar, Self


class MigratorError(Exception):
    """Root of all errors; carries what failed, where, and what to do next.

    Args:
        message: What failed, naming the thing (container, checkpoint, job, …). One sentence, no full stop.
        code: Stable identifier of this failure, e.g. `container_not_found`; the kind's own code when omitted.
        host: The host on which it failed, if it failed on one.
        remedy: What the reader can do next. One sentence.
    """

    default_code: ClassVar[str] = "internal"
    grpc_status: ClassVar[str] = "INTERNAL"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, code: str | None = None, host: str | None = None, remedy: str | None = None):
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.host = host
        self.remedy = remedy

    def __str__(self) -> str:
        place = f" (host {self.host})" if self.host else ""
        return f"{self.message}{place}"

    def on(self, host: str) -> Self:
        """Name the host on which this failed, unless it is already named."""
        self.host = self.host or host
        return self

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form that travels in messages and rows."""
        return {
            "kind": type(self).__name__,
            "code": self.code,
            "message": self.message,
            "host": self.host,
            "remedy": self.remedy,
        }

    @staticmethod
    def from_dict(data: dict[str, Any]) -> MigratorError:
        """Rebuild the error that `to_dict` wrote; an unknown kind becomes `InternalError`."""
        kind = KINDS.get(str(data.get("kind")), InternalError)
        return kind(
            str(data.get("message", "unknown failure")),
            code=data.get("code"),
            host=data.get("host"),
            remedy=data.get("remedy"),
        )


class TransientError(MigratorError):
    """The same request may succeed later."""

    default_code = "transient"
    grpc_status = "UNAVAILABLE"
    exit_code = 6
    delay_s: ClassVar[float] = 1.0


class Unavailable(TransientError):
    """Something we depend on does not answer."""

    default_code = "unavailable"


class ResourceBusy(TransientError):
    """Someone else works on the same thing right now."""

    default_code = "busy"
    grpc_status = "ABORTED"
    exit_code = 4


class PermanentError(MigratorError):
    """Trying again changes nothing."""


class InvalidRequest(PermanentError):
    """The request, an argument or a setting makes no sense."""

    default_code = "invalid_request"
    grpc_status = "INVALID_ARGUMENT"
    exit_code = 2


class NotFound(PermanentError):
    """The named thing does not exist."""

    default_code = "not_found"
    grpc_status = "NOT_FOUND"
    exit_code = 3


class AlreadyExists(PermanentError):
    """The name is taken."""

    default_code = "already_exists"
    grpc_status = "ALREADY_EXISTS"
    exit_code = 4


class PreconditionFailed(PermanentError):
    """The thing exists but is not in the state that the request needs."""

    default_code = "precondition_failed"
    grpc_status = "FAILED_PRECONDITION"
    exit_code = 5


class PermissionDenied(PermanentError):
    """Credentials or rights are missing."""

    default_code = "permission_denied"
    grpc_status = "PERMISSION_DENIED"
    exit_code = 7


class ResourceExhausted(PermanentError):
    """There is no room: disk, memory or a quota."""

    default_code = "resource_exhausted"
    grpc_status = "RESOURCE_EXHAUSTED"
    exit_code = 8


class WorkloadFailed(PermanentError):
    """CRIU or the runtime could not checkpoint or restore this program."""

    default_code = "workload_failed"
    grpc_status = "INTERNAL"
    exit_code = 9


class IntegrityError(PermanentError):
    """Bytes are not what their digest or format says."""

    default_code = "integrity"
    grpc_status = "DATA_LOSS"
    exit_code = 10


class Cancelled(PermanentError):
    """Somebody asked for it to stop."""

    default_code = "cancelled"
    grpc_status = "CANCELLED"
    exit_code = 11


class InternalError(PermanentError):
    """A bug of ours, or an answer nobody foresaw."""


class OutcomeUnknown(MigratorError):
    """A request was sent and no answer came: it may or may not have happened."""

    default_code = "outcome_unknown"
    grpc_status = "UNKNOWN"
    exit_code = 12


def _leaves(kind: type[MigratorError]) -> dict[str, type[MigratorError]]:
    found = {kind.__name__: kind}
    for child in kind.__subclasses__():
        found |= _leaves(child)
    return found


KINDS: dict[str, type[MigratorError]] = _leaves(MigratorError)
