"""The roles of a checkpoint's parts: a part is found by its role and never by its media type."""

from __future__ import annotations

from enum import StrEnum

ROLE_ANNOTATION = "io.migrator.role"
"""On every descriptor in the index of a checkpoint."""


class Role(StrEnum):
    """What a part of a checkpoint is for."""

    MEMORY = "memory"
    SPEC = "spec"
    CONTAINER = "container"
    IMAGE = "image"
    RW_DIFF = "rw-diff"
    RUNTIME_OPTIONS = "runtime-options"
    CHECKPOINT_OPTIONS = "checkpoint-options"
