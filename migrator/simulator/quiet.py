"""What thousands of runs in one process need: no logs, and no search for rubbish in the middle of a run."""

from __future__ import annotations

import gc
import logging

import structlog

GARBAGE_THRESHOLD = 200_000


def be_quiet() -> None:
    """Drop all log lines of this process and collect its rubbish seldom."""
    structlog.configure(
        processors=[],
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL),
        logger_factory=structlog.ReturnLoggerFactory(),
        cache_logger_on_first_use=True,
    )
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD)
