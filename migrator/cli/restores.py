"""`migrator restore` and `migrator drill`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from migrator.cli.arguments import (
    ApiAddress,
    AsJson,
    Bandwidth,
    Eager,
    Key,
    Lazy,
    ModeWord,
    Tcp,
    Volumes,
    Wait,
    Watch,
    bandwidth_words,
    mode_word,
    split_volumes,
    tcp_word,
)
from migrator.cli.following import run_job, run_jobs
from migrator.cli.times import read_moment
from migrator.errors import InvalidRequest

MOST_CLONES = 100
NUMBER = "{n}"
What = Annotated[
    str,
    typer.Argument(metavar="CHECKPOINT", help="Its id; or HOST/CONTAINER or a workload's id, its newest checkpoint."),
]
At = Annotated[
    str | None, typer.Option("--at", metavar="TIME", help="Of a workload: the newest checkpoint of then or before.")
]
Zone = Annotated[
    str | None, typer.Option("--zone", help="The zone of --at, such as Europe/Berlin; this machine's own if not said.")
]
Namespace = Annotated[str, typer.Option(help="containerd's namespace of a HOST/CONTAINER.")]


def restore(
    what: What,
    hosts: Annotated[list[str], typer.Argument(metavar="HOST...", help="Where to; clones take turns on several.")],
    name: Annotated[
        list[str] | None, typer.Option("--name", help="Under another name; {n} in it counts clones. May be repeated.")
    ] = None,
    count: Annotated[
        int | None, typer.Option("--count", min=1, max=MOST_CLONES, help="So many clones at once.")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="In the place of what runs there, which is kept as a checkpoint.")
    ] = False,
    at: At = None,
    zone: Zone = None,
    volumes_at: Annotated[
        str, typer.Option("--volumes-at", metavar="DIR", help="Make volumes below this directory and the name.")
    ] = "",
    network: Annotated[
        str, typer.Option("--network", help="keep, or none: alone, with the addresses that it knows.")
    ] = "keep",
    namespace: Namespace = "default",
    bandwidth: Bandwidth = None,
    mode: ModeWord = "auto",
    eager: Eager = False,
    lazy: Lazy = False,
    tcp: Tcp = "keep",
    volume: Volumes = None,
    idempotency_key: Key = None,
    wait: Wait = False,
    watch: Watch = False,
    as_json: AsJson = False,
    api: ApiAddress = None,
) -> None:
    """Bring a checkpoint to life: under its own name, under another, as many clones, or in the place of what runs."""
    request = {
        "kind": "JOB_KIND_RESTORE",
        **checkpoint_words(what, at, zone, namespace),
        "tcp": tcp_word(tcp),
        "mode": mode_word(mode, eager=eager, lazy=lazy),
        "volumes": split_volumes(volume),
        "volumes_at": volumes_at,
        "network": network,
        **bandwidth_words(bandwidth),
    }
    if replace:
        asked = request | replaced_words(hosts, name or [], count)
        run_job(asked | {"idempotency_key": idempotency_key or ""}, api, as_json=as_json, wait=wait, watch=watch)
        return
    names = clone_names(name or [], count, len(hosts))
    many = len(names) > 1
    requests: list[dict[str, Any]] = [
        {
            **request,
            "target": hosts[number % len(hosts)],
            "new_name": clone,
            "idempotency_key": f"{idempotency_key}-{number + 1}" if idempotency_key and many else idempotency_key or "",
        }
        for number, clone in enumerate(names)
    ]
    if many:
        run_jobs(requests, api, as_json=as_json, wait=wait or watch)
    else:
        run_job(requests[0], api, as_json=as_json, wait=wait, watch=watch)


def drill(
    what: What,
    host: Annotated[str, typer.Argument(metavar="HOST", help="Where to.")],
    probe: Annotated[
        str | None, typer.Option("--probe", metavar="CMD", help="Run in it until it succeeds; else it must only run.")
    ] = None,
    probe_timeout: Annotated[
        float | None, typer.Option("--probe-timeout", metavar="SECONDS", help="How long; 30, and 5 without a probe.")
    ] = None,
    at: At = None,
    zone: Zone = None,
    namespace: Namespace = "default",
    volume: Volumes = None,
    idempotency_key: Key = None,
    wait: Wait = False,
    watch: Watch = False,
    as_json: AsJson = False,
    api: ApiAddress = None,
) -> None:
    """Prove that a checkpoint can be restored: on a sandbox that nothing leads out of, thrown away in every case."""
    if probe_timeout is not None and probe_timeout <= 0:
        raise InvalidRequest(
            f"a probe cannot take {probe_timeout:g} s", code="bad_probe", remedy="give it some seconds"
        )
    request = {
        "kind": "JOB_KIND_DRILL",
        **checkpoint_words(what, at, zone, namespace),
        "target": host,
        "probe": {"command": probe or "", "timeout_s": probe_timeout or 0},
        "volumes": split_volumes(volume),
        "idempotency_key": idempotency_key or "",
    }
    run_job(request, api, as_json=as_json, wait=wait, watch=watch)


def checkpoint_words(what: str, at: str | None, zone: str | None, namespace: str) -> dict[str, Any]:
    """Read which checkpoint is meant: the id of one, or a workload and a time.

    Raises:
        InvalidRequest: `bad_time`, or `bad_checkpoint`: an id has no time.
    """
    moment = read_moment(at, zone) if at else None
    if zone and not at:
        raise InvalidRequest("a zone is nothing without a time", code="bad_time", remedy="add --at 'DATE TIME'")
    if what.startswith("ck-"):
        if moment:
            raise InvalidRequest(
                f"'{what}' is one checkpoint, and --at chooses among those of a workload",
                code="bad_checkpoint",
                remedy="name HOST/CONTAINER or a workload's id, or leave --at out",
            )
        return {"checkpoint_id": what}
    return {"workload": what, "at": moment, "namespace": namespace}


def replaced_words(hosts: list[str], names: list[str], count: int | None) -> dict[str, Any]:
    """Read what a rewind replaces: one container on one host; without a name the one that the checkpoint is of.

    Raises:
        InvalidRequest: `bad_clones`.
    """
    if len(hosts) > 1 or len(names) > 1 or count is not None or any(NUMBER in name for name in names):
        raise InvalidRequest(
            "only one container can be replaced at a time",
            code="bad_clones",
            remedy="name one HOST, and its container by --name if it is not called as the checkpoint's",
        )
    return {"kind": "JOB_KIND_REWIND", "source": hosts[0], "container": "".join(names)}


def clone_names(names: list[str], count: int | None, hosts: int) -> list[str]:
    """The names of what is restored; an empty one is the checkpoint's own.

    Raises:
        InvalidRequest: `bad_clones`.
    """
    if any(NUMBER in name for name in names) and len(names) == 1:
        return [names[0].replace(NUMBER, str(number + 1)) for number in range(count or hosts)]
    wanted = names or [""]
    if count is not None and count != len(wanted):
        remedy = f"give --name with {NUMBER} in it, such as web-{NUMBER}, or as many names"
        raise InvalidRequest(f"{count} clones cannot all be named so", code="bad_clones", remedy=remedy)
    if len(set(wanted)) < len(wanted) or any(NUMBER in name for name in wanted):
        raise InvalidRequest("two clones would have one name", code="bad_clones", remedy="name each once")
    if len(wanted) < hosts:
        raise InvalidRequest(
            f"there are {hosts} hosts for {len(wanted)} clone{'s' if len(wanted) > 1 else ''}",
            code="bad_clones",
            remedy=f"give --name with {NUMBER} in it, or fewer hosts",
        )
    return wanted
