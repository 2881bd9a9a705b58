"""How answers look: within the width of a terminal, or one row a line for another program."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from migrator.cli import render_drain, retention_render
from migrator.cli.canvas import open_console, open_table, size

Rows = list[dict[str, Any]]
COLOURS = {"succeeded": "green", "failed": "red", "cancelled": "yellow", "needs_operator": "bold red"}
LEVELS = {
    "fine": "green", "doubtful": "yellow", "wrong": "red",
    "kept": "cyan", "foreign": "dim", "due": "yellow", "removed": "green", "failed": "red",
}  # fmt: skip
GRADES = {"pass": ("✓", "green"), "warn": ("!", "yellow"), "fail": ("✗", "red")}
FACT_SIGNS = 200
"""Processors have some hundred flags."""


def hosts(rows: Rows) -> None:
    """A table of hosts."""
    table = open_table("HOST", "WORKER", "CONTAINERD", "CRIU", "KERNEL", "CPUS")
    for row in rows:
        worker = Text("alive", "green") if row["alive"] else Text(f"silent {_age(row['seen_at'])}", "red")
        if row["cordon"]:
            worker.append(", cordoned", "yellow")
        table.add_row(row["name"], worker, *(str(row.get(key, "")) for key in ("containerd", "criu", "kernel", "cpus")))
    _print(table, rows, "no host has a worker yet; start one: migrator worker --host NAME")


def containers(rows: Rows) -> None:
    """A table of containers."""
    table = open_table("HOST", "NAMESPACE", "CONTAINER", "STATUS", "MEMORY", "IMAGE")
    for row in rows:
        memory = size(row["memory_bytes"]) if row["memory_bytes"] else ""
        table.add_row(row["host"], row["namespace"], row["name"], row["status"], memory, row["image"])
    _print(table, rows, "no containers")


def jobs(rows: Rows) -> None:
    """A table of jobs."""
    table = open_table("JOB", "KIND", "STATE", "FROM", "TO", "AGE")
    for row in rows:
        table.add_row(
            row["id"], row["kind"], _state(row["state"]), _origin(row), row["target"] or "", _age(row["created_at"])
        )
    _print(table, rows, "no jobs")


def job(row: dict[str, Any]) -> None:
    """A job, what each step took, and its figures."""
    goal = f" → {row['target']}" if row["target"] else ""
    if row["rewinds_to"]:  # on its own host
        goal = f" → {row['rewinds_to']}"
    name = f" as {row['new_name']}" if row["new_name"] else ""
    title = Text.assemble((row["id"], "bold"), f"  {row['kind']}  {_origin(row)}{goal}{name}  ", _state(row["state"]))
    table = open_table("PHASE", "STEP", "HOST", "STATUS", "MS")
    for step in row["steps"]:
        took = "" if step["duration_ms"] is None else f"{step['duration_ms']:.0f}"
        table.add_row(step["phase"], step["name"], step["host"] or "control", step["status"], took)
    console = open_console()
    console.print(title, table, sep="\n")
    for measure, value in row["measures"].items():
        if value is not None:
            amount = size(value) if "bytes" in measure else f"{value:.1f} ms"
            console.print(f"  {measure.removesuffix('_ms').replace('_', ' '):<18}{amount:>12}")
    if row["rewinds_to"] and row["state"] == "succeeded":
        console.print(f"  what ran before     {row['checkpoint_id']}, pinned")
    for resolution in row["resolutions"]:
        reason = f": {resolution['reason']}" if resolution["reason"] else ""
        console.print(Text(f"{resolution['actor']} decided to keep the {resolution['keep']}{reason}", "yellow"))
    _print_preflight(console, row["findings"])
    if row["forecast"]:
        (_print_forecast if row["kind"] == "preflight" else _print_expected)(console, row["forecast"])
    if row["dumped"]:
        console.print(f"  dumped              {row['dumped']}", soft_wrap=True)
    if row["restored"]:
        how = {"lazy": "it ran at once and its memory followed", "eager": "with all of its memory at once"}
        why = f": {row['why_eager']}" if row["why_eager"] else ""
        console.print(f"  restored            {row['restored']}, {how[row['restored']]}{why}", soft_wrap=True)
    retention_render.report(row)
    if row["drain"]:
        render_drain.containers(row)
    if row["failure"]:
        console.print(Text(row["failure"]["message"], "red"))
        console.print(f"  → {row['failure']['remedy']}" if row["failure"]["remedy"] else "")


def preflight(row: dict[str, Any]) -> None:
    """What every check saw, host by host, and what the migration would be like."""
    console = open_console()
    title = f"  {row['source']}/{row['container']} → {row['target']}, container in namespace {row['namespace']}"
    console.print(Text.assemble(("preflight", "bold"), title))
    _print_preflight(console, row["findings"])
    if row["forecast"]:
        _print_forecast(console, row["forecast"])
    counts = {grade: sum(found["grade"] == grade for found in row["findings"]) for grade in GRADES}
    verdict = ("it would be refused", "red") if counts["fail"] else ("it can move", "green")
    told = ", ".join(f"{count} {grade}" for grade, count in counts.items() if count)
    console.print(Text.assemble(verdict, f": {told}"))


def _print_preflight(console: Console, findings: Rows) -> None:
    for host in dict.fromkeys(found["host"] for found in findings):
        console.print(Text(host, "bold"))
        table = Table(box=None, padding=(0, 1, 0, 1), show_header=False)
        for found in (found for found in findings if found["host"] == host):
            mark, colour = GRADES[found["grade"]]
            table.add_row(Text(mark, colour), found["check"], Text(found["message"] or "", overflow="fold"))
            if found["remedy"]:
                table.add_row("", "", Text(f"→ {found['remedy']}", overflow="fold"))
        console.print(table)


def _print_forecast(console: Console, forecast: dict[str, Any]) -> None:
    console.print(Text("it would", "bold"))
    for step in forecast["steps"]:
        console.print(f"   {step['phase']:<12}{step['name']:<16}{step['host'] or 'control'}")
    console.print(Text("and move", "bold"))
    console.print(f"   checkpoint        {size(forecast['checkpoint_bytes'])} of memory and changed files")
    image = (
        f"{size(forecast['image_upload_bytes'])} to the store, {size(forecast['image_download_bytes'])} to the target"
    )
    console.print(f"   base image        {image}, before the freeze")
    console.print(f"   frozen for about  {forecast['freeze_ms']:.0f} ms, by {forecast['basis']}", soft_wrap=True)
    console.print(f"   memory            {forecast['mode']}: {forecast['why']}", soft_wrap=True)
    _print_limit(console, forecast)


def _print_expected(console: Console, forecast: dict[str, Any]) -> None:
    """What a migration expected right before its freeze; what came of it stands among its figures."""
    console.print(f"  expected freeze     {forecast['freeze_ms']:.0f} ms, by {forecast['basis']}", soft_wrap=True)
    console.print(f"  chosen              {forecast['mode']}: {forecast['why']}", soft_wrap=True)
    seen = [
        f"{what} {size(round(forecast[name]))}/s"
        for name, what in (("change_bytes_s", "changed"), ("store_bytes_s", "to the store"))
        if forecast[name] is not None
    ]
    if seen:
        console.print(f"  measured before     {', '.join(seen)}")
    _print_limit(console, forecast)


def _print_limit(console: Console, forecast: dict[str, Any]) -> None:
    if forecast["limit_ms"] is not None:
        kept = "within" if forecast["freeze_ms"] <= forecast["limit_ms"] else "[red]more than[/]"
        console.print(f"   allowed           {forecast['limit_ms']:.0f} ms: the forecast is {kept} that")


def clones(rows: Rows) -> None:
    """A table of what was restored at once."""
    table = open_table("JOB", "NAME", "TO", "STATE", "MS")
    for row in rows:
        took = row["measures"]["total_ms"]
        name = row["new_name"] or ""
        table.add_row(row["id"], name, row["target"] or "", _state(row["state"]), "" if took is None else f"{took:.0f}")
    _print(table, rows, "nothing")


def reports(rows: Rows) -> None:
    """How well each workload is protected."""
    table = open_table("HOST", "NAMESPACE", "CONTAINER", "CHECKPOINTS", "NEWEST", "PROVEN", "RESTORE", "FAULTS")
    for row in rows:
        proven = f"{_age(row['proven_at'])} ago" if row["proven_at"] else Text("never", "yellow")
        restore = "" if row["recovery_time_s"] is None else f"{row['recovery_time_s']:.1f} s"
        faults = Text(", ".join(row["faults"]), "red")
        newest = f"{_age(row['newest_at'])} ago" if row["newest_at"] else "none"
        names = (row["host"], row["namespace"], row["container"])
        table.add_row(*names, str(row["checkpoints"]), newest, proven, restore, faults)
    _print(table, rows, "no workload has a checkpoint; take one: migrator checkpoints create HOST/CONTAINER")
    for row in rows:
        if row["drill_failure"]:
            told = f"{row['host']}/{row['container']}: the last drill failed: {row['drill_failure']}"
            open_console().print(Text(told, "red"), soft_wrap=True)


def verdict(row: dict[str, Any]) -> None:
    """One line about a job that goes well."""
    if row["state"] != "succeeded":
        open_console().print(f"preflight is done; follow it: migrator jobs watch {row['id']}")
        return
    freeze_ms, total_ms = row["measures"]["freeze_ms"], row["measures"]["total_ms"]
    frozen = f", frozen for {freeze_ms:.0f} ms" if freeze_ms is not None else ""
    kept = f"; checkpoint {row['checkpoint_id']}" if row["kind"] in ("checkpoint", "backup") else ""
    kept = f"; checkpoint {row['checkpoint_id']} is proven" if row["kind"] == "drill" else kept
    kept = f"; what ran before is {row['checkpoint_id']}, pinned" if row["kind"] == "rewind" else kept
    open_console().print(Text.assemble(_state(row["state"]), f" in {total_ms or 0:.0f} ms{frozen}{kept}"))


def checkpoints(rows: Rows) -> None:
    """A table of checkpoints."""
    table = open_table("CHECKPOINT", "NAMESPACE", "CONTAINER", "HOST", "KIND", "SIZE", "STORED", "AGE", "MARKS")
    for row in rows:
        table.add_row(
            row["id"],
            row["namespace"],
            row["container"],
            row["host"],
            "backup" if row["backup"] else "checkpoint",
            size(row["size_bytes"]),
            size(row["stored_bytes"]) if row["stored_bytes"] else "–",
            _age(row["created_at"]),
            _marks(row),
        )
    _print(table, rows, "no checkpoints; take one: migrator checkpoints create HOST/CONTAINER")


def _marks(row: dict[str, Any]) -> Text:
    """In a word each: does it stay, and what did a verification find."""
    marks = [("pinned", "cyan")] if row["pinned_at"] else []
    if row["damage"]:
        marks.append(("damaged", "red"))
    elif row["verified_at"]:
        marks.append(("verified", "green"))
    return Text(", ").join(Text(*mark) for mark in marks)


def checkpoint(row: dict[str, Any]) -> None:
    """A checkpoint, its parts and the facts of its origin."""
    console = open_console()
    origin = f"  {row['namespace']}/{row['container']} of {row['host']}, {row['image']}, {size(row['size_bytes'])}"
    proof = _proof(row)
    table = open_table("ROLE", "SIZE", "DIGEST")
    for part in row["parts"]:
        table.add_row(part["role"], size(part["size_bytes"]), part["digest"][:26] + "…")
    console.print(Text.assemble((row["id"], "bold"), origin), *proof, table, sep="\n")
    if row["pinned_at"]:
        console.print(f"  pinned        {row['pin_reason'] or 'without a reason'}, {_age(row['pinned_at'])} ago")
    if row["verified_at"]:
        found = Text(row["damage"], "red") if row["damage"] else Text("all there", "green")
        console.print(Text.assemble("  verified      ", found, f", {_age(row['verified_at'])} ago"))
    for name, value in row["facts"].items():
        if name.startswith("io.migrator."):
            short = value if len(value) <= FACT_SIGNS else f"{value[:FACT_SIGNS]}… (see --json)"
            console.print(f"  {name.removeprefix('io.migrator.'):<14}{short}", soft_wrap=True)


def _proof(row: dict[str, Any]) -> list[Text]:
    """What drills have shown of a checkpoint."""
    told = []
    if row["proven_at"]:
        took = f", restored in {row['restore_s']:.1f} s" if row["restore_s"] else ""
        told.append(Text(f"  proven {_age(row['proven_at'])} ago{took}", "green"))
    if row["drill_failure"]:
        told.append(Text(f"  drill failed {_age(row['drilled_at'])} ago: {row['drill_failure']}", "red"))
    return told


def examinations(rows: Rows) -> None:
    """How each host is, and what lies about on it."""
    console = open_console()
    if not rows:
        console.print("no host has a worker yet; start one: migrator worker --host NAME")
    for row in rows:
        console.print(Text.assemble((row["host"], "bold"), "" if row["failure"] is None else ("  no answer", "red")))
        _print_checks(console, row["checks"])
        _print_findings(console, row["findings"])


def _print_checks(console: Console, checks: Rows) -> None:
    table = Table(box=None, padding=(0, 2, 0, 2), show_header=False)
    for check in checks:
        table.add_row(
            check["name"], Text(check["level"], LEVELS[check["level"]]), Text(check["value"], overflow="fold")
        )
        if check["remedy"]:
            table.add_row("", "", f"→ {check['remedy']}")
    if checks:
        console.print(table)


def _print_findings(console: Console, findings: Rows) -> None:
    for finding in findings:
        place = f"{finding['namespace']}/" if finding["namespace"] else ""
        job = f", job {finding['job_id']}" if finding["job_id"] else ""
        since = f", {_age(finding['since'])} old" if finding["since"] else ""
        fate = (finding["fate"], LEVELS[finding["fate"]])
        console.print(Text.assemble("  ", fate, f"  {finding['kind']} {place}{finding['name']}{since}{job}"))
        console.print(f"    {finding['reason']}", soft_wrap=True)


def _print(table: Table, rows: Rows, nothing: str) -> None:
    open_console().print(table if rows else Text(nothing, "dim"))


def _origin(row: dict[str, Any]) -> str:
    return "/".join(filter(None, (row["source"], row["container"]))) or row["checkpoint_id"] or ""


def _state(state: str) -> Text:
    return Text(state, COLOURS.get(state, "cyan"))


def _age(moment: str | None) -> str:
    if moment is None:
        return ""
    seconds = (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()
    for unit, length_s in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length_s:
            return f"{seconds / length_s:.0f}{unit}"
    return f"{max(seconds, 0):.0f}s"
