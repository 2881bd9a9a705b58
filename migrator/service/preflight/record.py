"""What a checkpoint's record asks of this host; see `service.records`."""

from __future__ import annotations

from collections.abc import Iterator

from migrator.containerd import Container, read_record
from migrator.errors import IntegrityError
from migrator.models.preflight import Finding, Grade
from migrator.models.roles import Role
from migrator.models.volumes import read_volumes
from migrator.service.host import Act
from migrator.service.network.attachment import read_attachment
from migrator.service.network.sysctls import network_sysctls
from migrator.service.preflight.arrival import Arrival
from migrator.service.preflight.network import judge_sysctls
from migrator.service.records import judge_record
from migrator.storage.chunks import part_of

RECORD_LIMIT_BYTES = 4 << 20


def check_record(arrival: Arrival) -> Iterator[Finding]:
    """Whether a checkpoint asks for no more than a host may give. That of a migration is made later.

    Raises:
        IntegrityError: `bad_container_record`, `bad_spec`.
    """
    if arrival.request.checkpoint_id is not None:
        record = _fetch_record(arrival)
        yield from _judge(arrival, record)
        yield from judge_sysctls(network_sysctls(record.spec_json()))


def refuse_record(act: Act, container: Container) -> None:
    """Make sure of it once more, right before the container is made.

    Raises:
        PreconditionFailed: It asks for more.
    """
    for finding in _judge(act, container):
        if finding.grade is Grade.FAIL:
            raise finding.to_error()


def _judge(act: Act | Arrival, container: Container) -> Iterator[Finding]:
    attachment = read_attachment(act.facts.get("network"))
    volumes = {volume.destination for volume in read_volumes(act.facts.get("volumes", []))}
    return judge_record(container, volumes, attachment.namespace_path if attachment else "")


def _fetch_record(arrival: Arrival) -> Container:
    store = arrival.host.checkpoints
    index = store.read_index(str(arrival.facts["checkpoint_workload"]), str(arrival.request.checkpoint_id))
    part = index.part(Role.CONTAINER)
    if part_of(part).size_bytes > RECORD_LIMIT_BYTES:
        raise IntegrityError("the checkpoint's container record is too large", code="bad_container_record")
    return read_record(b"".join(store.read_part(part)))
