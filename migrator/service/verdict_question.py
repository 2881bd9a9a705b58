"""How a pause guard asks for the verdict; loaded only when one has to."""

from __future__ import annotations

from migrator.settings import load_settings
from migrator.storage import open_store
from migrator.storage.verdicts import Verdicts


def ask_store(job_id: str) -> bool:
    """Ask the object store that the worker's settings name; they are this process's own."""
    return Verdicts(open_store(load_settings())).lets_run(job_id)
