"""Identifiers that a person can read out."""

from __future__ import annotations

import random
import re
import secrets

from migrator.models.generations import family_of

chance: random.Random = secrets.SystemRandom()
"""Where identifiers come from; a simulation puts numbers in its place that come again."""
ALPHABET = "23456789abcdefghjkmnpqrstvwxyz"
"""No letters or digits that are taken for each other."""
PREFIX_LIMIT = 40
JOBS = ("mig", "chk", "bak", "res", "rwd", "drl", "pre", "fgt", "prn", "ver", "drn", "ret")
"""With what the ids of jobs begin."""
SIGNS = 10
_JOB = re.compile(rf"(?:migrator-)?((?:{'|'.join(JOBS)})-[{ALPHABET}]{{{SIGNS}}})(?![^-.])")


def new_id(prefix: str) -> str:
    """Make an identifier: a prefix and ten signs by chance."""
    plain = "".join(sign if sign.isalnum() or sign in "-_" else "-" for sign in prefix)[:PREFIX_LIMIT]
    return f"{plain}-{_signs()}"


def new_generation(workload_id: str) -> str:
    """Make the id of a workload that goes on where another one was: restored under its name. It tells which."""
    return f"{family_of(workload_id)}.{_signs()}"


def find_job(name: str) -> str | None:
    """Return the job that made something of this name: `JOB`, `migrator-JOB`, or either with a part behind it."""
    found = _JOB.match(name)
    return found[1] if found else None


def _signs() -> str:
    return "".join(chance.choice(ALPHABET) for _ in range(SIGNS))
