"""`migrator migrate` and `migrator preflight`."""

from __future__ import annotations

from typing import Annotated

import typer

from migrator.cli.arguments import (
    After,
    ApiAddress,
    AsJson,
    Bandwidth,
    Before,
    Eager,
    ExternalUnix,
    Force,
    HookTimeout,
    InFreeze,
    Key,
    Lazy,
    MaxDowntime,
    ModeWord,
    OnHookFailure,
    PathWord,
    Reference,
    Tcp,
    Volumes,
    Wait,
    Watch,
    bandwidth_words,
    check_namespace,
    hook_words,
    mode_word,
    path_word,
    seconds_of,
    split_reference,
    split_volumes,
    tcp_word,
)
from migrator.cli.following import ask_preflight, run_job


def migrate(
    container: Reference,
    target: Annotated[str, typer.Argument(metavar="TARGET", help="The host it moves to.")],
    namespace: Annotated[str, typer.Option(help="containerd's namespace.")] = "default",
    tcp: Tcp = "keep",
    mode: ModeWord = "auto",
    eager: Eager = False,
    lazy: Lazy = False,
    max_downtime: MaxDowntime = None,
    force: Force = False,
    path: PathWord = "chunks",
    bandwidth: Bandwidth = None,
    bandwidth_in_freeze: InFreeze = False,
    keep_checkpoint: Annotated[bool, typer.Option("--keep-checkpoint", help="Keep the checkpoint afterwards.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would happen; touch nothing.")] = False,
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
    """Move a running container to another host."""
    host, name = split_reference(container)
    request = {
        "kind": "JOB_KIND_MIGRATION",
        "source": host,
        "container": name,
        "target": target,
        "namespace": check_namespace(namespace),
        "volumes": split_volumes(volume),
        "external_unix_sockets": external_unix_sockets,
        "hooks": hook_words(before, after, hook_timeout, on_hook_failure),
        "keep_checkpoint": keep_checkpoint,
        "tcp": tcp_word(tcp),
        "mode": mode_word(mode, eager=eager, lazy=lazy),
        "max_downtime_s": seconds_of(max_downtime),
        "force": force,
        "path": path_word(path),
        **bandwidth_words(bandwidth, bandwidth_in_freeze),
        "idempotency_key": idempotency_key or "",
    }
    if dry_run:
        ask_preflight(request, api, as_json=as_json)
    else:
        run_job(request, api, as_json=as_json, wait=wait, watch=watch)


def preflight(
    container: Reference,
    target: Annotated[str, typer.Argument(metavar="TARGET", help="The host it would move to.")],
    namespace: Annotated[str, typer.Option(help="containerd's namespace.")] = "default",
    tcp: Tcp = "keep",
    mode: ModeWord = "auto",
    max_downtime: MaxDowntime = None,
    volume: Volumes = None,
    external_unix_sockets: ExternalUnix = False,
    as_json: AsJson = False,
    api: ApiAddress = None,
) -> None:
    """Ask whether a container could move. Touches nothing; ends with 1 when a check fails."""
    host, name = split_reference(container)
    request = {
        "source": host,
        "container": name,
        "target": target,
        "namespace": check_namespace(namespace),
        "tcp": tcp_word(tcp),
        "mode": mode_word(mode, eager=False, lazy=False),
        "max_downtime_s": seconds_of(max_downtime),
        "volumes": split_volumes(volume),
        "external_unix_sockets": external_unix_sockets,
    }
    ask_preflight(request, api, as_json=as_json)
