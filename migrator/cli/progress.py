"""A job while it runs: a live list on a terminal, plain lines anywhere else."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from migrator.cli.canvas import size
from migrator.cli.render_drain import STATUS
from migrator.gen.migrator.v1 import drains_pb2 as drains
from migrator.gen.migrator.v1 import migrator_pb2 as pb

FROZEN = ("freezing", "dumping", "uploading", "fetching", "promised", "committed", "restoring")
TELLING_S = 0.5
"""Before that the speed of a step is no more than a guess."""
MARKS = {"done": "[green]✓[/]", "failed": "[red]✗[/]", "undone": "[yellow]↺[/]", "pending": "[dim]·[/]"}


class Progress:
    """Shows a job each time it changes.

    Args:
        shown: False: shows nothing.
    """

    def __init__(self, shown: bool):
        self._console = Console(stderr=True)
        self._live = Live(console=self._console, refresh_per_second=10) if shown and self._console.is_terminal else None
        self._plain = shown and self._live is None
        self._phase = ""
        self._told: dict[str, str] = {}

    def update(self, job: pb.Job) -> None:
        """Show the job as it is now."""
        if self._live:
            self._live.update(_table(job))
        elif self._plain:
            self._print_news(job)

    def _print_news(self, job: pb.Job) -> None:
        if job.phase != self._phase:
            self._phase = job.phase
            print(f"{job.id}: {job.phase}{expected(job)}", file=sys.stderr, flush=True)
        for passage in job.drain.passages:
            name, status = f"{passage.namespace}/{passage.container}", _status(passage)
            if self._told.get(name) != status:
                self._told[name] = status
                print(f"{job.id}: {name}: {status}", file=sys.stderr, flush=True)

    def __enter__(self) -> Self:
        """Begin to show."""
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the last picture."""
        if self._live:
            self._live.stop()


def _table(job: pb.Job) -> Table:
    title = f"job {job.id}: {job.phase}{expected(job)}"
    table = Table(box=None, show_header=False, padding=(0, 1), title=title, title_justify="left")
    for passage in job.drain.passages:
        table.add_row(_mark(passage), f"{passage.namespace}/{passage.container}", _way(passage), _status(passage))
    if job.drain.passages:
        return table
    for step in job.steps:
        busy = step.status in ("started", "undoing")
        mark = Spinner("dots") if busy else Text.from_markup(MARKS.get(step.status, " "))
        table.add_row(mark, step.name, Text(step.host or "control", style="dim"), _amount(step))
    return table


def _mark(passage: drains.Passage) -> Spinner | Text:
    if passage.status in ("asked", "moving"):
        return Spinner("dots")
    return Text(*STATUS[passage.status])


def _way(passage: drains.Passage) -> Text:
    return Text(f"{passage.source} → {passage.target}" if passage.target else passage.source, style="dim")


def _status(passage: drains.Passage) -> str:
    """How far a container is on its way, in a few words."""
    if passage.message:
        return f"{passage.status}: {passage.message}"
    to = f" to {passage.target}" if passage.target and passage.status in ("placed", "moving", "moved") else ""
    busy = passage.status in ("placed", "moving") and passage.phase
    return f"{passage.status}{to}" + (f", {passage.phase}" if busy else "")


def expected(job: pb.Job) -> str:
    """What a migration expects of the freeze that it is about to make, or makes; and that pages still come after it."""
    running = [step.name for step in job.steps if step.status == "started"]
    if "fill" in running and job.restored == "lazy":
        return ", the program runs and its pages are still coming"
    if job.phase not in FROZEN or not job.HasField("forecast"):
        return ""
    return f", about {job.forecast.freeze_ms:.0f} ms frozen ({job.forecast.mode})"


def time_left(step: pb.Step, now: datetime) -> str:
    """Say when a step that moves bytes will be done if it goes on as fast as it went; nothing while nobody can tell."""
    took_s = (now - step.started_at.ToDatetime(UTC)).total_seconds()
    if not step.HasField("started_at") or took_s < TELLING_S or not 0 < step.progress_bytes < step.total_bytes:
        return ""
    left_s = took_s * (step.total_bytes - step.progress_bytes) / step.progress_bytes
    return f", {left_s:.0f} s left" if left_s < 100 else f", {left_s / 60:.0f} min left"


def _amount(step: pb.Step) -> Text:
    if step.status == "started" and step.total_bytes:
        left = time_left(step, datetime.now(UTC))
        return Text(f"{size(step.progress_bytes)} of {size(step.total_bytes)}{left}", style="cyan")
    took = f"{step.duration_ms:.0f} ms" if step.HasField("duration_ms") else ""
    return Text(f"{took}, {size(step.total_bytes)}" if took and step.total_bytes else took, style="dim")
