"""What came for a container while it moved: from the source it travels beside CRIU's images, which do not know it."""

from __future__ import annotations

from pathlib import Path

import structlog

from migrator.errors import IntegrityError
from migrator.models.phase import JobKind
from migrator.service.host import Act, Host
from migrator.service.network.attachment import Attachment
from migrator.service.network.packets import deliver, pack_packets, read_packets

PACKETS = "arrived.packets"
log = structlog.get_logger()


def keep_packets(host: Host, act: Act, images: Path) -> None:
    """Put what has come since the container was cut off beside its images; only a move has the same peers again."""
    packets = host.packets.so_far(act.command.job_id) if act.request.kind is JobKind.MIGRATION else []
    if packets:
        (images / PACKETS).write_bytes(pack_packets(packets))


def deliver_packets(act: Act, interface: Attachment | None, images: Path) -> None:
    """Hand it to the restored container, which can be reached by now. It would come again, only later."""
    file = images / PACKETS
    if interface is None or act.request.kind is not JobKind.MIGRATION or not file.exists():
        return
    try:
        deliver(interface, read_packets(file.read_bytes()))
    except IntegrityError as error:
        log.warning("what came during the freeze was not delivered", job=act.command.job_id, error=str(error))
