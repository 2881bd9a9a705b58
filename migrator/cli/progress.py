"""A job while it runs: a live list on a terminal, plain lines anywhere else."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from migrator.cli.render import size
from migrator.gen.migrator.v1 import migrator_pb2 as pb

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

    def update(self, job: pb.Job) -> None:
        """Show the job as it is now."""
        if self._live:
            self._live.update(_table(job))
        elif self._plain and job.phase != self._phase:
            self._phase = job.phase
            print(f"{job.id}: {job.phase}", file=sys.stderr, flush=True)

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
    table = Table(box=None, show_header=False, padding=(0, 1), title=f"job {job.id}: {job.phase}", title_justify="left")
    for step in job.steps:
        busy = step.status in ("started", "undoing")
        mark = Spinner("dots") if busy else Text.from_markup(MARKS.get(step.status, " "))
        table.add_row(mark, step.name, Text(step.host or "control", style="dim"), _amount(step))
    return table


def _amount(step: pb.Step) -> Text:
    if step.status == "started" and step.total_bytes:
        return Text(f"{size(step.progress_bytes)} of {size(step.total_bytes)}", style="cyan")
    took = f"{step.duration_ms:.0f} ms" if step.HasField("duration_ms") else ""
    return Text(f"{took}, {size(step.total_bytes)}" if took and step.total_bytes else took, style="dim")
