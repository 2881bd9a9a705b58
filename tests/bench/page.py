"""docs/benchmarks.md and its chart, from the records alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.bench.records import FILE, Figure, Record, ratio

PAGE = FILE.with_suffix(".md")
CHART = FILE.with_suffix(".png")
COLOURS = {"migrator": "#1f6feb", "podman": "#8957e5", "ctr": "#bc4c00", "floor": "#6e7781"}
HEAD = """# Benchmarks

How long a program stands still while it moves, side by side in one run on one machine, and what the move costs. Written by
`make bench` from [benchmarks.json](benchmarks.json); do not edit.

- **migrator**: this service, through its queue and an S3-compatible store; **podman**: `podman container checkpoint --export`, `restore --import`, not compressed;
  **ctr**: containerd's own tool: checkpoint, export, import, restore; **floor**: bare containerd calls with CRIU's images in memory that both hosts share: no store, no proof, no way back.
- The program fills its memory with what cannot be compressed, rewrites it at the rate given, and checks all of it after every move.
  The freeze is the longest time between two of its ticks, by the wall clock.
- Medians, with minimum and maximum. Compare ratios, not times: they come from one run, and the machine is small and shared.

![Freeze of each system]({chart})

"""
COLUMNS = (
    "| load | system | freeze | ÷ floor | ÷ podman | TCP client's gap | total | moved | our CPU | our largest process |\n"
    "|---|---|---|---|---|---|---|---|---|---|\n"
)


def write_page(records: Sequence[Record], machine: str) -> None:
    """Write page and chart."""
    rows = "".join(_row(record, records) for record in records)
    PAGE.write_text(HEAD.format(chart=CHART.name) + COLUMNS + rows + f"\n{machine}\n")
    draw(records, CHART)


def _row(record: Record, records: Sequence[Record]) -> str:
    load = f"{record.memory_mib} MiB, " + (f"{record.rewrite_mib_s} MiB/s" if record.rewrite_mib_s else "idle")
    figures = record.figures
    cells = (
        load,
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
    return "| " + " | ".join(cells) + " |\n"


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

    loads = list(dict.fromkeys((record.memory_mib, record.rewrite_mib_s) for record in records))
    systems = list(dict.fromkeys((record.system, record.mode) for record in records))
    figure, axes = pyplot.subplots(figsize=(9, 4.5), layout="constrained")
    width = 0.8 / max(len(systems), 1)
    for place, (system, mode) in enumerate(systems):
        found = {(r.memory_mib, r.rewrite_mib_s): r for r in records if (r.system, r.mode) == (system, mode)}
        at = [index + place * width - 0.4 + width / 2 for index, load in enumerate(loads) if load in found]
        shown = [found[load] for load in loads if load in found]
        below, above = zip(*(_reach(record) for record in shown), strict=True)
        bars = axes.bar(
            at, [r.freeze_ms for r in shown], width, yerr=(below, above), capsize=2,
            label=f"{system} {mode}", color=COLOURS.get(system), alpha=1 if mode == "eager" else 0.6,
        )  # fmt: skip
        axes.bar_label(bars, fmt="{:.0f}", fontsize=7, padding=2)
    axes.set_xticks(range(len(loads)), [f"{mib} MiB\n" + (f"{rate} MiB/s" if rate else "idle") for mib, rate in loads])
    axes.set_yscale("log")
    axes.set_ylabel("freeze as the program saw it, ms")
    axes.legend(fontsize=8, frameon=False, ncols=4)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=120)
    pyplot.close(figure)


def _reach(record: Record) -> tuple[float, float]:
    freeze = record.figures["freeze_ms"]
    assert freeze is not None
    return freeze.median - freeze.min, freeze.max - freeze.median
