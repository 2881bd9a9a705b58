"""The commands. Each asks the API one thing and shows the answer."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from migrator.errors import KINDS, InvalidRequest, MigratorError, TransientError

if TYPE_CHECKING:
    from migrator.cli.connection import Api
    from migrator.gen.migrator.v1 import migrator_pb2 as pb


def list_exit_codes() -> str:
    """The exit codes in one sentence."""
    kinds = {kind.exit_code: "" for kind in sorted(KINDS.values(), key=lambda kind: kind.exit_code)}
    for name, kind in KINDS.items():
        if not kind.__subclasses__():
            kinds[kind.exit_code] += f" or {name}" if kinds[kind.exit_code] else name
    return "Exit codes: 0 fine, " + ", ".join(f"{code} {names}" for code, names in kinds.items()) + ", 130 interrupted."


app = typer.Typer(
    name="migrator",
    help="Live migration and running-state backup for containers under containerd.",
    epilog=list_exit_codes(),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
hosts_app = typer.Typer(help="Hosts with a worker.", no_args_is_help=True)
containers_app = typer.Typer(help="What runs where.", no_args_is_help=True)
jobs_app = typer.Typer(help="Migrations, checkpoints and restores.", no_args_is_help=True)
checkpoints_app = typer.Typer(help="Frozen containers in the object store.", no_args_is_help=True)
for name, group in (
    ("hosts", hosts_app),
    ("containers", containers_app),
    ("jobs", jobs_app),
    ("checkpoints", checkpoints_app),
):
    app.add_typer(group, name=name)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON value.")]
ApiAddress = Annotated[str | None, typer.Option("--api", help="unix:///path or host:port of the server.")]
Wait = Annotated[bool, typer.Option("--wait", help="Return when the job has ended.")]
Watch = Annotated[bool, typer.Option("--watch", help="Show the progress until the job has ended.")]
Key = Annotated[str | None, typer.Option("--idempotency-key", help="Asking again with it gives the same job.")]
Reference = Annotated[str, typer.Argument(metavar="HOST/CONTAINER", help="What to take, and where it runs.")]


@app.command()
def migrate(
    container: Reference,
    target: Annotated[str, typer.Argument(metavar="TARGET", help="The host it moves to.")],
    namespace: Annotated[str, typer.Option(help="containerd's namespace.")] = "default",
    keep_checkpoint: Annotated[bool, typer.Option("--keep-checkpoint", help="Keep the checkpoint afterwards.")] = False,
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
        "keep_checkpoint": keep_checkpoint,
        "idempotency_key": idempotency_key or "",
    }
    run_job(request, api, as_json=as_json, wait=wait, watch=watch)


@app.command()
def restore(
    checkpoint: Annotated[str, typer.Argument(metavar="CHECKPOINT", help="Its id.")],
    host: Annotated[str, typer.Argument(metavar="HOST", help="Where to.")],
    name: Annotated[str | None, typer.Option("--name", help="Under another name.")] = None,
    idempotency_key: Key = None,
    wait: Wait = False,
    watch: Watch = False,
    as_json: AsJson = False,
    api: ApiAddress = None,
) -> None:
    """Bring a checkpoint to life."""
    request = {
        "kind": "JOB_KIND_RESTORE",
        "checkpoint_id": checkpoint,
        "target": host,
        "new_name": name or "",
        "idempotency_key": idempotency_key or "",
    }
    run_job(request, api, as_json=as_json, wait=wait, watch=watch)


@checkpoints_app.command("create")
def create_checkpoint(
    container: Reference,
    namespace: Annotated[str, typer.Option(help="containerd's namespace.")] = "default",
    idempotency_key: Key = None,
    wait: Wait = False,
    watch: Watch = False,
    as_json: AsJson = False,
    api: ApiAddress = None,
) -> None:
    """Take a checkpoint; the program is frozen only for the dump."""
    host, name = split_reference(container)
    request = {
        "kind": "JOB_KIND_CHECKPOINT",
        "source": host,
        "container": name,
        "namespace": check_namespace(namespace),
        "idempotency_key": idempotency_key or "",
    }
    run_job(request, api, as_json=as_json, wait=wait, watch=watch)


@checkpoints_app.command("list")
def list_checkpoints(as_json: AsJson = False, api: ApiAddress = None) -> None:
    """List the catalogue, newest first."""
    from migrator.cli import render
    from migrator.cli.plain import checkpoint_data

    with asking(api) as (server, messages):
        answer = server.checkpoints.ListCheckpoints(messages.ListCheckpointsRequest(), timeout=limit())
    show([checkpoint_data(item) for item in answer.checkpoints], as_json, render.checkpoints)


@checkpoints_app.command("show")
def show_checkpoint(
    checkpoint: Annotated[str, typer.Argument(metavar="CHECKPOINT", help="Its id.")],
    as_json: AsJson = False,
    api: ApiAddress = None,
) -> None:
    """Show a checkpoint's origin and parts."""
    from migrator.cli import render
    from migrator.cli.plain import detail_data

    with asking(api) as (server, messages):
        answer = server.checkpoints.GetCheckpoint(messages.GetCheckpointRequest(id=checkpoint), timeout=limit())
    show(detail_data(answer), as_json, render.checkpoint)


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
    from migrator.cli.export import STDOUT, write_file
    from migrator.cli.render import size

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


