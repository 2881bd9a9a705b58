"""All steps of the jobs that look after the catalogue and the store as a whole."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from migrator.models.session import Database
from migrator.service.control.control_steps import ControlStep
from migrator.service.retention.forgetting import forget_steps
from migrator.service.retention.pruning import Prune
from migrator.service.retention.verifying import JudgeVerification, Verify
from migrator.storage.checkpoints import CheckpointStore


def retention_steps(
    database: Database, checkpoints: CheckpointStore, now: Callable[[], datetime]
) -> dict[str, ControlStep]:
    """All of them by name."""
    steps: list[ControlStep] = [
        *forget_steps(database, checkpoints, now),
        Prune(database, checkpoints, now),
        Verify(database, checkpoints, now),
        JudgeVerification(),
    ]
    return {step.name: step for step in steps}
