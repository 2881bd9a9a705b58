"""`migrator checkpoints show`, `tree`, `diff` and `du`: what is inside of a checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from migrator.cli.arguments import ApiAddress, AsJson
from migrator.cli.asking import asking, limit, show
from migrator.errors import IntegrityError, MigratorError, NotFound

if TYPE_CHECKING:
    from migrator.cli.connection import Api

LOOK_S = 120.0
"""Images of many processes, or the list of many changed files, take their time."""
COMPARE_S = 3600.0
"""All memory of two checkpoints is read; Ctrl-C ends it."""
Checkpoint = Annotated[str, typer.Argument(metavar="CHECKPOINT", help="Its id.")]


def show_checkpoint(checkpoint: Checkpoint, as_json: AsJson = False, api: ApiAddress = None) -> None:
    """Show a checkpoint's origin and parts, and what is inside, in figures."""
    from migrator.cli import inspection_render, render
    from migrator.cli.plain import detail_data

    with asking(api) as (server, messages):
        answer = server.checkpoints.GetCheckpoint(messages.GetCheckpointRequest(id=checkpoint), timeout=limit())
    data = detail_data(answer) | _summarise(checkpoint, api)
    show(data, as_json, render.checkpoint)
    if not as_json:
        inspection_render.summary(data)


def show_tree(
    checkpoint: Checkpoint,
    files: Annotated[bool, typer.Option("--files", help="What each process has open.")] = False,
    sockets: Annotated[bool, typer.Option("--sockets", help="Its sockets.")] = False,
    mounts: Annotated[bool, typer.Option("--mounts", help="What is mounted in the container.")] = False,
    memory: Annotated[bool, typer.Option("--memory", help="The ranges of each process's memory.")] = False,
    changed: Annotated[bool, typer.Option("--changed", help="The files that differ from the base image.")] = False,
    as_json: AsJson = False,
    api: ApiAddress = None,
) -> None:
    """Show the processes of a checkpoint, and what they hold."""
    from migrator.cli import inspection_render
    from migrator.cli.inspection_data import contents_data

    with asking(api) as (server, _):
        data = {"id": checkpoint, **contents_data(_inspect(server, checkpoint, memory), with_memory=memory)}
    wanted = {"files": files, "sockets": sockets, "mounts": mounts, "memory": memory, "changed": changed}
    show(data, as_json, lambda row: inspection_render.tree(row, **wanted))


def show_difference(
    before: Annotated[str, typer.Argument(metavar="BEFORE", help="The earlier checkpoint.")],
    after: Annotated[str, typer.Argument(metavar="AFTER", help="The later one.")],
    quick: Annotated[
        bool, typer.Option("--quick", help="Compare which pages of memory there are, not what they hold.")
    ] = False,
    as_json: AsJson = False,
    api: ApiAddress = None,
) -> None:
    """Show how one checkpoint differs from another."""
    from migrator.cli import inspection_render
    from migrator.cli.inspection_data import comparison_data
    from migrator.gen.migrator.v1 import inspection_pb2 as pb

    request = pb.CompareCheckpointsRequest(before=before, after=after, skip_pages=quick)
    with asking(api) as (server, _):
        answer = server.inspection.CompareCheckpoints(request, timeout=COMPARE_S)
    if not answer.same_workload and not as_json:
        typer.secho("These are checkpoints of different workloads.", err=True, fg="yellow")
    show(comparison_data(before, after, answer), as_json, inspection_render.comparison)


def show_usage(
    name: Annotated[
        str, typer.Argument(metavar="[CHECKPOINT|WORKLOAD]", help="A checkpoint, a workload or a container; else all.")
    ] = "",
    as_json: AsJson = False,
    api: ApiAddress = None,
) -> None:
    """Show what checkpoints occupy in the object store, and what they share."""
    from migrator.cli import inspection_render
    from migrator.cli.inspection_data import usage_data
    from migrator.gen.migrator.v1 import inspection_pb2 as pb

    with asking(api) as (server, _):
        answer = server.inspection.MeasureUsage(pb.MeasureUsageRequest(name=name), timeout=LOOK_S)
    show(usage_data(answer), as_json, inspection_render.usage)


def _inspect(server: Api, checkpoint: str, with_memory: bool) -> Any:
    from migrator.gen.migrator.v1 import inspection_pb2 as pb

    request = pb.InspectCheckpointRequest(id=checkpoint, with_memory=with_memory)
    return server.inspection.InspectCheckpoint(request, timeout=LOOK_S)


def _summarise(checkpoint: str, api: str | None) -> dict[str, Any]:
    """What is inside, in figures; of a damaged checkpoint, whose origin and parts are told all the same, why not."""
    from migrator.cli.inspection_data import summary_data

    failure: MigratorError
    try:
        with asking(api) as (server, _):
            return {"inside": summary_data(_inspect(server, checkpoint, False)), "inside_failure": None}
    except (IntegrityError, NotFound) as error:
        failure = error
    return {"inside": None, "inside_failure": failure.to_dict()}
