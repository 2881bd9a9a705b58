"""How the demonstration looks on a terminal, or in a file."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from migrator.lab.demo_witness import Proof

BAR_CELLS = 24
FROZEN = ("freeze", "dump", "upload", "fetch", "promise", "commit", "restore")
"""The steps during which the program stands still."""


def print_report(
    console: Console,
    job: dict[str, Any],
    before: dict[str, Any],
    after: dict[str, Any],
    proof: Proof,
    summary: dict[str, Any],
) -> None:
    """Print hosts, phases with their times, bytes, the freeze, and the proof."""
    console.print()
    console.print(_steps_table(job))
    console.print(_figures(summary))
    good = proof.continuity and summary["state"] == "succeeded"
    console.print(
        Panel(
            _proof_table(before, after, proof),
            title="the same program went on" if good else "this is NOT the same program",
            border_style="green" if good else "red",
            title_align="left",
            expand=False,
        )
    )


def _steps_table(job: dict[str, Any]) -> Table:
    table = Table(title=f"job {job['id']}: {job['state']}", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for heading, justify in (("phase", "left"), ("step", "left"), ("host", "left"), ("ms", "right"), ("", "left")):
        table.add_column(heading, justify=justify, header_style="bold")  # type: ignore[arg-type]
    longest_ms = max([float(step["duration_ms"] or 0) for step in job["steps"]] + [1.0])
    phase = ""
    for step in job["steps"]:
        took_ms = float(step["duration_ms"] or 0)
        frozen = step["name"] in FROZEN
        table.add_row(
            step["phase"] if step["phase"] != phase else "",
            step["name"],
            step["host"] or "control",
            f"{took_ms:.0f}" if took_ms >= 1 else f"{took_ms:.1f}",
            Text(_bar(took_ms / longest_ms), style="cyan" if frozen else "bright_black"),
        )
        phase = step["phase"]
    table.caption = Text("█", style="cyan") + Text(" while the program was frozen", style="dim")
    table.caption_justify = "left"
    return table


def _bar(part: float) -> str:
    """Draw a part of the whole in eighths of a cell; something is always seen."""
    eighths = max(1, round(part * BAR_CELLS * 8))
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()


def _figures(summary: dict[str, Any]) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_row("")
    table.add_row("frozen, as the program saw it", f"[bold cyan]{summary['downtime_ms']:.0f} ms[/]")
    table.add_row("of that, neither dump nor transfer nor restore", _ms(summary["orchestration_ms"]))
    table.add_row("whole job", _ms(summary["total_ms"]))
    table.add_row("uploaded", f"{(summary['bytes_uploaded'] or 0) / 1e6:.1f} MB")
    table.add_row("")
    return table


def _proof_table(before: dict[str, Any], after: dict[str, Any], proof: Proof) -> Table:
    mib = after["pages"] * 4096 / 2**20
    words = {
        "same_nonce": f"its random nonce, kept in memory only, is still {after['nonce'][:12]}…",
        "same_start": "it was not started again",
        "counter_went_on": f"it counted on: {before['counter']:,} before, {after['counter']:,} after",
        "memory_verified": f"it checked all {mib:.0f} MiB of its memory after the move, bit by bit: unharmed",
        "source_is_gone": "nothing of it is left on the source",
    }
    table = Table(box=None, show_header=False, padding=(0, 1, 0, 0))
    for field in fields(proof):
        holds = bool(getattr(proof, field.name))
        mark = Text("✓", style="green") if holds else Text("✗", style="bold red")
        table.add_row(mark, words[field.name] if holds else Text(f"NOT: {words[field.name]}", style="red"))
    return table


def _ms(value: float | None) -> str:
    return "?" if value is None else f"{value:.0f} ms"
