"""`migrator hosts`, `migrator containers` and `migrator doctor`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from migrator.cli.arguments import ApiAddress, AsJson
from migrator.cli.asking import asking, limit, show, tell, who
from migrator.errors import KINDS, InvalidRequest

hosts_app = typer.Typer(help="Hosts with a worker.", no_args_is_help=True)
containers_app = typer.Typer(help="What runs where.", no_args_is_help=True)


@hosts_app.command("list")
def list_hosts(as_json: AsJson = False, api: ApiAddress = None) -> None:
    """List hosts and whether their workers live."""
    from migrator.cli import render
    from migrator.cli.plain import host_data

    with asking(api) as (server, messages):
        answer = server.hosts.ListHosts(messages.ListHostsRequest(), timeout=limit())
    show([host_data(host) for host in answer.hosts], as_json, render.hosts)


@hosts_app.command("cordon")
def cordon_host(
    host: Annotated[str, typer.Argument(metavar="HOST", help="Its name.")],
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "",
    as_json: AsJson = False,
    api: ApiAddress = None,
) -> None:
    """Let a host take no new containers; what runs there stays."""
    from migrator.cli.plain import host_data

    with asking(api) as (server, messages):
        request = messages.CordonHostRequest(host=host, actor=who(), reason=reason)
        answer = server.hosts.CordonHost(request, timeout=limit())
    show(host_data(answer.host), as_json, lambda data: typer.echo(f"host {data['name']} takes no new containers"))


@hosts_app.command("uncordon")
def uncordon_host(
    host: Annotated[str, typer.Argument(metavar="HOST", help="Its name.")],
    as_json: AsJson = False,
    api: ApiAddress = None,
) -> None:
    """Let a host take containers again. What a drain has moved stays away: `migrator drain HOST --return`."""
    from migrator.cli.plain import host_data

    with asking(api) as (server, messages):
        request = messages.UncordonHostRequest(host=host, actor=who())
        answer = server.hosts.UncordonHost(request, timeout=limit())
    show(host_data(answer.host), as_json, lambda data: typer.echo(f"host {data['name']} takes containers again"))


@hosts_app.command("remove")
def remove_host(
    host: Annotated[str, typer.Argument(metavar="HOST", help="Its name.")],
    gone: Annotated[bool, typer.Option("--gone", help="It is switched off or destroyed; nothing of it runs.")] = False,
    as_json: AsJson = False,
    api: ApiAddress = None,
) -> None:
    """Say that a host is gone for good: jobs no longer wait for it, and what it had sealed is kept."""
    if not gone:
        raise InvalidRequest(
            f"whatever is frozen on host '{host}' could run again if the machine comes back",
            code="not_gone",
            remedy=f"switch it off for good, then say so: migrator hosts remove {host} --gone",
        )
    with asking(api) as (server, messages):
        request = messages.RemoveHostRequest(host=host, actor=who())
        jobs = list(server.hosts.RemoveHost(request, timeout=limit()).jobs)
    show({"host": host, "jobs": jobs}, as_json, _tell_removed)


def _tell_removed(data: dict[str, Any]) -> None:
    typer.echo(f"host {data['host']} is removed")
    for job in data["jobs"]:
        typer.echo(f"job {job} goes on without it: migrator jobs show {job}")


@containers_app.command("list")
def list_containers(
    host: Annotated[str | None, typer.Argument(metavar="[HOST]", help="Only this host.")] = None,
    as_json: AsJson = False,
    api: ApiAddress = None,
) -> None:
    """Ask the hosts what they run, just now."""
    from migrator.cli import render
    from migrator.cli.plain import container_data, failure_data

    with asking(api) as (server, messages):
        answer = server.hosts.ListContainers(messages.ListContainersRequest(host=host or ""), timeout=limit())
    show([container_data(item) for item in answer.containers], as_json, render.containers)
    for failure in answer.failures:
        tell(failure_data(failure))
    if answer.failures:
        raise typer.Exit(KINDS[answer.failures[0].kind].exit_code)


def doctor(
    host: Annotated[str | None, typer.Argument(metavar="[HOST]", help="Only this host.")] = None,
    fix: Annotated[bool, typer.Option("--fix", help="Remove what nobody needs any more.")] = False,
    as_json: AsJson = False,
    api: ApiAddress = None,
) -> None:
    """Ask the hosts how they are and what lies about on them. Ends with 1 when something is wrong."""
    from migrator.cli import render
    from migrator.cli.connection import FIX_S
    from migrator.cli.plain import examination_data

    with asking(api) as (server, messages):
        request = messages.ExamineHostsRequest(host=host or "", fix=fix)
        answer = server.hosts.ExamineHosts(request, timeout=FIX_S if fix else limit())
    rows = [examination_data(item) for item in answer.hosts]
    show(rows, as_json, render.examinations)
    silent = [row["failure"] for row in rows if row["failure"]]
    for failure in silent:
        tell(failure)
    if silent:
        raise typer.Exit(KINDS[silent[0]["kind"]].exit_code)
    if any(is_ill(row) for row in rows):
        raise typer.Exit(1)


def is_ill(examined: dict[str, Any]) -> bool:
    """Whether something is wrong with a host, or a crash has left something there.

    The epoch of a workload that is gone is no such thing: every workload leaves one, and a sweep removes it.
    """
    wrong = any(check["level"] == "wrong" for check in examined["checks"])
    return wrong or any(
        finding["fate"] == "failed" or (finding["fate"] == "due" and finding["kind"] != "epoch")
        for finding in examined["findings"]
    )
