"""How answers look on a terminal, within 80 columns."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table

Rows = list[dict[str, Any]]
COLOURS = {"succeeded": "green", "failed": "red", "cancelled": "yellow", "needs_operator": "bold red"}
CONSOLE = Console(highlight=False)


def hosts(rows: Rows) -> None:
    """A table of hosts."""
    table = _table("HOST", "WORKER", "CONTAINERD", "CRIU", "KERNEL", "CPUS")
    for row in rows:
        worker = "[green]alive[/]" if row["alive"] else f"[red]silent {_age(row['seen_at'])}[/]"
        table.add_row(row["name"], worker, *(str(row.get(key, "")) for key in ("containerd", "criu", "kernel", "cpus")))
    _print(table, rows, "no host has a worker yet; start one: migrator worker --host NAME")


def containers(rows: Rows) -> None:
    """A table of containers."""
    table = _table("HOST", "NAMESPACE", "CONTAINER", "STATUS", "MEMORY", "IMAGE")
    for row in rows:
        memory = f"{row['memory_bytes'] / 2**20:.0f} MiB" if row["memory_bytes"] else ""
        table.add_row(row["host"], row["namespace"], row["name"], row["status"], memory, row["image"])
    _print(table, rows, "no containers")


def jobs(rows: Rows) -> None:
    """A table of jobs."""
    table = _table("JOB", "KIND", "STATE", "FROM", "TO", "AGE")
    for row in rows:
        source = "/".join(filter(None, (row["source"], row["container"]))) or row["checkpoint_id"]
        table.add_row(
            row["id"], row["kind"], _state(row["state"]), source, row["target"] or "", _age(row["created_at"])
        )
    _print(table, rows, "no jobs")


def job(row: dict[str, Any]) -> None:
    """A job, what each step took, and its figures."""
    source = "/".join(filter(None, (row["source"], row["container"]))) or row["checkpoint_id"]
    goal = f" → {row['target']}" if row["target"] else ""
    CONSOLE.print(f"[bold]{row['id']}[/]  {row['kind']}  {source}{goal}  {_state(row['state'])}")
    table = _table("PHASE", "STEP", "HOST", "STATUS", "MS")
    for step in row["steps"]:
        took = "" if step["duration_ms"] is None else f"{step['duration_ms']:.0f}"
        table.add_row(step["phase"], step["name"], step["host"] or "control", step["status"], took)
    CONSOLE.print(table)
    for name, value in row["measures"].items():
        if value is not None:
            unit, number = (" MB", value / 1e6) if "bytes" in name else (" ms", value)
            label = name.removesuffix("_ms").replace("_", " ")
            CONSOLE.print(f"  {label:<18}{number:>10.1f}{unit}")
    if row["failure"]:
        CONSOLE.print(f"[red]{row['failure']['message']}[/]\n  → {row['failure']['remedy'] or ''}")


def verdict(row: dict[str, Any]) -> None:
    """One line about a job that goes well."""
    if row["state"] != "succeeded":
        CONSOLE.print(f"preflight is done; follow it: migrator jobs watch {row['id']}")
        return
    freeze_ms, total_ms = row["measures"]["freeze_ms"], row["measures"]["total_ms"]
    frozen = f", frozen for {freeze_ms:.0f} ms" if freeze_ms is not None else ""
    CONSOLE.print(f"[green]{row['state']}[/] in {total_ms or 0:.0f} ms{frozen}")


def checkpoints(rows: Rows) -> None:
    """A table of checkpoints."""
    table = _table("CHECKPOINT", "CONTAINER", "HOST", "SIZE", "AGE")
    for row in rows:
        size = f"{row['size_bytes'] / 1e6:.1f} MB"
        table.add_row(row["id"], f"{row['namespace']}/{row['container']}", row["host"], size, _age(row["created_at"]))
    _print(table, rows, "no checkpoints; take one: migrator checkpoints create HOST/CONTAINER")


def checkpoint(row: dict[str, Any]) -> None:
    """A checkpoint, its parts and the facts of its origin."""
    CONSOLE.print(f"[bold]{row['id']}[/]  {row['namespace']}/{row['container']} of {row['host']}, {row['image']}")
    table = _table("ROLE", "SIZE", "DIGEST")
    for part in row["parts"]:
        table.add_row(part["role"], f"{part['size_bytes'] / 1e6:.2f} MB", part["digest"][:26] + "…")
    CONSOLE.print(table)
    for name, value in row["facts"].items():
        if name.startswith("io.migrator."):
            CONSOLE.print(f"  {name.removeprefix('io.migrator.'):<14}{value}", soft_wrap=True)


def _table(*headings: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for heading in headings:
        table.add_column(heading, justify="right" if heading in ("MS", "SIZE", "MEMORY") else "left")
    return table


def _print(table: Table, rows: Sequence[Any], nothing: str) -> None:
    CONSOLE.print(table if rows else f"[dim]{nothing}[/]")


def _state(state: str) -> str:
    colour = COLOURS.get(state, "cyan")
    return f"[{colour}]{state}[/]"


def _age(moment: str | None) -> str:
    if moment is None:
        return ""
    seconds = (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f}{unit}"
    return f"{max(seconds, 0):.0f}s"
