"""How fast something may go: `50MiB/s`, `10MB/s`, `400Mbit/s`."""

from __future__ import annotations

import re

from migrator.errors import InvalidRequest

SLOWEST_BYTES_S = 16 << 10
"""Below this a pack would take longer than a request may."""
_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMG]?i?)(B|bit)/s", re.IGNORECASE)
_FACTORS = {"": 1, "k": 10**3, "ki": 1 << 10, "m": 10**6, "mi": 1 << 20, "g": 10**9, "gi": 1 << 30}


def parse_rate(text: str) -> int:
    """Read a rate; return bytes a second.

    Raises:
        InvalidRequest: `bad_bandwidth`, it is none, or too slow for anything to arrive.
    """
    found = _RATE.fullmatch(text.strip())
    if found is None or found[2].lower() not in _FACTORS:
        raise _bad(f"'{text[:50]}' is no bandwidth")
    rate = float(found[1]) * _FACTORS[found[2].lower()] / (8 if found[3].lower() == "bit" else 1)
    return check_rate(int(rate))


def check_rate(bytes_s: int) -> int:
    """Return a rate if anything arrives at it.

    Raises:
        InvalidRequest: `bad_bandwidth`.
    """
    if not SLOWEST_BYTES_S <= bytes_s < 1 << 50:
        raise _bad(f"{bytes_s} bytes a second are no bandwidth to work with")
    return bytes_s


def _bad(what: str) -> InvalidRequest:
    return InvalidRequest(what, code="bad_bandwidth", remedy="such as 50MiB/s or 400Mbit/s, and at least 16KiB/s")
