"""containerd's API for Python: tasks as completely as the Go client, and the services around them."""

from migrator.containerd.cgroup import is_frozen, pids_of
from migrator.containerd.checkpoint import Checkpoint, CheckpointOptions
from migrator.containerd.client import ContainerdClient
from migrator.containerd.content import ContentInfo, IngestStatus
from migrator.containerd.events import Event, Subscription
from migrator.containerd.freeze import frozen, thaw, try_to_thaw
from migrator.containerd.gclabels import label_tree
from migrator.containerd.introspection import Version
from migrator.containerd.io import FifoIO, PlainIO, ProcessIO, Stdio, binary_io, log_file_io, null_io
from migrator.containerd.leases import Lease, Resource
from migrator.containerd.metrics import TaskMetrics
from migrator.containerd.parts import (
    by_role,
    compress_layer,
    diff_snapshot,
    image_part,
    index_annotations,
    read_record,
    with_role,
    write_container,
    write_index,
    write_runtime_options,
    write_spec,
)
from migrator.containerd.process import ExitStatus, Process, ProcessState, Status
from migrator.containerd.remains import end_remains
from migrator.containerd.snapshots import SnapshotInfo, SnapshotKind, Snapshots, SnapshotUsage
from migrator.containerd.task import ProcessInfo, Task
from migrator.containerd.unpack import chain_id, read_manifest, resolve_manifest, unpack_image
from migrator.containerd.values import Container, Image, Mount, pack_message
from migrator.containerd.vfork import in_vfork, settle
from migrator.gen.containerd.runc.v1.options_pb2 import Options as RuncOptions
from migrator.models.descriptors import Descriptor, Platform

__all__ = [
    "Checkpoint",
    "CheckpointOptions",
    "Container",
    "ContainerdClient",
    "ContentInfo",
    "Descriptor",
    "Event",
    "ExitStatus",
    "FifoIO",
    "Image",
    "IngestStatus",
    "Lease",
    "Mount",
    "PlainIO",
    "Platform",
    "Process",
    "ProcessIO",
    "ProcessInfo",
    "ProcessState",
    "Resource",
    "RuncOptions",
    "SnapshotInfo",
    "SnapshotKind",
    "SnapshotUsage",
    "Snapshots",
    "Status",
    "Stdio",
    "Subscription",
    "Task",
    "TaskMetrics",
    "Version",
    "binary_io",
    "by_role",
    "chain_id",
    "compress_layer",
    "diff_snapshot",
    "end_remains",
    "frozen",
    "image_part",
    "in_vfork",
    "index_annotations",
    "is_frozen",
    "label_tree",
    "log_file_io",
    "null_io",
    "pack_message",
    "pids_of",
    "read_manifest",
    "read_record",
    "resolve_manifest",
    "settle",
    "thaw",
    "try_to_thaw",
    "unpack_image",
    "with_role",
    "write_container",
    "write_index",
    "write_runtime_options",
    "write_spec",
]
