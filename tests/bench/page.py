"""docs/benchmarks.md and its chart, from the records alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tests.bench.controller import FILE_OF_CONTROLLER, ControllerRecord
from tests.bench.overhead import FILE_OF_OVERHEAD, OverheadRecord
from tests.bench.records import FILE, FILE_OF_GROWTH, Figure, Record, ratio, read_records, read_rows

PAGE = FILE.with_suffix(".md")
CHART = FILE.with_suffix(".png")
CHART_OF_GROWTH = FILE_OF_GROWTH.with_suffix(".png")
ALPHA = {"eager": 1.0, "lazy": 0.65}
COLOURS = {"migrator": "#1f6feb", "podman": "#8957e5", "ctr": "#bc4c00", "floor": "#6e7781"}
HEAD = """# Benchmarks

How long a program stands still while it moves, side by side in one run on one machine, and what the move costs. Written by
`make bench` from [benchmarks.json](benchmarks.json); do not edit.

- **migrator**: this service, through its queue and an S3-compatible store; **podman**: `podman container checkpoint --export`, `restore --import`, not compressed;
  **ctr**: containerd's own tool: checkpoint, export, import, restore; **floor**: bare containerd calls with CRIU's images in memory that both hosts share: no store, no proof, no way back.
- The program fills its memory with what cannot be compressed, rewrites it at the rate given, and checks all of it after every move.
  The freeze is the longest time between two of its ticks, by the wall clock. *In files*: what it holds and checks are files of its root,
  *in redis*: the values of a redis-server beside it.
- *eager*: all memory is in place before the program goes on; *lazy*: the target's copy of it is put in place while it runs already;
  *content*: memory travels as one blob that every tool can read.
- Medians, with minimum and maximum. Compare ratios, not times: they come from one run, and the machine is small and shared.

![Freeze of each system]({chart})

"""
COLUMNS = (
    "| load | system | freeze | ÷ floor | ÷ podman | TCP client's gap | total | moved | our CPU | our largest process |\n"
    "|---|---|---|---|---|---|---|---|---|---|\n"
)


GROWTH = """
## How the freeze grows with memory

Idle, in one run of its own.

![Freeze and memory]({chart})

"""
OVERHEAD = """
## What a job costs beside the work

`python -m tests.bench.overhead`: migrations whose hosts answer every step at once, through API, SQL, queue and workers. Redis, the
database and the object store are real and share the processors.

| jobs at once | jobs | jobs/s | latency, ms | our CPU per job, ms | our largest process, MiB |
|---|---|---|---|---|---|
"""
CONTROLLER = """
## What deciding costs

`python -m tests.bench.controller`: the controller's work with a database that is nearly empty, and one that holds 1,000 hosts with 20
containers each and 100,000 finished jobs. A *decision* takes an answer, decides what comes next and puts it on record; a *tick* looks after
all unfinished jobs, here 50. Medians in ms.

