"""Whether a host is silent: measured up to where the controller has got with what it was sent, not up to now.

The controller notes in SQL what its `Echo` tells it, so that the API, drains and schedules judge hosts as it does.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from migrator.models.session import Transaction
from migrator.models.values import Host

LONGEST_LAG = timedelta(seconds=30)
"""A heartbeat that waits longer has expired. A controller that is further behind is dead and tells nothing of hosts."""


@dataclass(frozen=True, slots=True)
class Hearing:
    """What silence is measured by.

    Args:
        until: Up to when everybody who spoke was heard.
        silence: A host without a heartbeat for this long counts as without a live worker.
    """

    until: datetime
    silence: timedelta

    @staticmethod
    def read(tx: Transaction, now: datetime, silence: timedelta) -> Hearing:
        """Read what controllers have noted; where none ever did, everybody was heard up to now."""
        noted = tx.hosts.heard_until()
        return Hearing(now if noted is None else min(now, max(noted, now - LONGEST_LAG)), silence)

    def hears(self, host: Host) -> bool:
        """Whether a host's worker lives."""
        return self.until - host.seen_at <= self.silence
