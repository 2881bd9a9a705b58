"""A whole checkpoint of a task in the content store: lease, pause, dump, diff, resume, index, image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from google.protobuf.any_pb2 import Any
from google.protobuf.message import EncodeError, Message

from migrator.containerd import parts as pieces
from migrator.containerd.freeze import frozen
from migrator.containerd.mediatypes import CHECKPOINT_LABEL, CHECKPOINT_OPTIONS
from migrator.containerd.parts import by_role, with_role
from migrator.containerd.values import Container, Image, pack_message
from migrator.errors import InvalidRequest
from migrator.gen.containerd.runc.v1 import options_pb2
from migrator.models.descriptors import Descriptor
from migrator.models.roles import Role

if TYPE_CHECKING:
    from migrator.containerd.client import ContainerdClient
    from migrator.containerd.task import Task

LEASE_S = 3600.0


@dataclass(frozen=True, slots=True)
class CheckpointOptions:
    """What runc and CRIU are told at a checkpoint.

    Args:
        exit: End the task after the dump.
        open_tcp: Dump open TCP connections.
        external_unix_sockets: Allow unix sockets whose other end is outside.
        terminal: The task has one.
        file_locks: Dump file locks.
        empty_namespaces: Namespaces whose content is left out.
        cgroups_mode: CRIU's `--manage-cgroups`.
        image_path: A directory of the host to dump into; then nothing goes to the content store.
        work_path: A directory of the host for CRIU's logs, which are lost without it.
    """

    exit: bool = False
    open_tcp: bool = False
    external_unix_sockets: bool = False
    terminal: bool = False
    file_locks: bool = False
    empty_namespaces: tuple[str, ...] = ()
    cgroups_mode: str = ""
    image_path: str = ""
    work_path: str = ""

    def to_wire(self) -> options_pb2.CheckpointOptions:
        """Containerd's form.

        Raises:
            InvalidRequest: `bad_checkpoint_options`: a value has the wrong type.
        """
        try:
            return options_pb2.CheckpointOptions(**{name: getattr(self, name) for name in self.__slots__})
        except (TypeError, ValueError) as error:
            raise InvalidRequest(
                f"checkpoint options cannot be marshalled: {error}", code="bad_checkpoint_options"
            ) from error


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a checkpoint left behind. After a dump to an image path there is neither name nor index nor part."""

    name: str | None = None
    index: Descriptor | None = None
    parts: Mapping[str, Descriptor] = field(default_factory=dict)
    """By role; see `parts.Role`."""


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for; see `Task.checkpoint`."""

    name: str | None
    parent: str | None
    options: CheckpointOptions | Message | None
    annotations: dict[str, str]
    extra: tuple[Descriptor, ...]
    compress_rw: bool
    timeout_s: float | None


def pack_options(options: CheckpointOptions | Message | None) -> Any | None:
    """Wrap checkpoint options for the wire.

    Raises:
        InvalidRequest: `bad_checkpoint_options`: they cannot be marshalled.
    """
    if options is None:
        return None
    if isinstance(options, CheckpointOptions):
        return pack_message(options.to_wire())
    try:
        return pack_message(options)
    except (AttributeError, TypeError, ValueError, EncodeError) as error:
        raise InvalidRequest(
            f"checkpoint options cannot be marshalled: {error}", code="bad_checkpoint_options"
        ) from error


def default_name(container_id: str) -> str:
    """The image name of a checkpoint that was given none: container and local time."""
    return f"containerd.io/checkpoint/{container_id}:{datetime.now():%m-%d-%Y-%H:%M:%S}"


def take(task: Task, request: Request) -> Checkpoint:
    """Dump a task and keep memory, spec, image and changed files as an image.

    A running task is frozen for the dump and the diff only, and resumes in every case: also when this process dies.
    A paused one stays paused. With an image path in the options only the dump is made.

    Raises:
        PreconditionFailed: `task_not_running`: there is nothing to dump.
        InvalidRequest: `bad_checkpoint_options`.
        WorkloadFailed: `task_checkpoint_failed`.
        MigratorError: `task_left_frozen`: the resume failed, whatever else happened.
    """
    packed = pack_options(request.options)  # before anything is touched
    with _leased(task._client) as client:
        record = client.containers.get(task.container_id)
        leased = client.task(task.container_id)
        with frozen(leased):
            found = leased.checkpoint_memory(packed, parent=request.parent, timeout_s=request.timeout_s)
            if not found:
                return Checkpoint()
            if record.snapshot_key:
                found.append(_diff(client, record, request))
        return _seal(client, record, request, packed, found)


def _diff(client: ContainerdClient, record: Container, request: Request) -> Descriptor:
    return pieces.diff_snapshot(client, record.snapshotter, record.snapshot_key, timeout_s=request.timeout_s)


def _seal(
    client: ContainerdClient, record: Container, request: Request, packed: Any | None, found: list[Descriptor]
) -> Checkpoint:
    """Write what needs no frozen task: the small parts, the compressed layer, the index, the image."""
    if request.compress_rw:
        found = [pieces.compress_layer(client, part) if _is_rw(part) else part for part in found]
    if packed is not None:
        data = packed.SerializeToString(deterministic=True)
        found.append(with_role(client.content.write_bytes(data, media_type=CHECKPOINT_OPTIONS)))
    if (options := pieces.write_runtime_options(client, record)) is not None:
        found.append(options)
    found.append(pieces.write_container(client, record))
    if record.image:
        found.append(pieces.image_part(client, record))
    found.extend(request.extra)
    index = pieces.write_index(client, found, pieces.index_annotations(record) | request.annotations)
    name = request.name or default_name(record.id)
    client.images.create(Image(name, index, {CHECKPOINT_LABEL: "true"}))
    return Checkpoint(name, index, by_role(found))


def _is_rw(part: Descriptor) -> bool:
    return by_role([part]).keys() == {Role.RW_DIFF}


@contextmanager
def _leased(client: ContainerdClient) -> Iterator[ContainerdClient]:
    """The caller's lease if there is one, else a new one for this checkpoint."""
    if client.lease_id:
        yield client
        return
    with client.lease(expires_in_s=LEASE_S) as leased:
        yield leased