| database | hosts | finished jobs | decision | its 95th percentile | SQL statements a decision | tick | heartbeat | sight | new job | list 100 jobs |
|---|---|---|---|---|---|---|---|---|---|---|
"""


def write_page(machine: str) -> None:
    """Write page and charts from what was recorded."""
    records, grown = read_records(), read_records(FILE_OF_GROWTH)
    text = HEAD.format(chart=CHART.name) + _table(records) + f"\n{machine}\n"
    draw(records, CHART)
    if grown:
        text += GROWTH.format(chart=CHART_OF_GROWTH.name) + _table(grown)
        draw_growth(grown, CHART_OF_GROWTH)
    if overhead := read_rows(OverheadRecord, FILE_OF_OVERHEAD):
        rows = "".join(_cells(*asdict(record).values()) for record in overhead)
        text += OVERHEAD + rows
    if controller := read_rows(ControllerRecord, FILE_OF_CONTROLLER):
        rows = "".join(_cells(*asdict(record).values()) for record in controller)
        text += CONTROLLER + rows
    PAGE.write_text(text)


def _table(records: Sequence[Record]) -> str:
    return COLUMNS + "".join(_row(record, records) for record in records)


def _cells(*cells: object) -> str:
    return "| " + " | ".join(f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in cells) + " |\n"


def _row(record: Record, records: Sequence[Record]) -> str:
    figures = record.figures
    cells = (
        str(record.load),
        f"{record.system} {record.mode}",
        _shown(figures["freeze_ms"], "{:.0f} ms"),
        _ratio(record, records, "floor"),
        _ratio(record, records, "podman"),
        _shown(figures["client_gap_ms"], "{:.0f} ms"),
        _shown(figures["total_ms"], "{:.0f} ms"),
        _shown(figures["bytes_moved"], "{:.0f} MiB", 1 << 20),
        _shown(figures["cpu_s"], "{:.2f} s"),
        _shown(figures["peak_rss_mib"], "{:.0f} MiB"),
    )
    return _cells(*cells)


def _shown(figure: Figure | None, form: str, unit: float = 1.0) -> str:
    if figure is None:
        return ""
    low, high = (form.format(value / unit).split()[0] for value in (figure.min, figure.max))
    return form.format(figure.median / unit) + f" ({low}–{high})"


def _ratio(record: Record, records: Sequence[Record], system: str) -> str:
    found = None if record.system == system else ratio(record, records, system)
    return "" if found is None else f"{found:.2f}"


def draw(records: Sequence[Record], file: Path) -> None:
    """Draw the freeze of each system, a group of bars a load."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    loads = list(dict.fromkeys(record.load for record in records))
    systems = list(dict.fromkeys((record.system, record.mode) for record in records))
    figure, axes = pyplot.subplots(figsize=(13, 5), layout="constrained")
    width = 0.8 / max(len(systems), 1)
    for place, (system, mode) in enumerate(systems):
        found = {r.load: r for r in records if (r.system, r.mode) == (system, mode)}
        at = [index + place * width - 0.4 + width / 2 for index, load in enumerate(loads) if load in found]
        shown = [found[load] for load in loads if load in found]
        below, above = zip(*(_reach(record) for record in shown), strict=True)
        bars = axes.bar(
            at, [r.freeze_ms for r in shown], width, yerr=(below, above), capsize=2,
            label=f"{system} {mode}", color=COLOURS.get(system), alpha=ALPHA.get(mode, 0.4),
        )  # fmt: skip
        axes.bar_label(bars, fmt="{:.0f}", fontsize=5, padding=2)
    axes.set_xticks(range(len(loads)), [str(load).replace(", ", "\n").replace(" in ", "\nin ") for load in loads])
    axes.set_yscale("log")
    axes.set_ylabel("freeze as the program saw it, ms")
    axes.legend(fontsize=8, frameon=False, ncols=4)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=120)
    pyplot.close(figure)


def draw_growth(records: Sequence[Record], file: Path) -> None:
    """Draw the freeze of each system over the memory."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    for system, mode in dict.fromkeys((record.system, record.mode) for record in records):
        line = sorted((r.memory_mib, r.freeze_ms) for r in records if (r.system, r.mode) == (system, mode))
        style = "-" if mode == "eager" else "--"
        axes.plot(*zip(*line, strict=True), style, marker="o", color=COLOURS.get(system), label=f"{system} {mode}")
    sizes = sorted({record.memory_mib for record in records})
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(sizes, [f"{size} MiB" if size < 1024 else f"{size // 1024} GiB" for size in sizes])
    axes.set_ylabel("freeze as the program saw it, ms")
    axes.legend(fontsize=8, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=120)
    pyplot.close(figure)


def _reach(record: Record) -> tuple[float, float]:
    freeze = record.figures["freeze_ms"]
    assert freeze is not None
    return freeze.median - freeze.min, freeze.max - freeze.median
