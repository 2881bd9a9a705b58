"""How schedules look on a terminal."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from rich.table import Table
from rich.text import Text

from migrator.cli.canvas import open_console, open_table
from migrator.cli.render import COLOURS

Rows = list[dict[str, Any]]
RUN_COLOURS = COLOURS | {"partial": "yellow", "skipped": "dim", "waiting": "yellow"}


def schedules(rows: Rows) -> None:
    """A table of schedules."""
    table = open_table("SCHEDULE", "KIND", "WHEN", "TARGET", "NEXT", "LAST")
    for row in rows:
        last = row["last_run"]
        table.add_row(row["name"], row["kind"], _when(row), _target(row), _next(row), _state(last) if last else "")
    nothing = "no schedules; make one: migrator schedules create NAME backup HOST/CONTAINER --every 1h"
    open_console().print(table if rows else Text(nothing, "dim"))


def written(row: dict[str, Any]) -> None:
    """One line about a schedule that was made or changed."""
    open_console().print(f"schedule {row['name']}: {row['kind']} of {_target(row)}, {_when(row)}; next: {_next(row)}")


def schedule(row: dict[str, Any]) -> None:
    """A schedule and its runs."""
    console = open_console()
    console.print(Text.assemble((row["name"], "bold"), f"  {row['kind']} of {_target(row)}, {_when(row)}"))
    facts = Table(box=None, padding=(0, 2, 0, 2), show_header=False)
    for name, value in _facts(row):
        facts.add_row(name, Text(value, overflow="fold"))
    console.print(facts)
    if row["runs"]:
        console.print(_runs(row["runs"]))


def run(row: dict[str, Any]) -> None:
    """A run that somebody asked for."""
    open_console().print(_runs([row]))


def backfilled(rows: Rows) -> None:
    """Runs of the past that somebody asked for."""
    open_console().print(_runs(rows) if rows else Text("every fire time in this range has run already", "dim"))


def planned(rows: Rows) -> None:
    """Fire times to come."""
    table = open_table("FIRES AT", "UTC", "BEGINS", "IN")
    for row in rows:
        begins = f"skipped: blackout {row['blackout']}" if row["blackout"] else _clock(row["due_at"])
        table.add_row(row["local"], _clock(row["fire_time"]), begins, _distance(row["fire_time"]))
    open_console().print(table if rows else Text("it will never fire again", "dim"))


def _runs(rows: Rows) -> Table:
    table = open_table("FIRE TIME", "STATE", "BY", "JOB", "CONTAINER", "REASON")
    for row in rows:
        times = f" (×{row['count']})" if row["count"] > 1 else ""
        first = (_clock(row["fire_time"]), Text.assemble(_state(row), times), row["cause"])
        for number, act in enumerate(row["acts"] or [None]):
            table.add_row(*(first if number == 0 else ("", "", "")), *_act(act, row))
    return table


def _act(act: dict[str, Any] | None, row: dict[str, Any]) -> tuple[str, str, str]:
    if act is None:
        return "", "", row["reason"] or ""
    failure = (act["failure"] or {}).get("message")
    place = "/".join(filter(None, (act["host"], act["container"])))
    return act["job_id"] or "", place, failure or act["note"] or ""


def _facts(row: dict[str, Any]) -> list[tuple[str, str]]:
    pause = row["paused"]
    told = [
        ("next", _next(row)),
        (
            "paused",
            f"by {pause['actor']}, {_clock(pause['at'])}: {pause['reason'] or 'no reason given'}" if pause else "",
        ),
        ("time zone", row["time_zone"]),
        ("start", row["start"] or ""),
        ("end", row["end"] or ""),
        ("overlap", row["overlap"]),
        ("catch-up", _length(row["catchup_s"])),
        ("jitter", _length(row["jitter_s"]) if row["jitter_s"] else ""),
        ("blackouts", ", ".join(row["blackouts"])),
        (
            "pause after",
            f"{row['pause_after']} failures in a row ({row['failures']} now)" if row["pause_after"] else "",
        ),
        ("keep", ", ".join(f"{name} {value}" for name, value in (row["keep"] or {}).items())),
        ("job", ", ".join(f"{name}={value}" for name, value in row["job"].items())),
    ]
    return [(name, value) for name, value in told if value]


def _when(row: dict[str, Any]) -> str:
    if row["cron"]:
        zone = "" if row["time_zone"] == "UTC" else f" {row['time_zone']}"
        return f"{row['cron']}{zone}"
    return f"every {_length(row['every_s'])}" if row["every_s"] else f"at {row['at']}"


def _target(row: dict[str, Any]) -> str:
    goal = f" → {row['target']}" if row["target"] else ""
    if row["workload"]:
        return f"{row['workload']}{goal}"
    if row["container"]:
        return f"{row['host']}/{row['container']}{goal}"
    where = f"all on {row['host']}" if row["host"] else ""
    return (" ".join(filter(None, (where, row["selector"]))) or ("" if goal else "the store")) + goal


def _next(row: dict[str, Any]) -> str:
    if row["paused"]:
        return "paused"
    return f"in {_distance(row['next_at'])}" if row["next_at"] else "never again"


def _state(row: dict[str, Any]) -> Text:
    return Text(row["state"], RUN_COLOURS.get(row["state"], "cyan"))


def _clock(moment: str) -> str:
    return moment.replace("T", " ")[:19]


def _distance(moment: str) -> str:
    return _length(max(round((datetime.fromisoformat(moment) - datetime.now(UTC)).total_seconds()), 0))


def _length(length_s: int) -> str:
    parts = []
    for unit, size_s in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        number, length_s = divmod(length_s, size_s)
        parts += [f"{number}{unit}"] if number else []
    return "".join(parts[:2]) or "0s"
