"""The kinds of networking that this host knows."""

from __future__ import annotations

from pathlib import Path

from migrator.errors import PreconditionFailed
from migrator.service.network.attachment import Attachment
from migrator.service.network.cni import Cni
from migrator.service.network.plugin import NetworkPlugin

PLUGINS: tuple[NetworkPlugin, ...] = (Cni(),)


def find_attachment(namespace: Path) -> Attachment | None:
    """Ask every plug-in how the container in a namespace is connected."""
    return next((found for plugin in PLUGINS if (found := plugin.find(namespace))), None)


def plugin_for(attachment: Attachment) -> NetworkPlugin:
    """Return the plug-in that an attachment is of.

    Raises:
        PreconditionFailed: `unknown_network`.
    """
    found = next((plugin for plugin in PLUGINS if plugin.name == attachment.plugin), None)
    if found is None:
        raise PreconditionFailed(
            f"this host knows no networks of the kind '{attachment.plugin}'",
            code="unknown_network",
            remedy="install the same version of migrator everywhere",
        )
    return found