@hosts_app.command("list")
def list_hosts(as_json: AsJson = False, api: ApiAddress = None) -> None:
    """List hosts and whether their workers live."""
    from migrator.cli import render
    from migrator.cli.plain import host_data

    with asking(api) as (server, messages):
        answer = server.hosts.ListHosts(messages.ListHostsRequest(), timeout=limit())
    show([host_data(host) for host in answer.hosts], as_json, render.hosts)


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


@app.command()
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


@jobs_app.command("list")
def list_jobs(
    state: Annotated[list[str] | None, typer.Option(help="Only jobs in this state; may be given again.")] = None,
    host: Annotated[str | None, typer.Option(help="Only jobs from or to this host.")] = None,
    count: Annotated[int, typer.Option("-n", "--limit", min=1, max=1000, help="At most so many.")] = 50,
    as_json: AsJson = False,
    api: ApiAddress = None,
) -> None:
    """List jobs, newest first."""
    from migrator.cli import render
    from migrator.cli.plain import job_data

    with asking(api) as (server, messages):
        states = [state_number(messages, word) for word in state or []]
        request = messages.ListJobsRequest(states=states, host=host or "", limit=count)
        answer = server.jobs.ListJobs(request, timeout=limit())
    show([job_data(job) for job in answer.jobs], as_json, render.jobs)


@jobs_app.command("show")
def show_job(
    job: Annotated[str, typer.Argument(metavar="JOB", help="Its id.")], as_json: AsJson = False, api: ApiAddress = None
) -> None:
    """Show a job and what each of its steps took."""
    from migrator.cli import render
    from migrator.cli.plain import job_data

    with asking(api) as (server, messages):
        answer = server.jobs.GetJob(messages.GetJobRequest(id=job), timeout=limit())
    show(job_data(answer.job), as_json, render.job)


@jobs_app.command("watch")
def watch_job(
    job: Annotated[str, typer.Argument(metavar="JOB", help="Its id.")], as_json: AsJson = False, api: ApiAddress = None
) -> None:
    """Show a job's progress until it has ended."""
    with going_on(job), asking(api) as (server, messages):
        ended = follow(server, messages, job, shown=not as_json)
    conclude(ended, as_json)


@jobs_app.command("cancel")
def cancel_job(
    job: Annotated[str, typer.Argument(metavar="JOB", help="Its id.")], as_json: AsJson = False, api: ApiAddress = None
) -> None:
    """Take a job back; the container runs on where it was. Refused once it has been handed over."""
    from migrator.cli.plain import job_data

    with asking(api) as (server, messages):
        answer = server.jobs.CancelJob(messages.CancelJobRequest(id=job), timeout=limit())
    show(job_data(answer.job), as_json, lambda data: typer.echo(f"job {data['id']} is being taken back"))


@jobs_app.command("resolve")
def resolve_job(
    job: Annotated[str, typer.Argument(metavar="JOB", help="Its id.")],
    keep: Annotated[str, typer.Option(metavar="source|target", help="Which copy goes on.")],
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "",
    as_json: AsJson = False,
    api: ApiAddress = None,
) -> None:
    """Decide about a job that needs an operator: which copy goes on. The decision is kept with the job."""
    from migrator.cli.plain import job_data

    with asking(api) as (server, messages):
        number = messages.Keep.DESCRIPTOR.values_by_name.get(f"KEEP_{keep.upper()}")
        request = messages.ResolveJobRequest(id=job, keep=number and number.number, actor=who(), reason=reason)
        answer = server.jobs.ResolveJob(request, timeout=limit())
    show(job_data(answer.job), as_json, lambda data: typer.echo(f"job {data['id']} goes on: the {keep} is kept"))


# ---- what the commands share


def who() -> str:
    """Who asks, as far as this machine can tell."""
    import getpass
    import socket

    return f"{os.environ.get('SUDO_USER') or getpass.getuser()}@{socket.gethostname()}"


def run_job(request: dict[str, Any], api: str | None, *, as_json: bool, wait: bool, watch: bool) -> None:
    """Create a job and follow it: to its end if asked, otherwise until preflight has said yes or no."""
    with asking(api) as (server, messages):
        job = server.jobs.CreateJob(messages.CreateJobRequest(**request), timeout=limit()).job
    if not as_json:
        typer.echo(f"job {job.id}")
    with going_on(job.id), asking(api) as (server, messages):
        job = follow(server, messages, job.id, shown=watch and not as_json, until_accepted=not (wait or watch))
    conclude(job, as_json)


