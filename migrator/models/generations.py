"""The ids of workloads that go on with others: what is restored under its own name is a new workload of one family."""

from __future__ import annotations

import re

_GENERATION = re.compile(r"(.+-[a-z0-9]{10})\.[a-z0-9]{10}")


def family_of(workload_id: str) -> str:
    """Return the id of the first generation of a workload: what all that were restored under its name share."""
    found = _GENERATION.fullmatch(workload_id)
    return found[1] if found else workload_id


def is_generation(workload_id: str) -> bool:
    """Whether a workload was restored under the name of what it was taken of."""
    return family_of(workload_id) != workload_id
