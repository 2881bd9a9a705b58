"""`migrator forget`, and what is said about single checkpoints."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from migrator.cli.arguments import ApiAddress, AsJson, Key, check_namespace, split_reference
from migrator.cli.asking import asking, limit, show
from migrator.cli.following import conclude, follow, going_on
from migrator.errors import InvalidRequest

Ids = Annotated[list[str], typer.Argument(metavar="CHECKPOINT...", help="Their ids.")]


def _rule(name: str, words: str) -> Any:
    return typer.Option(name, metavar="N", help=f"{words} -1: all.", rich_help_panel="What is kept")


def forget(
    what: Annotated[
        str | None, typer.Argument(metavar="[WORKLOAD|HOST/CONTAINER]", help="Whose checkpoints; or --all.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Of every workload, each by itself.")] = False,
    keep_last: Annotated[int, _rule("--keep-last", "The newest N.")] = 0,
    keep_hourly: Annotated[int, _rule("--keep-hourly", "The newest of each of N hours.")] = 0,
    keep_daily: Annotated[int, _rule("--keep-daily", "The newest of each of N days.")] = 0,
    keep_weekly: Annotated[int, _rule("--keep-weekly", "The newest of each of N weeks.")] = 0,
    keep_monthly: Annotated[int, _rule("--keep-monthly", "The newest of each of N months.")] = 0,
    keep_yearly: Annotated[int, _rule("--keep-yearly", "The newest of each of N years.")] = 0,
    keep_within: Annotated[
        str,
        typer.Option(
            metavar="DURATION",
            help="All so much older than the newest or younger: 14d, 36h, 2w, 1y6m.",
            rich_help_panel="What is kept",
        ),
    ] = "",
    keep_min: Annotated[
        int, typer.Option(metavar="N", help="At least N, the newest.", rich_help_panel="What is kept")
    ] = 0,
    time_zone: Annotated[
        str, typer.Option(metavar="ZONE", help="Where days begin.", rich_help_panel="What is kept")
    ] = "UTC",
    namespace: Annotated[str, typer.Option(help="containerd's namespace of HOST/CONTAINER.")] = "default",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be kept and why; remove nothing.")
    ] = False,
    and_prune: Annotated[bool, typer.Option("--prune", help="Prune afterwards, with the default grace time.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Even if nothing of a workload is left.")] = False,
    idempotency_key: Key = None,
    as_json: AsJson = False,
    api: ApiAddress = None,
) -> None:
    """Remove the checkpoints that no rule keeps. Pinned ones, and those that a job works with, stay."""
    policy = {
        "last": keep_last,
        "hourly": keep_hourly,
        "daily": keep_daily,
        "weekly": keep_weekly,
        "monthly": keep_monthly,
        "yearly": keep_yearly,
        "within": keep_within,
        "minimum": keep_min,
        "time_zone": time_zone,
    }
    asked = _selection(what, everything=everything) | {"policy": policy, "dry_run": dry_run, "force": force}
    asked["prune"] = and_prune
    request = {
        "kind": "JOB_KIND_FORGET",
        "namespace": check_namespace(namespace),
        "forget": asked,
        "idempotency_key": idempotency_key or "",
    }
    run_to_end(request, api, as_json=as_json)


def prune(
    grace: Annotated[
        str, typer.Option(metavar="DURATION", help="Between mark and deletion: 36h, 1d; 0: the next run deletes.")
    ] = "1d",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    idempotency_key: Key = None,
    as_json: AsJson = False,
    api: ApiAddress = None,
) -> None:
    """Free what no checkpoint needs: mark it now, and delete what an earlier run marked a grace time ago."""
    asked = {"grace_s": read_grace(grace), "dry_run": dry_run}
    request = {"kind": "JOB_KIND_PRUNE", "prune": asked, "idempotency_key": idempotency_key or ""}
    run_to_end(request, api, as_json=as_json)


def verify(
    read_data: Annotated[bool, typer.Option("--read-data", help="Read every byte.")] = False,
    read_data_subset: Annotated[
        str, typer.Option(metavar="SHARE", help="Read some: 5% by chance, or 2/7, the second of seven parts.")
    ] = "",
    repair: Annotated[bool, typer.Option("--repair", help="Mend what can be mended.")] = False,
    idempotency_key: Key = None,
    as_json: AsJson = False,
    api: ApiAddress = None,
) -> None:
    """See that everything is there that the checkpoints need. Ends with 10 when one is damaged."""
    if read_data and read_data_subset:
        raise InvalidRequest(
            "--read-data reads all of it",
            code="bad_subset",
            remedy="leave one of --read-data and --read-data-subset out",
        )
    asked = {"read_data": "all" if read_data else read_data_subset, "repair": repair}
    request = {"kind": "JOB_KIND_VERIFICATION", "verify": asked, "idempotency_key": idempotency_key or ""}
    run_to_end(request, api, as_json=as_json)


catalog_app = typer.Typer(help="The list of checkpoints in the SQL database.", no_args_is_help=True)


@catalog_app.command("rebuild")
def rebuild_catalog(as_json: AsJson = False, api: ApiAddress = None) -> None:
    """Bring the checkpoints of the object store back into the catalogue. What is there already stays as it is."""
    run_to_end({"kind": "JOB_KIND_VERIFICATION", "verify": {"rebuild": True}}, api, as_json=as_json)


def read_grace(text: str) -> float:
    """Read a grace time, in seconds.

    Raises:
        InvalidRequest: `bad_duration`.
    """
    seconds = {"d": 86400, "h": 3600, "m": 60, "s": 1}
    number, unit = (text, "s") if text == "0" else (text[:-1], text[-1:])
    if not (number.isascii() and number.isdigit() and len(number) < 9 and unit in seconds):
        raise InvalidRequest(
            f"'{text[:50]}' is no grace time", code="bad_duration", remedy="write it like 1d, 36h, 30m, 10s or 0"
        )
    return float(int(number) * seconds[unit])


def remove_checkpoints(checkpoints: Ids, as_json: AsJson = False, api: ApiAddress = None) -> None:
    """Remove checkpoints, whatever a policy says. Refused for pinned ones and while a job works with one."""
    run_to_end({"kind": "JOB_KIND_FORGET", "forget": {"checkpoint_ids": checkpoints}}, api, as_json=as_json)


def pin_checkpoint(
    checkpoint: Annotated[str, typer.Argument(metavar="CHECKPOINT", help="Its id.")],
    reason: Annotated[str, typer.Option(help="Why, for those who come after.")] = "",
    as_json: AsJson = False,
    api: ApiAddress = None,
) -> None:
    """Keep a checkpoint whatever a policy says, until it is unpinned."""
    from migrator.gen.migrator.v1 import retention_pb2

    with asking(api) as (server, _):
        request = retention_pb2.PinCheckpointRequest(id=checkpoint, reason=reason)
        server.retention.PinCheckpoint(request, timeout=limit())
    data = {"id": checkpoint, "pinned": True, "reason": reason or None}
    show(data, as_json, lambda _: typer.echo(f"checkpoint {checkpoint} is pinned"))


def unpin_checkpoint(
    checkpoint: Annotated[str, typer.Argument(metavar="CHECKPOINT", help="Its id.")],
    as_json: AsJson = False,
    api: ApiAddress = None,
) -> None:
    """Leave a checkpoint to the policies again."""
    from migrator.gen.migrator.v1 import retention_pb2

    with asking(api) as (server, _):
        server.retention.UnpinCheckpoint(retention_pb2.UnpinCheckpointRequest(id=checkpoint), timeout=limit())
    show({"id": checkpoint, "pinned": False}, as_json, lambda _: typer.echo(f"checkpoint {checkpoint} is unpinned"))


def run_to_end(request: dict[str, Any], api: str | None, *, as_json: bool) -> None:
    """Create a job, wait for its end, and show what it reports."""
    from migrator.cli import retention_render
    from migrator.cli.plain import job_data

    with asking(api) as (server, messages):
        job = server.jobs.CreateJob(messages.CreateJobRequest(**request), timeout=limit()).job
    with going_on(job.id), asking(api) as (server, messages):
        job = follow(server, messages, job.id, shown=False)
    if not as_json:
        retention_render.report(job_data(job))
    conclude(job, as_json)


def _selection(what: str | None, *, everything: bool) -> dict[str, Any]:
    if everything is (what is not None):
        raise InvalidRequest(
            "say whose checkpoints" if what is None else "--all is every workload",
            code="bad_selection",
            remedy="name a workload or HOST/CONTAINER, or say --all",
        )
    if what is None:
        return {"everything": True}
    if "/" in what:
        host, container = split_reference(what)
        return {"host": host, "container": container}
    return {"workload_id": what}
