"""Words about single checkpoints: read the message, ask the control plane, write the message."""

from __future__ import annotations

import grpc

from migrator.api.faults import told_to
from migrator.gen.migrator.v1 import retention_pb2 as pb
from migrator.gen.migrator.v1 import retention_pb2_grpc as services
from migrator.service.control_plane import ControlPlane


class RetentionServicer(services.RetentionServiceServicer):
    """Pins."""

    def __init__(self, plane: ControlPlane):
        self._plane = plane

    def PinCheckpoint(  # noqa: N802
        self, request: pb.PinCheckpointRequest, context: grpc.ServicerContext
    ) -> pb.PinCheckpointResponse:
        """See the proto."""
        with told_to(context):
            self._plane.pin_checkpoint(request.id, request.reason)
            return pb.PinCheckpointResponse()
        raise AssertionError

    def UnpinCheckpoint(  # noqa: N802
        self, request: pb.UnpinCheckpointRequest, context: grpc.ServicerContext
    ) -> pb.UnpinCheckpointResponse:
        """See the proto."""
        with told_to(context):
            self._plane.unpin_checkpoint(request.id)
            return pb.UnpinCheckpointResponse()
        raise AssertionError
