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
MESSAGE_SIGNS, REMEDY_SIGNS, DETAIL_SIGNS = 800, 400, 100
"""All trailing metadata together must stay below 8 KiB, or gRPC drops them and the caller learns nothing."""
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
    told = error.to_dict()
    told |= {"message": _cut(error.message, MESSAGE_SIGNS), "remedy": _cut(error.remedy or "", REMEDY_SIGNS)}
    failure = failure_message(told)
    data: Any = failure.SerializeToString() if failure else b""
    context.set_trailing_metadata(((FAILURE_KEY, data),))
    context.abort(grpc.StatusCode[error.grpc_status], _cut(str(error), DETAIL_SIGNS))


def _cut(text: str, signs: int) -> str:
    return text if len(text) <= signs else text[: signs - 1] + "…"
