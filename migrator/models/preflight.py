"""What preflight found: one value for each thing that was looked at."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Grade(StrEnum):
    """What a finding means for the job."""

    PASS = "pass"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check saw."""

    check: str
    """What was looked at, such as `mounts`; stable."""
    grade: Grade
    message: str
    """A sentence; of a failure, the one that the job fails with."""
    code: str = ""
    """The code of the error that a failure becomes."""
    remedy: str = ""
