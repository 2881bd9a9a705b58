"""`migrator schedules`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from migrator.cli.arguments import ApiAddress, AsJson, Key
from migrator.cli.asking import asking, limit, show, who
from migrator.cli.schedule_arguments import (
    After,
    AllOn,
    AllowEmpty,
    At,
    Before,
    Blackouts,
    Catchup,
    Cron,
    End,
    Every,
    ExternalUnix,
    Grace,
    HookTimeout,
    Jitter,
    KeepCheckpoint,
    KeepDaily,
    KeepHourly,
    KeepLast,
    KeepMin,
    KeepMonthly,
    KeepWeekly,
    KeepWithin,
    KeepYearly,
    Namespace,
    OnHookFailure,
    OverlapWord,
    Parallel,
    PauseAfter,
    ProbeTimeout,
    ProbeWord,
    Repair,
    ReturnAfter,
    SelectorWord,
    SkipRefused,
    Start,
    Subset,
    TargetWord,
    Tcp,
    To,
    Volumes,
    Zone,
    overlap_number,
    write_spec,
)
from migrator.errors import KINDS, InvalidRequest

schedules_app = typer.Typer(help="Jobs at their time.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(metavar="SCHEDULE", help="Its name or id.")]
Count = Annotated[int, typer.Option("-n", "--count", min=1, max=1000, help="So many.")]


@schedules_app.command("create")
def create_schedule(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call it.")],
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND",
            help="backup, checkpoint, migration, drill, drain, return, forget, prune or verification.",
        ),
    ],
    target: TargetWord = None,
    selector: SelectorWord = None,
    all_on: AllOn = None,
    cron: Cron = None,
    every: Every = None,
    at: At = None,
    zone: Zone = None,
    start: Start = None,
    end: End = None,
    overlap: OverlapWord = None,
    catchup: Catchup = None,
    jitter: Jitter = None,
    blackout: Blackouts = None,
    pause_after: PauseAfter = None,
    allow_empty: AllowEmpty = None,
    to: To = None,
    namespace: Namespace = None,
    tcp: Tcp = None,
    volume: Volumes = None,
    external_unix_sockets: ExternalUnix = None,
    keep_checkpoint: KeepCheckpoint = None,
    before: Before = None,
    after: After = None,
    hook_timeout: HookTimeout = None,
    on_hook_failure: OnHookFailure = None,
    probe: ProbeWord = None,
    probe_timeout: ProbeTimeout = None,
    parallel: Parallel = None,
    skip_refused: SkipRefused = None,
    return_after: ReturnAfter = None,
    keep_last: KeepLast = None,
    keep_hourly: KeepHourly = None,
    keep_daily: KeepDaily = None,
    keep_weekly: KeepWeekly = None,
    keep_monthly: KeepMonthly = None,
    keep_yearly: KeepYearly = None,
    keep_within: KeepWithin = None,
    keep_min: KeepMin = None,
    grace: Grace = None,
    read_data_subset: Subset = None,
    repair: Repair = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say when it would fire; change nothing.")] = False,
    as_json: AsJson = False,
    api: ApiAddress = None,
) -> None:
    """Let something happen again and again, or once later: say --cron, --every or --at."""
    from migrator.cli import schedule_render
    from migrator.cli.schedule_plain import planned_data, schedule_data

    words = dict(locals())
    with asking(api) as (server, _):
        messages = server.schedule_messages
        spec = messages.ScheduleSpec()
        write_spec(spec, words)
        if dry_run:
            answer = server.schedules.PreviewSchedule(messages.PreviewScheduleRequest(spec=spec), timeout=limit())
            show([planned_data(run) for run in answer.runs], as_json, schedule_render.planned)
            return
        request = messages.CreateScheduleRequest(name=name, spec=spec)
        created = server.schedules.CreateSchedule(request, timeout=limit()).schedule
    show(schedule_data(created), as_json, schedule_render.written)


@schedules_app.command("list")
def list_schedules(as_json: AsJson = False, api: ApiAddress = None) -> None:
    """List all schedules, when they fire next, and how their last run went."""
    from migrator.cli import schedule_render
    from migrator.cli.schedule_plain import schedule_data

    with asking(api) as (server, _):
        request = server.schedule_messages.ListSchedulesRequest()
        answer = server.schedules.ListSchedules(request, timeout=limit())
    show([schedule_data(schedule) for schedule in answer.schedules], as_json, schedule_render.schedules)


@schedules_app.command("show")
def show_schedule(name: Name, count: Count = 10, as_json: AsJson = False, api: ApiAddress = None) -> None:
    """Show a schedule and its newest runs: their jobs, and why any was skipped."""
    from migrator.cli import schedule_render
    from migrator.cli.schedule_plain import run_data, schedule_data

    with asking(api) as (server, _):
        messages = server.schedule_messages
        schedule = server.schedules.GetSchedule(messages.GetScheduleRequest(name=name), timeout=limit()).schedule
        runs = server.schedules.ListRuns(messages.ListRunsRequest(name=name, limit=count), timeout=limit()).runs
    data = schedule_data(schedule) | {"runs": [run_data(run) for run in runs]}
    show(data, as_json, schedule_render.schedule)


@schedules_app.command("update")
def update_schedule(
    name: Name,
    target: TargetWord = None,
    selector: SelectorWord = None,
    all_on: AllOn = None,
    cron: Cron = None,
    every: Every = None,
    at: At = None,
    zone: Zone = None,
    start: Start = None,
    end: End = None,
    overlap: OverlapWord = None,
    catchup: Catchup = None,
    jitter: Jitter = None,
    blackout: Blackouts = None,
    pause_after: PauseAfter = None,
    allow_empty: AllowEmpty = None,
    to: To = None,
    namespace: Namespace = None,
    tcp: Tcp = None,
    volume: Volumes = None,
    external_unix_sockets: ExternalUnix = None,
    keep_checkpoint: KeepCheckpoint = None,
    before: Before = None,
    after: After = None,
    hook_timeout: HookTimeout = None,
    on_hook_failure: OnHookFailure = None,
    probe: ProbeWord = None,
    probe_timeout: ProbeTimeout = None,
    parallel: Parallel = None,
    skip_refused: SkipRefused = None,
    return_after: ReturnAfter = None,
    keep_last: KeepLast = None,
    keep_hourly: KeepHourly = None,
    keep_daily: KeepDaily = None,
    keep_weekly: KeepWeekly = None,
    keep_monthly: KeepMonthly = None,
    keep_yearly: KeepYearly = None,
    keep_within: KeepWithin = None,
    keep_min: KeepMin = None,
    grace: Grace = None,
    read_data_subset: Subset = None,
    repair: Repair = None,
    as_json: AsJson = False,
    api: ApiAddress = None,
) -> None:
    """Change what is given and leave the rest; an empty value takes a setting away. Fires from now on."""
    from migrator.cli import schedule_render
    from migrator.cli.schedule_plain import schedule_data

    words = dict(locals())
    with asking(api) as (server, _):
        messages = server.schedule_messages
        known = server.schedules.GetSchedule(messages.GetScheduleRequest(name=name), timeout=limit()).schedule
        write_spec(known.spec, words)
        request = messages.UpdateScheduleRequest(name=name, spec=known.spec, seen=known.updated_at)
        changed = server.schedules.UpdateSchedule(request, timeout=limit()).schedule
    show(schedule_data(changed), as_json, schedule_render.written)


@schedules_app.command("pause")
def pause_schedule(
    name: Name,
    reason: Annotated[str, typer.Option("--reason", help="Why, for whoever finds it paused.")] = "",
    as_json: AsJson = False,
    api: ApiAddress = None,
) -> None:
    """Stop firing. What runs goes on, what waits is left out."""
    from migrator.cli import schedule_render
    from migrator.cli.schedule_plain import schedule_data

    with asking(api) as (server, _):
        request = server.schedule_messages.PauseScheduleRequest(name=name, reason=reason, actor=who())
        schedule = server.schedules.PauseSchedule(request, timeout=limit()).schedule
    show(schedule_data(schedule), as_json, schedule_render.written)


@schedules_app.command("resume")
def resume_schedule(name: Name, as_json: AsJson = False, api: ApiAddress = None) -> None:
    """Fire again, from the next fire time on: what was missed meanwhile is not run."""
    from migrator.cli import schedule_render
    from migrator.cli.schedule_plain import schedule_data

    with asking(api) as (server, _):
        request = server.schedule_messages.ResumeScheduleRequest(name=name)
        schedule = server.schedules.ResumeSchedule(request, timeout=limit()).schedule
    show(schedule_data(schedule), as_json, schedule_render.written)


@schedules_app.command("trigger")
def trigger_schedule(
    name: Name,
    overlap: OverlapWord = None,
    idempotency_key: Key = None,
    as_json: AsJson = False,
    api: ApiAddress = None,
) -> None:
    """Run it now, paused or not. Ends with the code of the failure when no job could be made."""
    from migrator.cli import schedule_render
    from migrator.cli.schedule_plain import run_data

    with asking(api) as (server, _):
        request = server.schedule_messages.TriggerScheduleRequest(
            name=name, overlap=overlap_number(overlap), idempotency_key=idempotency_key or ""
        )
        run = run_data(server.schedules.TriggerSchedule(request, timeout=limit()).run)
    show(run, as_json, schedule_render.run)
    failures = [act["failure"] for act in run["acts"] if act["failure"]]
    if failures and len(failures) == len(run["acts"]):
        raise typer.Exit(KINDS[failures[0]["kind"]].exit_code)


@schedules_app.command("backfill")
def backfill_schedule(
    name: Name,
    first: Annotated[str, typer.Option("--from", metavar="TIME", help="Fire times after this.")],
    last: Annotated[str, typer.Option("--to", metavar="TIME", help="And up to this.")],
    as_json: AsJson = False,
    api: ApiAddress = None,
) -> None:
    """Run the fire times of a time in the past that have not run."""
    from migrator.cli import schedule_render
    from migrator.cli.schedule_plain import run_data

    with asking(api) as (server, _):
        request = server.schedule_messages.BackfillScheduleRequest(name=name, first=first, last=last)
        runs = server.schedules.BackfillSchedule(request, timeout=limit()).runs
    show([run_data(run) for run in runs], as_json, schedule_render.backfilled)


@schedules_app.command("preview")
def preview_schedule(
    name: Name,
    count: Count = 10,
    after: Annotated[
        str | None, typer.Option("--after", metavar="TIME", help="Not from now, but from then on.")
    ] = None,
    as_json: AsJson = False,
    api: ApiAddress = None,
) -> None:
    """Say when it will fire."""
    from migrator.cli import schedule_render
    from migrator.cli.schedule_plain import planned_data

    with asking(api) as (server, _):
        request = server.schedule_messages.PreviewScheduleRequest(name=name, count=count, after=after or "")
        answer = server.schedules.PreviewSchedule(request, timeout=limit())
    show([planned_data(run) for run in answer.runs], as_json, schedule_render.planned)


@schedules_app.command("delete")
def delete_schedule(name: Name, as_json: AsJson = False, api: ApiAddress = None) -> None:
    """Forget a schedule and its history. Its jobs go on, what they made is kept."""
    if not name:
        raise InvalidRequest("the name is empty", code="bad_name", remedy="see `migrator schedules list`")
    with asking(api) as (server, _):
        server.schedules.DeleteSchedule(server.schedule_messages.DeleteScheduleRequest(name=name), timeout=limit())
    show({"name": name, "deleted": True}, as_json, _tell_deleted)


def _tell_deleted(data: dict[str, Any]) -> None:
    typer.echo(f"schedule {data['name']} is deleted")
