"""Identifiers that a person can read out."""

from __future__ import annotations

import random
import re
import secrets

chance: random.Random = secrets.SystemRandom()
"""Where identifiers come from; a simulation puts numbers in its place that come again."""
ALPHABET = "23456789abcdefghjkmnpqrstvwxyz"
"""No letters or digits that are taken for each other."""
PREFIX_LIMIT = 40
_JOB = re.compile(rf"(?:migrator-)?((?:mig|chk|bak|res|rwd|drl|pre|fgt|prn|ver|drn|ret)-[{ALPHABET}]{{10}})(?![^-.])")


def new_id(prefix: str) -> str:
    """Make an identifier: a prefix and ten signs by chance."""
    plain = "".join(sign if sign.isalnum() or sign in "-_" else "-" for sign in prefix)[:PREFIX_LIMIT]
    return f"{plain}-{''.join(chance.choice(ALPHABET) for _ in range(10))}"


def find_job(name: str) -> str | None:
    """Return the job that made something of this name: `JOB`, `migrator-JOB`, or either with a part behind it."""
    found = _JOB.match(name)
    return found[1] if found else None
