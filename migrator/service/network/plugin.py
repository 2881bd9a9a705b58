"""What a kind of networking must be able to do, so that its containers move with their addresses.

A plug-in is asked in this order. On the source `find`, and when the container is to go `detach`. On the target
`examine`, then, before the source is frozen, `prepare`: from then on the address belongs to the container there too,
but its interface waits in a namespace of its own with the other end down, so that the address answers nowhere twice.
What comes between is the same for every kind of networking and not the plug-in's: see `handover`.

Every method may be repeated at any time. Another kind of networking is one more class, listed in `plugins.PLUGINS`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from migrator.models.preflight import Finding
from migrator.service.network.attachment import Attachment


class NetworkPlugin(Protocol):
    """One kind of networking on this host."""

    name: str
    """Stable: it is written into checkpoints."""

    def find(self, namespace: Path) -> Attachment | None:
        """Say how the container in a network namespace (`/proc/PID/ns/net`) is connected; None if not by this kind."""
        ...

    def examine(self, wanted: Attachment) -> Iterator[Finding]:
        """Look whether this host can take the container in, with its addresses and published ports. Touches nothing."""
        ...

    def prepare(self, wanted: Attachment, namespace: Path) -> Attachment:
        """Connect an empty namespace (a file that `ip` and `nsenter` take), and say how it came out.

        Without addresses in `wanted`, it gets those that the network gives out.

        Raises:
            PreconditionFailed: `address_unavailable`, the network does not give out the address wanted.
            Unavailable: `network_failed`.
        """
        ...

    def waits(self, attachment: Attachment, namespace: Path) -> bool:
        """Whether the interface is, as far as is noted, still where `prepare` made it."""
        ...

    def adopt(self, attachment: Attachment, namespace: Path) -> None:
        """Note that the interface is in the container's own namespace now (`/proc/PID/ns/net`)."""
        ...

    def detach(self, attachment: Attachment, namespace: Path | None) -> None:
        """Give back all that the container had of the network here; one that has nothing is fine.

        Args:
            attachment: How it was connected.
            namespace: Where the interface is; None when that is gone.

        Raises:
            Unavailable: `network_failed`.
        """
        ...
