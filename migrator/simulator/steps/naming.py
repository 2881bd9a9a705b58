"""See `preflight.arrival`: what a restored container and its snapshot are called."""

from __future__ import annotations

from migrator.service.host import Act


def restored_name(act: Act) -> str:
    """The name that the container has after the restore."""
    return act.request.new_name or act.request.container or str(act.facts["source_name"])


def restored_key(act: Act) -> str:
    """The key of its snapshot after the restore."""
    return act.request.new_name or str(act.facts["snapshot"]["key"])
