"""Layers of file systems."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from google.protobuf.field_mask_pb2 import FieldMask

from migrator.containerd.channel import Caller
from migrator.containerd.faults import Subject
from migrator.containerd.values import Labels, Mount, moment
from migrator.gen.containerd.services.snapshots.v1 import snapshots_pb2 as pb
from migrator.gen.containerd.services.snapshots.v1.snapshots_pb2_grpc import SnapshotsStub
from migrator.gen.containerd.types import mount_pb2


class SnapshotKind(StrEnum):
    """Views are read-only, active snapshots writable, committed ones can be parents."""

    UNKNOWN = "unknown"
    VIEW = "view"
    ACTIVE = "active"
    COMMITTED = "committed"


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """What is known about one snapshot."""

    name: str
    parent: str
    kind: SnapshotKind
    labels: Labels = field(default_factory=dict)
    created_at: datetime | None = None
    updated_at: datetime | None = None

    @classmethod
    def from_wire(cls, wire: pb.Info) -> SnapshotInfo:
        """Read containerd's form."""
        kind = SnapshotKind(pb.Kind.Name(wire.kind).lower())
        return cls(wire.name, wire.parent, kind, dict(wire.labels), moment(wire.created_at), moment(wire.updated_at))


@dataclass(frozen=True, slots=True)
class SnapshotUsage:
    """What one snapshot takes on disk, without its parents."""

    size_bytes: int
    inodes: int


class Snapshots:
    """One snapshotter's snapshots. Errors carry codes such as `snapshot_not_found`."""

    def __init__(self, caller: Caller, snapshotter: str):
        self._caller = caller
        self.snapshotter = snapshotter

    def prepare(self, key: str, parent: str = "", labels: Labels | None = None) -> list[Mount]:
        """Make a writable snapshot over a committed one and return how to mount it.

        Raises:
            AlreadyExists: `snapshot_already_exists`.
            NotFound: `snapshot_not_found`: there is no such parent.
        """
        request = pb.PrepareSnapshotRequest(snapshotter=self.snapshotter, key=key, parent=parent, labels=labels or {})
        return _mounts(self._caller.unary(self._stub.Prepare, request, self._subject("prepare", key)).mounts)

    def view(self, key: str, parent: str = "", labels: Labels | None = None) -> list[Mount]:
        """Make a read-only snapshot of a committed one and return how to mount it."""
        request = pb.ViewSnapshotRequest(snapshotter=self.snapshotter, key=key, parent=parent, labels=labels or {})
        return _mounts(self._caller.unary(self._stub.View, request, self._subject("view", key)).mounts)

    def mounts(self, key: str) -> list[Mount]:
        """Return how to mount an active snapshot or a view."""
        request = pb.MountsRequest(snapshotter=self.snapshotter, key=key)
        return _mounts(self._caller.unary(self._stub.Mounts, request, self._subject("mount", key, False)).mounts)

    def commit(self, name: str, key: str, labels: Labels | None = None) -> None:
        """Seal the active snapshot `key` under `name`.

        Raises:
            AlreadyExists: `snapshot_already_exists`: somebody committed that name before.
        """
        request = pb.CommitSnapshotRequest(snapshotter=self.snapshotter, name=name, key=key, labels=labels or {})
        subject = self._subject("commit", name)
        self._caller.unary(self._stub.Commit, request, subject, timeout_s=self._caller.slow_timeout_s)

    def remove(self, key: str) -> None:
        """Remove a snapshot that has no children.

        Raises:
            NotFound: `snapshot_not_found`.
            PreconditionFailed: `snapshot_precondition_failed`: it has children.
        """
        request = pb.RemoveSnapshotRequest(snapshotter=self.snapshotter, key=key)
        self._caller.unary(self._stub.Remove, request, self._subject("remove", key))

    def stat(self, key: str) -> SnapshotInfo:
        """Return what is known about one snapshot.

        Raises:
            NotFound: `snapshot_not_found`.
        """
        request = pb.StatSnapshotRequest(snapshotter=self.snapshotter, key=key)
        return SnapshotInfo.from_wire(
            self._caller.unary(self._stub.Stat, request, self._subject("read", key, False)).info
        )

    def update_labels(self, key: str, labels: Labels) -> SnapshotInfo:
        """Set these labels and leave the others; an empty value removes one."""
        mask = FieldMask(paths=[f"labels.{label}" for label in labels])
        info = pb.Info(name=key, labels=labels)
        request = pb.UpdateSnapshotRequest(snapshotter=self.snapshotter, info=info, update_mask=mask)
        return SnapshotInfo.from_wire(self._caller.unary(self._stub.Update, request, self._subject("label", key)).info)

    def list(self, *filters: str) -> list[SnapshotInfo]:
        """Return the snapshots that match any filter, such as `parent==NAME`; without one, all."""
        request = pb.ListSnapshotsRequest(snapshotter=self.snapshotter, filters=filters)
        answers = self._caller.stream(self._stub.List, request, self._subject("list", "", False))
        return [SnapshotInfo.from_wire(info) for answer in answers for info in answer.info]

    def usage(self, key: str) -> SnapshotUsage:
        """Measure one snapshot; an active one is walked file by file."""
        request = pb.UsageRequest(snapshotter=self.snapshotter, key=key)
        subject = self._subject("measure", key, False)
        answer = self._caller.unary(self._stub.Usage, request, subject, timeout_s=self._caller.slow_timeout_s)
        return SnapshotUsage(answer.size, answer.inodes)

    @property
    def _stub(self) -> SnapshotsStub:
        return self._caller.stub(SnapshotsStub)

    def _subject(self, act: str, key: str, changes: bool = True) -> Subject:
        return self._caller.subject(act, "snapshot", key, changes=changes)


def _mounts(wire: Iterable[mount_pb2.Mount]) -> list[Mount]:
    return [Mount.from_wire(mount) for mount in wire]
