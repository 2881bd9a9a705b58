"""`migrator report`."""

from __future__ import annotations

import re
from typing import Annotated, Any

import typer

from migrator.cli.arguments import ApiAddress, AsJson
from migrator.cli.asking import asking, limit, show
from migrator.errors import InvalidRequest

UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


def report(
    workload: Annotated[
        str, typer.Argument(metavar="[WORKLOAD]", help="HOST/CONTAINER or a workload's id; all if not said.")
    ] = "",
    namespace: Annotated[str, typer.Option(help="containerd's namespace of a HOST/CONTAINER.")] = "default",
    max_age: Annotated[
        str | None, typer.Option("--max-age", metavar="TIME", help="End with 1 if a newest checkpoint is older: 2h.")
    ] = None,
    max_drill_age: Annotated[
        str | None, typer.Option("--max-drill-age", metavar="TIME", help="The same for the last proven restore: 7d.")
    ] = None,
    as_json: AsJson = False,
    api: ApiAddress = None,
) -> None:
    """Say how well workloads are protected: what would be lost now, and what a restore was seen to take."""
    from migrator.cli import render
    from migrator.cli.plain import report_data
    from migrator.gen.migrator.v1 import reports_pb2

    limits = {"late": read_length(max_age), "unproven": read_length(max_drill_age)}
    with asking(api) as (server, _):
        request = reports_pb2.ReportWorkloadsRequest(workload=workload, namespace=namespace)
        answer = server.reports.ReportWorkloads(request, timeout=limit())
    rows = [judged(report_data(item), limits) for item in answer.workloads]
    show(rows, as_json, render.reports)
    if any(row["faults"] for row in rows):
        raise typer.Exit(1)


def judged(row: dict[str, Any], limits: dict[str, float | None]) -> dict[str, Any]:
    """A row and what of it is worse than it may be: `late`, `unproven`, `drill_failed`."""
    ages = {"late": row["recovery_point_age_s"], "unproven": row["proven_age_s"]}
    faults = [name for name, most in limits.items() if most is not None and (ages[name] is None or ages[name] > most)]
    return {**row, "faults": faults + (["drill_failed"] if row["drill_failure"] else [])}


def read_length(text: str | None) -> float | None:
    """Read a length of time such as 90s, 15m, 2h, 7d.

    Raises:
        InvalidRequest: `bad_length`.
    """
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text.strip())
    if not found:
        raise InvalidRequest(
            f"'{text[:100]}' is no length of time", code="bad_length", remedy="such as 90s, 15m, 2h, 7d"
        )
    return float(found[1]) * UNITS_S[found[2]]
