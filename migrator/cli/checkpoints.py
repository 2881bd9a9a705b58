"""`migrator backup` and `migrator checkpoints`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from migrator.cli.arguments import (
    After,
    ApiAddress,
    AsJson,
    Bandwidth,
    Before,
    ExternalUnix,
    HookTimeout,
    Key,
    OnHookFailure,
    Reference,
    Tcp,
    Volumes,
    Wait,
    Watch,
    bandwidth_words,
    check_namespace,
    hook_words,
    split_reference,
    split_volumes,
    tcp_word,
)
from migrator.cli.asking import asking, limit, show
from migrator.cli.following import run_job
from migrator.cli.inspection import show_checkpoint, show_difference, show_tree, show_usage
from migrator.cli.retention import pin_checkpoint, remove_checkpoints, unpin_checkpoint
from migrator.errors import InvalidRequest

checkpoints_app = typer.Typer(help="Frozen containers in the object store.", no_args_is_help=True)
for name, command in (("remove", remove_checkpoints), ("pin", pin_checkpoint), ("unpin", unpin_checkpoint)):
    checkpoints_app.command(name)(command)


@checkpoints_app.command("create")
def create_checkpoint(
    container: Reference,
    namespace: Annotated[str, typer.Option(help="containerd's namespace.")] = "default",
    tcp: Tcp = "keep",
    volume: Volumes = None,
    external_unix_sockets: ExternalUnix = False,
    before: Before = None,
    after: After = None,
    hook_timeout: HookTimeout = None,
    on_hook_failure: OnHookFailure = "",
    idempotency_key: Key = None,
    wait: Wait = False,
    watch: Watch = False,
    as_json: AsJson = False,
    api: ApiAddress = None,
) -> None:
    """Take a checkpoint; the program is frozen only for the dump."""
    request = _request("JOB_KIND_CHECKPOINT", container, namespace, tcp, volume)
    more = {
        "external_unix_sockets": external_unix_sockets,
        "hooks": hook_words(before, after, hook_timeout, on_hook_failure),
        "idempotency_key": idempotency_key or "",
    }
    run_job(request | more, api, as_json=as_json, wait=wait, watch=watch)


def backup(
    container: Reference,
    namespace: Annotated[str, typer.Option(help="containerd's namespace.")] = "default",
    tcp: Tcp = "keep",
    volume: Volumes = None,
    external_unix_sockets: ExternalUnix = False,
    before: Before = None,
    after: After = None,
    hook_timeout: HookTimeout = None,
    on_hook_failure: OnHookFailure = "",
    bandwidth: Bandwidth = None,
    idempotency_key: Key = None,
    wait: Wait = False,
    watch: Watch = False,
    as_json: AsJson = False,
    api: ApiAddress = None,
) -> None:
    """Back a running container up; only what the store lacks is kept. The program is frozen only for the dump."""
    request = _request("JOB_KIND_BACKUP", container, namespace, tcp, volume)
    more = {
        "external_unix_sockets": external_unix_sockets,
        "hooks": hook_words(before, after, hook_timeout, on_hook_failure),
        **bandwidth_words(bandwidth),
        "idempotency_key": idempotency_key or "",
    }
    run_job(request | more, api, as_json=as_json, wait=wait, watch=watch)


def _request(kind: str, container: str, namespace: str, tcp: str, volume: list[str] | None) -> dict[str, Any]:
    host, name = split_reference(container)
    return {
        "kind": kind,
        "source": host,
        "container": name,
        "namespace": check_namespace(namespace),
        "tcp": tcp_word(tcp),
        "volumes": split_volumes(volume),
    }


@checkpoints_app.command("list")
def list_checkpoints(as_json: AsJson = False, api: ApiAddress = None) -> None:
    """List the catalogue, newest first."""
    from migrator.cli import render
    from migrator.cli.plain import checkpoint_data

    with asking(api) as (server, messages):
        answer = server.checkpoints.ListCheckpoints(messages.ListCheckpointsRequest(), timeout=limit())
    show([checkpoint_data(item) for item in answer.checkpoints], as_json, render.checkpoints)


checkpoints_app.command("show")(show_checkpoint)
checkpoints_app.command("tree")(show_tree)
checkpoints_app.command("diff")(show_difference)
checkpoints_app.command("du")(show_usage)


@checkpoints_app.command("export")
def export_checkpoint(
    checkpoint: Annotated[str, typer.Argument(metavar="CHECKPOINT", help="Its id.")],
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="An OCI archive for `ctr image import`; - is standard output.")
    ],
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    as_json: AsJson = False,
    api: ApiAddress = None,
) -> None:
    """Write a checkpoint as an OCI archive."""
    from migrator.cli.canvas import size
    from migrator.cli.export import STDOUT, write_file

    if file == STDOUT and as_json:
        raise InvalidRequest(
            "the archive and a JSON value cannot both go to standard output",
            code="bad_output",
            remedy="name a file, or leave --json out",
        )
    with asking(api) as (server, messages):
        stream = server.checkpoints.ExportCheckpoint(messages.ExportCheckpointRequest(id=checkpoint))
        size_bytes = write_file((piece.chunk for piece in stream), file, force=force)
    done = {"id": checkpoint, "file": str(file), "size_bytes": size_bytes}
    show(done, as_json, lambda _: typer.echo(f"{file}: {size(size_bytes)}", err=file == STDOUT))