@contextmanager
def going_on(job_id: str) -> Iterator[None]:
    """Whoever stops looking, we or the server, the job goes on: say how to find it again."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(f"\njob {job_id} goes on; `migrator jobs cancel {job_id}` takes it back", err=True)
        raise
    except TransientError as error:
        error.remedy = f"{error.remedy}; job {job_id} may go on: `migrator jobs watch {job_id}`"
        raise


def follow(server: Api, messages: Any, job_id: str, *, shown: bool, until_accepted: bool = False) -> pb.Job:
    """Watch a job and return it as last seen."""
    from migrator.cli.progress import Progress

    early = ("accepted", "preflight")
    with Progress(shown) as progress:
        stream = server.jobs.WatchJob(messages.WatchJobRequest(id=job_id))
        for answer in stream:
            progress.update(answer.job)
            if until_accepted and answer.job.phase not in early and answer.job.phase != "rolling_back":
                stream.cancel()
                return answer.job
        return answer.job


def conclude(job: pb.Job, as_json: bool) -> None:
    """Show a job; a failed one ends with the exit code of its failure."""
    from migrator.cli import render
    from migrator.cli.plain import job_data

    data = job_data(job)
    failed = data["state"] in ("failed", "cancelled", "needs_operator")
    if as_json:
        typer.echo(json.dumps(data, indent=2))
    elif not failed:
        render.verdict(data)
    if failed:
        failure = data["failure"] or {"kind": "InternalError", "message": f"job {job.id} {data['state']}"}
        if not as_json:
            tell(failure)
        raise typer.Exit(KINDS[failure["kind"]].exit_code)


@contextmanager
def asking(address: str | None) -> Iterator[tuple[Api, Any]]:
    """Connect to the API; gives the services and the messages' module."""
    from migrator.cli.connection import connected
    from migrator.gen.migrator.v1 import migrator_pb2

    with connected(address) as server:
        yield server, migrator_pb2


def limit() -> float:
    """How long an ordinary call may take, in seconds."""
    from migrator.cli.connection import CALL_S

    return CALL_S


def show(data: Any, as_json: bool, render: Callable[[Any], None]) -> None:
    """Print JSON, or let `render` make it readable."""
    if as_json:
        typer.echo(json.dumps(data, indent=2))
    else:
        render(data)


def tell(failure: dict[str, Any]) -> None:
    """Say on standard error what went wrong and what to do next."""
    place = f" (host {failure['host']})" if failure.get("host") else ""
    typer.secho(f"Error: {failure['message']}{place}", err=True, fg="red")
    if failure.get("remedy"):
        typer.echo(f"  → {failure['remedy']}", err=True)


def is_ill(examined: dict[str, Any]) -> bool:
    """Whether something is wrong with a host, or lies about on it that should not."""
    wrong = any(check["level"] == "wrong" for check in examined["checks"])
    return wrong or any(finding["fate"] in ("due", "failed") for finding in examined["findings"])


def split_reference(text: str) -> tuple[str, str]:
    """Read HOST/CONTAINER.

    Raises:
        InvalidRequest: `bad_reference`.
    """
    host, slash, name = text.partition("/")
    if not (host and slash and name) or "/" in name:
        raise InvalidRequest(
            f"'{text}' does not name a container",
            code="bad_reference",
            remedy="write HOST/CONTAINER, such as alpha/web",
        )
    return host, name


def check_namespace(name: str) -> str:
    """Return a namespace; the server would take an empty one for the default.

    Raises:
        InvalidRequest: `bad_name`.
    """
    if not name:
        raise InvalidRequest("the namespace is empty", code="bad_name", remedy="name one, or leave --namespace out")
    return name


def state_number(messages: Any, word: str) -> int:
    """Read the name of a state.

    Raises:
        InvalidRequest: `bad_state`.
    """
    known = {key.removeprefix("JOB_STATE_").lower(): number for key, number in messages.JobState.items() if number}
    if word not in known:
        raise InvalidRequest(f"'{word}' is no state of a job", code="bad_state", remedy=f"one of {', '.join(known)}")
    return int(known[word])


def show_version(wanted: bool) -> None:
    """Print the version and leave."""
    if wanted:
        from importlib.metadata import version

        typer.echo(version("migrator"))
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Live migration and running-state backup for containers under containerd."""
    del version


def run() -> None:
    """Run the command line; our errors become a message and an exit code."""
    try:
        app()
    except MigratorError as error:
        if "--json" in sys.argv:
            typer.echo(json.dumps({"error": error.to_dict()}, indent=2))
        else:
            tell(error.to_dict())
        sys.exit(error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(1)
