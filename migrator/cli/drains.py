"""`migrator drain`."""

from __future__ import annotations

import re
import sys
from typing import Annotated, Any

import typer

from migrator.cli.arguments import ApiAddress, AsJson, ExternalUnix, Key, Tcp, Wait, Watch, check_namespace, tcp_word
from migrator.cli.asking import asking, limit
from migrator.cli.following import conclude, follow, going_on
from migrator.errors import InvalidRequest

UNITS_S = {"d": 86400, "h": 3600, "m": 60, "s": 1}
STAYING = ("refused", "failed")


def drain(
    host: Annotated[str, typer.Argument(metavar="HOST", help="The host to empty, or to fill again.")],
    to: Annotated[list[str] | None, typer.Option("--to", metavar="HOST", help="Only to this host; repeatable.")] = None,
    selector: Annotated[
        str, typer.Option("-l", "--selector", help="Only containers with these labels: app=web,tier!=db.")
    ] = "",
    namespace: Annotated[
        list[str] | None, typer.Option(help="Only this namespace; repeatable. All by default.")
    ] = None,
    parallel: Annotated[int, typer.Option(min=1, max=64, help="Containers on their way at once.")] = 4,
    tcp: Tcp = "keep",
    external_unix_sockets: ExternalUnix = False,
    skip_refused: Annotated[bool, typer.Option("--skip-refused", help="What cannot move is no failure.")] = False,
    return_after: Annotated[
        str | None, typer.Option(metavar="TIME", help="Bring everything back so long after the end: 90m, 2h, 1d.")
    ] = None,
    back: Annotated[
        bool, typer.Option("--return", help="Bring back what was moved off HOST, and uncordon it.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the plan; change nothing.")] = False,
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Do not ask.")] = False,
    idempotency_key: Key = None,
    wait: Wait = False,
    watch: Watch = False,
    as_json: AsJson = False,
    api: ApiAddress = None,
) -> None:
    """Move every container off a host, to others chosen by room and preflight; it takes no new ones from then on."""
    options: dict[str, Any] = {
        "targets": to or [],
        "selector": selector,
        "namespaces": [check_namespace(name) for name in namespace or []],
        "parallel": parallel,
        "skip_refused": skip_refused,
        "return_after_s": seconds(return_after) if return_after else None,
    }
    request = {
        "kind": "JOB_KIND_RETURN" if back else "JOB_KIND_DRAIN",
        "target" if back else "source": host,
        "tcp": tcp_word(tcp),
        "external_unix_sockets": external_unix_sockets,
        "drain": options,
    }
    if dry_run:
        _show_plan(request, api, as_json=as_json)
        return
    if not yes:
        options["plan_id"] = _confirm(request, api, as_json=as_json)
    request["idempotency_key"] = idempotency_key or ""
    _perform(request, api, as_json=as_json, to_end=wait or watch, watch=watch)


def seconds(text: str) -> float:
    """Read a duration such as 90m or 1h30m.

    Raises:
        InvalidRequest: `bad_duration`.
    """
    if not re.fullmatch(r"(\d+[dhms])+", text):
        raise InvalidRequest(f"'{text}' is no duration", code="bad_duration", remedy="write such as 90m, 2h or 1h30m")
    return float(sum(int(number) * UNITS_S[unit] for number, unit in re.findall(r"(\d+)([dhms])", text)))


def _plan(request: dict[str, Any], api: str | None) -> Any:
    """Let the controller make the plan, and wait for it."""
    dry = request | {"drain": request["drain"] | {"dry_run": True}}
    with asking(api) as (server, messages):
        job = server.jobs.CreateJob(messages.CreateJobRequest(**dry), timeout=limit()).job
        return follow(server, messages, job.id, shown=False)


def _show_plan(request: dict[str, Any], api: str | None, *, as_json: bool) -> None:
    """Print the plan; ends with 1 when something would stay."""
    from migrator.cli import render_drain
    from migrator.cli.plain import job_data

    job = _plan(request, api)
    data = job_data(job)
    if as_json or data["state"] != "succeeded":
        conclude(job, as_json)
    else:
        render_drain.plan(data)
    if any(row["status"] in STAYING for row in data["drain"]["containers"]):
        raise typer.Exit(1)


def _confirm(request: dict[str, Any], api: str | None, *, as_json: bool) -> str:
    """Show the plan and ask; returns the plan's id.

    Raises:
        InvalidRequest: `not_confirmed`, there is nobody to ask.
    """
    from migrator.cli import render_drain
    from migrator.cli.plain import job_data

    if as_json or not sys.stdin.isatty():
        raise InvalidRequest(
            "a drain shows its plan and asks first, and there is no terminal to ask on",
            code="not_confirmed",
            remedy="look at the plan with --dry-run, then say --yes",
        )
    job = _plan(request, api)
    data = job_data(job)
    if data["state"] != "succeeded":
        conclude(job, as_json)
    render_drain.plan(data)
    typer.confirm("go on?", abort=True)
    return str(job.id)


def _perform(request: dict[str, Any], api: str | None, *, as_json: bool, to_end: bool, watch: bool) -> None:
    from migrator.cli import render_drain
    from migrator.cli.plain import job_data

    with asking(api) as (server, messages):
        job = server.jobs.CreateJob(messages.CreateJobRequest(**request), timeout=limit()).job
    if not as_json:
        typer.echo(f"job {job.id}")
    with going_on(job.id), asking(api) as (server, messages):
        job = follow(server, messages, job.id, shown=watch and not as_json, until_accepted=not to_end)
    if not as_json:
        render_drain.containers(job_data(job))
    conclude(job, as_json)
