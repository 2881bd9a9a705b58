"""What is inside of checkpoints as plain JSON types."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from migrator.gen.migrator.v1 import inspection_pb2 as pb


def contents_data(contents: pb.InspectCheckpointResponse, *, with_memory: bool) -> dict[str, Any]:
    """What a checkpoint holds; ranges of memory only where they were asked for."""
    found: dict[str, Any] = message_data(contents)
    for process in found["processes"]:
        if not with_memory:
            del process["memory"]
    return found


def summary_data(contents: pb.InspectCheckpointResponse) -> dict[str, Any]:
    """What a checkpoint holds, in figures."""
    alive = [process for process in contents.processes if process.state != "dead"]
    written = [file for file in contents.files if file.change == "written"]
    return {
        "processes": len(contents.processes),
        "threads": sum(len(process.threads) for process in alive),
        "first_process": contents.processes[0].name if contents.processes else None,
        "open_files": sum(len(process.files) for process in contents.processes),
        "sockets": len({(file.kind, file.name, file.state) for process in alive for file in sockets_of(process)}),
        "mounts": len(contents.mounts),
        "memory_bytes": contents.memory_bytes,
        "shared_bytes": contents.shared_bytes,
        "files_written": len(written),
        "files_written_bytes": sum(file.size_bytes for file in written),
        "files_removed": len(contents.files) - len(written),
        "limits": dict(sorted(contents.limits.items())),
    }


def comparison_data(before: str, after: str, found: pb.CompareCheckpointsResponse) -> dict[str, Any]:
    """How two checkpoints differ; of processes that came or went, what `tree` shows at first."""
    data: dict[str, Any] = {"before": before, "after": after, **message_data(found)}
    for process in (*data["started"], *data["ended"]):
        del process["files"], process["memory"], process["limits"]
    for change in data["memory"]:
        fresh = None if change["changed_bytes"] is None else change["changed_bytes"] + change["added_bytes"]
        total = change["after_bytes"]
        change["fresh_share"] = None if fresh is None else round(fresh / total, 4) if total else 0.0
    return data


def usage_data(usage: pb.MeasureUsageResponse) -> dict[str, Any]:
    """What checkpoints occupy."""
    found: dict[str, Any] = message_data(usage)
    return found


SOCKETS = ("tcp", "udp", "udplite", "raw", "icmp", "unix", "netlink", "packet")


def sockets_of(process: pb.Process) -> list[pb.OpenFile]:
    """The descriptors of a process that are sockets."""
    return [file for file in process.files if file.kind in SOCKETS]


def message_data(value: Any) -> Any:
    """A message as plain types: the names of its fields, numbers as numbers, what is absent as null."""
    if isinstance(value, Timestamp):
        return value.ToDatetime().isoformat(timespec="milliseconds") + "Z"
    if not isinstance(value, Message):
        return value
    found: dict[str, Any] = {}
    for field in value.DESCRIPTOR.fields:
        item = getattr(value, field.name)
        if field.message_type and field.message_type.GetOptions().map_entry:
            found[field.name] = dict(sorted(item.items()))
        elif field.is_repeated:
            found[field.name] = [message_data(each) for each in item]
        elif field.has_presence and not value.HasField(field.name):
            found[field.name] = None
        else:
            found[field.name] = message_data(item)
    return found
