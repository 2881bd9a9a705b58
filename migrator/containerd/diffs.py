"""Layers to and from mounted file systems."""

from __future__ import annotations

from collections.abc import Sequence

from migrator.containerd.channel import Caller
from migrator.containerd.mediatypes import LAYER_TAR
from migrator.containerd.values import Labels, Mount, descriptor_from_wire, descriptor_to_wire
from migrator.gen.containerd.services.diff.v1 import diff_pb2 as pb
from migrator.gen.containerd.services.diff.v1.diff_pb2_grpc import DiffStub
from migrator.models.descriptors import Descriptor


class Diffs:
    """Makes and applies layers; both copy files, so they get the long deadline unless told otherwise."""

    def __init__(self, caller: Caller):
        self._caller = caller

    def create(
        self,
        left: Sequence[Mount],
        right: Sequence[Mount],
        *,
        ref: str,
        media_type: str = LAYER_TAR,
        labels: Labels | None = None,
        timeout_s: float | None = None,
    ) -> Descriptor:
        """Write what turns `left` into `right` to the content store and return its descriptor.

        Args:
            left: How to mount the lower side.
            right: How to mount the upper side.
            ref: Name of the ingest; must be in no other use.
            media_type: `LAYER_TAR`, or `LAYER_GZIP`, which costs far more time than it saves on a local network.
            labels: Labels of the new content; the same layer that was there before keeps its own.
            timeout_s: Deadline.
        """
        request = pb.DiffRequest(
            left=[mount.to_wire() for mount in left],
            right=[mount.to_wire() for mount in right],
            media_type=media_type,
            ref=ref,
            labels=labels or {},
        )
        subject = self._caller.subject("diff", "snapshot", ref, changes=True)
        timeout_s = timeout_s or self._caller.slow_timeout_s
        return descriptor_from_wire(self._caller.unary(self._stub.Diff, request, subject, timeout_s=timeout_s).diff)

    def apply(
        self, layer: Descriptor, mounts: Sequence[Mount], *, sync_fs: bool = False, timeout_s: float | None = None
    ) -> Descriptor:
        """Unpack a layer from the content store over a mounted snapshot.

        Returns:
            The layer's uncompressed form; its digest is the layer's diff id.
        """
        wires = [mount.to_wire() for mount in mounts]
        request = pb.ApplyRequest(diff=descriptor_to_wire(layer), mounts=wires, sync_fs=sync_fs)
        subject = self._caller.subject("apply", "layer", layer.digest, changes=True)
        timeout_s = timeout_s or self._caller.slow_timeout_s
        return descriptor_from_wire(self._caller.unary(self._stub.Apply, request, subject, timeout_s=timeout_s).applied)

    @property
    def _stub(self) -> DiffStub:
        return self._caller.stub(DiffStub)
