"""What preflight found: one value for each thing that was looked at."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum

from migrator.errors import MigratorError
from migrator.models.values import Facts, Step


class Grade(StrEnum):
    """What a finding means for the job."""

    PASS = "pass"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check saw."""

    check: str
    """What was looked at, such as `sockets`: the name of the check, stable."""
    grade: Grade
    message: str
    """A sentence; of a failure, the one that the job fails with."""
    code: str = ""
    """The code of the error that a failure becomes."""
    remedy: str = ""
    kind: str = "PreconditionFailed"
    """The kind of the error that a failure becomes; see `errors`."""

    def to_facts(self) -> Facts:
        """Return the JSON form that travels among a step's facts."""
        return asdict(self)

    def to_error(self) -> MigratorError:
        """The error that a job fails with."""
        return MigratorError.from_dict(self.to_facts() | {"host": None})

    @staticmethod
    def from_facts(facts: Facts) -> Finding:
        """Read what `to_facts` wrote."""
        return Finding(**(facts | {"grade": Grade(facts["grade"])}))


@dataclass(frozen=True, slots=True)
class HostFinding:
    """A finding and the host on which it was made."""

    host: str
    finding: Finding


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a migration would do, move and take."""

    steps: tuple[Step, ...]
    checkpoint_bytes: int
    """Memory and changed files: they move while the program stands still."""
    image_upload_bytes: int
    """What the object store lacks of the base image: it moves before the freeze."""
    image_download_bytes: int
    """What the target lacks of it."""
    freeze_ms: float
    basis: str
    """What the freeze time was predicted from."""
    mode: str = ""
    """The way that was chosen, or would be: `eager` or `lazy`."""
    why: str = ""
    """Why that one."""
    limit_ms: float | None = None
    """How long it may be frozen at most."""
    change_bytes_s: float | None = None
    """How fast the program was seen to change its memory."""
    store_bytes_s: float | None = None
    """How fast memory was seen to go to the object store."""


@dataclass(frozen=True, slots=True)
class Preflight:
    """All that preflight found, in order; a forecast where nothing but a preflight was asked for."""

    findings: tuple[HostFinding, ...] = ()
    forecast: Forecast | None = None
