"""The border: our errors become gRPC status and a Failure in the trailing metadata; nobody sees a stack trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import structlog

from migrator.api.messages import failure_message
from migrator.errors import InternalError, MigratorError

FAILURE_KEY = "migrator-error-bin"
log = structlog.get_logger()


@contextmanager
def told_to(context: grpc.ServicerContext) -> Iterator[None]:
    """Tell the caller what went wrong inside the block."""
    try:
        yield
    except MigratorError as error:
        _abort(context, error)
    except Exception as error:
        if not context.is_active():  # `abort` and a caller who left both end here
            raise
        log.exception("the API crashed")
        crash = InternalError(f"the server crashed: {type(error).__name__}", remedy="see the server's log")
        _abort(context, crash)


def _abort(context: grpc.ServicerContext, error: MigratorError) -> None:
    failure = failure_message(error.to_dict())
    data: Any = failure.SerializeToString() if failure else b""
    context.set_trailing_metadata(((FAILURE_KEY, data),))
    context.abort(grpc.StatusCode[error.grpc_status], str(error))
