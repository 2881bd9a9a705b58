"""Connect a container again that its freeze cut off, by what was written down before."""

from __future__ import annotations

from typing import Any

from migrator.service.network.attachment import read_attachment
from migrator.service.network.handover import join


def rejoin(network: dict[str, Any] | None, pid: int) -> None:
    """Join what `handover.cut_off` cut; None was not cut.

    Raises:
        Unavailable: `network_failed`.
    """
    attachment = read_attachment(network)
    if attachment is not None:
        join(attachment, pid)
