"""`migrator jobs`."""

from __future__ import annotations

from typing import Annotated

import typer

from migrator.cli.arguments import ApiAddress, AsJson, state_number
from migrator.cli.asking import asking, limit, show, who
from migrator.cli.following import conclude, follow, going_on

jobs_app = typer.Typer(help="Migrations, checkpoints and restores.", no_args_is_help=True)


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
