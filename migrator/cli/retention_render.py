"""How reports about the catalogue as a whole look."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from rich.text import Text

from migrator.cli.tables import open_console, size, table

Rows = list[dict[str, Any]]


def report(job: dict[str, Any]) -> None:
    """What such a job reports; nothing of other jobs."""
    if job["forget"] is not None:
        judgements(job["forget"], done=job["state"] == "succeeded" and _removes(job))


def judgements(rows: Rows, *, done: bool) -> None:
    """What is kept and what is not, and why, workload by workload."""
    console = open_console()
    for workload, group in groupby(rows, key=lambda row: str(row["workload_id"])):
        console.print(Text(workload, "bold"))
        shown = table("CHECKPOINT", "TAKEN", "HOST", "CONTAINER", "SIZE", "FATE", "REASONS")
        for row in group:
            fate = Text("keep", "green") if row["keep"] else Text("removed" if done else "remove", "red")
            taken = row["created_at"][:19].replace("T", " ")
            words = ", ".join(row["reasons"])
            shown.add_row(row["id"], taken, row["host"], row["container"], size(row["size_bytes"]), fate, words)
        console.print(shown)
    kept = sum(row["keep"] for row in rows)
    gone = "removed" if done else "would be removed"
    console.print(f"{kept} kept, {len(rows) - kept} {gone}")


def _removes(job: dict[str, Any]) -> bool:
    return any(step["name"] == "forget-checkpoints" and step["status"] == "done" for step in job["steps"])
