"""The way to the API: find it, call it, and turn its failures back into our errors."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc

from migrator.errors import InvalidRequest, MigratorError, OutcomeUnknown, Unavailable
from migrator.gen.migrator.v1 import inspection_pb2_grpc, retention_pb2_grpc, schedules_pb2, schedules_pb2_grpc
from migrator.gen.migrator.v1 import migrator_pb2 as pb
from migrator.gen.migrator.v1 import migrator_pb2_grpc as services
from migrator.gen.migrator.v1 import reports_pb2_grpc as report_services
from migrator.settings import DEFAULT_API_SOCKET, LAB_RUN_DIR, load_settings

CALL_S = 15.0
"""An ordinary call that takes longer is not answered."""
FIX_S = 90.0
"""Hosts that tidy up wait for containerd's garbage collector."""
ANSWER_BYTES = 64 << 20
"""A thousand jobs with all their steps are some megabytes."""
FAILURE_KEY = "migrator-error-bin"


class Api:
    """The API's services.

    Args:
        address: `unix:///path` or `host:port`.
    """

    def __init__(self, address: str):
        self.address = address
        self._channel = grpc.insecure_channel(address, options=(("grpc.max_receive_message_length", ANSWER_BYTES),))
        self.jobs = services.JobServiceStub(self._channel)
        self.hosts = services.HostServiceStub(self._channel)
        self.checkpoints = services.CheckpointServiceStub(self._channel)
        self.reports = report_services.ReportServiceStub(self._channel)
        self.inspection = inspection_pb2_grpc.InspectionServiceStub(self._channel)
        self.retention = retention_pb2_grpc.RetentionServiceStub(self._channel)
        self.schedules = schedules_pb2_grpc.ScheduleServiceStub(self._channel)
        self.schedule_messages: Any = schedules_pb2

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()


@contextmanager
def connected(address: str | None) -> Iterator[Api]:
    """Give a connection; errors inside the block become ours.

    Raises:
        Unavailable: `api_unavailable`, nobody answers there.
    """
    api = Api(find_api(address))
    try:
        yield api
    except grpc.RpcError as error:
        raise _translate(error, api.address) from error
    finally:
        api.close()


def find_api(address: str | None) -> str:
    """Say where the API is: as told, the local socket, the lab that MIGRATOR_LAB names, or the one running lab.

    Raises:
        Unavailable: `api_not_found`, there is no server on this machine and none was named.
        InvalidRequest: `several_labs`, more than one lab runs and none is called `lab`.
    """
    named = address or load_settings().api
    if named:
        return named
    if DEFAULT_API_SOCKET.exists():
        return f"unix://{DEFAULT_API_SOCKET}"
    labs = {path.parent.parent.name: path for path in sorted(Path(LAB_RUN_DIR).glob("*/api/api.sock"))}
    if (lab := os.environ.get("MIGRATOR_LAB")) and lab in labs:
        return f"unix://{labs[lab]}"
    if "lab" in labs or len(labs) == 1:
        return f"unix://{labs.get('lab') or next(iter(labs.values()))}"
    if labs:
        raise InvalidRequest(
            f"several labs run ({', '.join(labs)})",
            code="several_labs",
            remedy=f"name one: MIGRATOR_LAB={next(iter(labs))}, or --api unix://{next(iter(labs.values()))}",
        )
    raise Unavailable(
        "there is no migrator server on this machine",
        code="api_not_found",
        remedy="start one (`migrator server`, or `make lab-up` to try), or name one with --api or MIGRATOR_API",
    )


def _translate(error: grpc.RpcError, address: str) -> MigratorError:
    call: Any = error  # every error of a call is the call itself; the types do not say so
    trailing: dict[str, Any] = dict(call.trailing_metadata() or ())
    data = trailing.get(FAILURE_KEY)
    if isinstance(data, bytes):
        failure = pb.Failure.FromString(data)
        names = ("kind", "code", "message", "host", "remedy")
        return MigratorError.from_dict({name: getattr(failure, name) or None for name in names})
    detail = call.details() or str(error)
    if call.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return OutcomeUnknown(
            f"the server at {address} did not answer in time",
            code="api_silent",
            remedy="look with `migrator jobs list` before you try again",
        )
    return Unavailable(
        f"the server at {address} does not answer ({detail.splitlines()[0][:200]})",
        code="api_unavailable",
        remedy="see that `migrator server` runs there and that --api or MIGRATOR_API is right",
    )
