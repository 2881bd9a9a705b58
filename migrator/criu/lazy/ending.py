"""End a server that no program needs."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

from migrator.criu.lazy.journal import Journal, State


def end_server(directory: Path) -> None:
    """End the server of a job that turns back, or of a restore that came to nothing; none there is fine.

    One that serves is left alone: it ends by itself when the processes that it serves have ended.

    Args:
        directory: Where CRIU works for the job.
    """
    journal = Journal.open(directory)
    if journal is None:
        return
    try:
        if journal.state in (State.STARTING, State.READY, State.BROKEN):
            journal.state = State.BROKEN
            for pid in filter(None, (journal.twin, journal.server)):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
    finally:
        journal.close()
