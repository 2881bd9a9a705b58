"""Create a job and follow it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import typer

from migrator.cli.asking import asking, limit, show, tell
from migrator.errors import KINDS, MigratorError, TransientError

if TYPE_CHECKING:
    from migrator.cli.connection import Api
    from migrator.gen.migrator.v1 import migrator_pb2 as pb


def run_job(request: dict[str, Any], api: str | None, *, as_json: bool, wait: bool, watch: bool) -> None:
    """Create a job and follow it: to its end if asked, otherwise until preflight has said yes or no."""
    with asking(api) as (server, messages):
        job = server.jobs.CreateJob(messages.CreateJobRequest(**request), timeout=limit()).job
    if not as_json:
        typer.echo(f"job {job.id}")
    with going_on(job.id), asking(api) as (server, messages):
        job = follow(server, messages, job.id, shown=watch and not as_json, until_accepted=not (wait or watch))
    conclude(job, as_json)


def run_jobs(requests: list[dict[str, Any]], api: str | None, *, as_json: bool, wait: bool) -> None:
    """Create several jobs and follow them; if one is refused, those before it are taken back.

    Ends with the exit code of the first that failed.
    """
    from migrator.cli import render
    from migrator.cli.plain import failure_data, job_data

    jobs = _create_all(requests, api)
    if not as_json:
        for job in jobs:
            typer.echo(f"job {job.id}")
    ended: list[pb.Job] = []
    for job in jobs:
        with going_on(job.id), asking(api) as (server, messages):
            ended.append(follow(server, messages, job.id, shown=False, until_accepted=not wait))
    show([job_data(job) for job in ended], as_json, render.clones)
    failed = [job for job in ended if job.HasField("failure") and job.state not in (1, 2, 4)]
    if failed:
        if not as_json:
            tell(failure_data(failed[0].failure))
        raise typer.Exit(KINDS[failed[0].failure.kind].exit_code)


def _create_all(requests: list[dict[str, Any]], api: str | None) -> list[pb.Job]:
    jobs: list[pb.Job] = []
    try:
        for request in requests:
            with asking(api) as (server, messages):
                jobs.append(server.jobs.CreateJob(messages.CreateJobRequest(**request), timeout=limit()).job)
    except MigratorError:
        for job in jobs:
            with suppress(MigratorError), asking(api) as (server, messages):
                server.jobs.CancelJob(messages.CancelJobRequest(id=job.id), timeout=limit())
        raise
    return jobs


def ask_preflight(request: dict[str, Any], api: str | None, *, as_json: bool) -> None:
    """Ask whether a migration would go well, and show what every check saw; ends with 1 when one failed."""
    from migrator.cli import render
    from migrator.cli.plain import job_data

    request = request | {"kind": "JOB_KIND_PREFLIGHT"}
    with asking(api) as (server, messages):
        job = server.jobs.CreateJob(messages.CreateJobRequest(**request), timeout=limit()).job
        job = follow(server, messages, job.id, shown=False)
    data = job_data(job)
    if data["state"] != "succeeded":
        conclude(job, as_json)
    show(data, as_json, render.preflight)
    if any(found["grade"] == "fail" for found in data["findings"]):
        raise typer.Exit(1)


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
