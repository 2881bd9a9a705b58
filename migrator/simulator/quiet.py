"""The real parts write logs; thousands of runs must not."""

from __future__ import annotations

import logging

import structlog


def without_logs() -> None:
    """Drop all log lines of this process."""
    structlog.configure(
        processors=[],
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL),
        logger_factory=structlog.ReturnLoggerFactory(),
    )
