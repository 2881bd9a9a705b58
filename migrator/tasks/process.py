"""Run a Celery worker in this process: threads, not forks, so that gRPC channels are safe in it."""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog
from celery import Celery
from celery.signals import worker_ready

from migrator.errors import MigratorError
from migrator.tasks.allocator import keep_little, keep_what_is_there

log = structlog.get_logger()


class Ticker:
    """Calls something at once and then again and again, on a thread of its own; a failure is logged and goes by."""

    def __init__(self, name: str, every_s: float, call: Callable[[], None]):
        self._every_s = every_s
        self._call = call
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin now."""
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                self._call()
            except MigratorError as error:
                log.warning("ticker failed", ticker=self._thread.name, error=str(error))
            except Exception:
                log.exception("ticker crashed", ticker=self._thread.name)
            if self._stopped.wait(self._every_s):
                return


def run_worker(app: Celery, *, queue: str, name: str, slots: int, tickers: list[Ticker], purge: bool) -> int:
    """Serve a queue until SIGTERM; acts under way are finished first.

    Args:
        app: The app whose tasks are registered.
        queue: The queue to serve.
        name: What the worker calls itself.
        slots: Acts at the same time.
        tickers: Started once the worker listens.
        purge: Drop what waited while nobody served the queue: the controller sends again what still matters.

    Returns:
        The exit status.
    """

    def begin(**_: object) -> None:
        keep_what_is_there()
        for ticker in tickers:
            ticker.start()

    keep_little()
    worker_ready.connect(begin, weak=False)
    worker = app.Worker(
        hostname=name,
        queues=[queue],
        pool="threads",
        concurrency=slots,
        purge=purge,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        loglevel="WARNING",
        quiet=True,
    )
    worker.start()
    return int(worker.exitcode or 0)
