"""Versions that are known to be bad, each with what is known of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from migrator.criu.program import parse_version
from migrator.models.preflight import Finding, Grade
from migrator.service.preflight.arrival import Arrival
from migrator.service.preflight.subject import Subject
from migrator.service.preflight.traits import Traits

Fixed = dict[tuple[int, int], tuple[int, int, int]]
"""By release line, the first version without the fault."""


@dataclass(frozen=True, slots=True)
class KnownBad:
    """One fault of one program. Distributions mend faults without a new number, so most of them only warn."""

    program: str
    fixed: Fixed
    grade: Grade
    code: str
    fault: str
    remedy: str

    def concerns(self, version: str) -> bool:
        """Whether a version is older than the fix of its line; of a line without one, the oldest fix counts."""
        numbers = parse_version(version)
        if not numbers:
            return False
        newest_line = max(self.fixed)
        default = (0,) if numbers[:2] > newest_line else min(self.fixed.values())
        return numbers < self.fixed.get((numbers[0], numbers[1] if len(numbers) > 1 else 0), default)


KNOWN_BAD = (
    KnownBad(
        "runc",
        {(1, 1): (1, 1, 0)},
        Grade.FAIL,
        "runc_too_old",
        "cannot be told where CRIU's images lie",
        "install runc 1.3.7, 1.4.4, 1.5.3 or newer",
    ),
    KnownBad(
        "runc",
        {(1, 3): (1, 3, 7), (1, 4): (1, 4, 4), (1, 5): (1, 5, 3)},
        Grade.WARN,
        "cve_2026_119101",
        "follows odd mount destinations out of the container at a restore (CVE-2026-119101)",
        "install runc 1.3.7, 1.4.4, 1.5.3 or newer; containers that it concerns are refused here",
    ),
    KnownBad(
        "criu",
        {(3, 17): (3, 17, 0)},
        Grade.FAIL,
        "criu_too_old",
        "is too old",
        "install CRIU 4.2 or newer (Debian package criu)",
    ),
    KnownBad(
        "containerd",
        {(1, 7): (1, 7, 0)},
        Grade.FAIL,
        "containerd_too_old",
        "is too old",
        "install containerd 2.1.9, 2.2.7, 2.3.4 or newer",
    ),
    KnownBad(
        "containerd",
        {(1, 7): (1, 7, 33), (2, 0): (2, 0, 10), (2, 1): (2, 1, 9), (2, 2): (2, 2, 5), (2, 3): (2, 3, 2)},
        Grade.WARN,
        "cve_2026_53488",
        "lets labels of an image become commands on the host (CVE-2026-53488)",
        "install containerd 1.7.33, 2.0.10, 2.1.9, 2.2.5, 2.3.2 or newer",
    ),
)


def known_faults(program: str, version: str) -> list[KnownBad]:
    """What is known against a version of a program."""
    return [entry for entry in KNOWN_BAD if entry.program == program and entry.concerns(version)]


def check_versions(place: Subject | Arrival) -> Iterator[Finding]:
    """CRIU, runc and containerd against the table of faults."""
    if place.traits:
        yield from judge_versions(place.traits)


def judge_versions(traits: Traits) -> Iterator[Finding]:
    """Tell every fault of these versions; without one, the versions."""
    versions = {"criu": traits.criu, "runc": traits.runc, "containerd": traits.containerd}
    if not traits.runc:
        remedy = "install runc where the worker's PATH finds it"
        yield Finding("versions", Grade.FAIL, "runc was not found", "runc_missing", remedy)
    bad = [entry for program, version in versions.items() for entry in known_faults(program, version)]
    for entry in bad:
        fault = f"{entry.program} {versions[entry.program]} {entry.fault}"
        yield Finding("versions", entry.grade, fault, entry.code, entry.remedy)
    if traits.runc and not bad:
        yield Finding("versions", Grade.PASS, ", ".join(f"{name} {told}" for name, told in versions.items() if told))
