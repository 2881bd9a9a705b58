"""The options of `schedules create` and `update`, and how their words become a specification.

None means that an option was not given; an empty word takes away what was there.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

import typer

from migrator.cli.arguments import check_namespace, split_reference, split_volumes, tcp_word
from migrator.errors import InvalidRequest

TargetWord = Annotated[
    str | None,
    typer.Argument(metavar="[HOST/CONTAINER]", help="One container, or a workload's id; it is followed when it moves."),
]
SelectorWord = Annotated[
    str | None,
    typer.Option("-l", "--selector", help="All running containers with these labels: app=web,tier!=db."),
]
AllOn = Annotated[str | None, typer.Option("--all-on", metavar="HOST", help="All running containers of a host.")]
Cron = Annotated[str | None, typer.Option("--cron", metavar="EXPR", help="'30 2 * * *', or @hourly, @daily, ….")]
Every = Annotated[str | None, typer.Option("--every", metavar="TIME", help="An interval: 90s, 15m, 6h, 1d.")]
At = Annotated[str | None, typer.Option("--at", metavar="TIME", help="Once: '2026-12-24 03:00'.")]
Zone = Annotated[str | None, typer.Option("--zone", metavar="ZONE", help="Time zone, such as Europe/Berlin; UTC.")]
Start = Annotated[str | None, typer.Option("--start", metavar="TIME", help="Not before.")]
End = Annotated[str | None, typer.Option("--end", metavar="TIME", help="Not after.")]
OverlapWord = Annotated[
    str | None, typer.Option("--overlap", help="While the last run goes on: skip, buffer, allow or cancel.")
]
Catchup = Annotated[str | None, typer.Option("--catchup", metavar="TIME", help="Run what was missed by so much; 1h.")]
Jitter = Annotated[str | None, typer.Option("--jitter", metavar="TIME", help="Fire up to so much later.")]
Blackouts = Annotated[
    list[str] | None,
    typer.Option("--blackout", metavar="WINDOW", help="Not in it: 'Mon-Fri 08:00-18:00', …. May be repeated."),
]
PauseAfter = Annotated[
    int | None, typer.Option("--pause-after", metavar="N", help="Pause after N failures in a row; 0 never.")
]
AllowEmpty = Annotated[
    bool | None, typer.Option("--allow-empty/--no-allow-empty", help="What it is about need not be there.")
]
To = Annotated[
    list[str] | None,
    typer.Option("--to", metavar="HOST", help="Where a migration or a drill goes; a drain only there, repeatable."),
]
Namespace = Annotated[str | None, typer.Option("--namespace", help="containerd's namespace; default.")]
Tcp = Annotated[str | None, typer.Option("--tcp", help="Open TCP connections: keep, close or refuse.")]
Volumes = Annotated[
    list[str] | None,
    typer.Option("--volume", metavar="DEST=POLICY", help="A bind mount: shared, copy or empty. May be repeated."),
]
ExternalUnix = Annotated[
    bool | None,
    typer.Option(
        "--external-unix-sockets/--no-external-unix-sockets",
        help="Let unix sockets through that lead out of the container.",
    ),
]
Before = Annotated[str | None, typer.Option("--before", metavar="CMD", help="Run in it before the freeze.")]
After = Annotated[str | None, typer.Option("--after", metavar="CMD", help="Run in it when it runs again.")]
HookTimeout = Annotated[
    float | None, typer.Option("--hook-timeout", metavar="SECONDS", help="How long each of the two may take; 30.")
]
OnHookFailure = Annotated[
    str | None, typer.Option("--on-hook-failure", metavar="POLICY", help="fail or ignore, or before=ignore.")
]
ProbeWord = Annotated[
    str | None, typer.Option("--probe", metavar="CMD", help="Of a drill: run in it until it succeeds.")
]
ProbeTimeout = Annotated[
    float | None,
    typer.Option("--probe-timeout", metavar="SECONDS", help="Of a drill: how long; 30, 5 without a probe."),
]
Parallel = Annotated[int | None, typer.Option("--parallel", min=1, max=64, help="Of a drain: so many at once; 4.")]
SkipRefused = Annotated[
    bool | None,
    typer.Option("--skip-refused/--no-skip-refused", help="Of a drain: what cannot move is no failure."),
]
ReturnAfter = Annotated[
    str | None,
    typer.Option("--return-after", metavar="TIME", help="Of a drain: bring everything back so long after its end."),
]
KeepCheckpoint = Annotated[
    bool | None, typer.Option("--keep-checkpoint/--no-keep-checkpoint", help="Keep a migration's checkpoint.")
]

_KEEP = "What is kept, of each container after a backup, or by a forget"


def _rule(name: str, words: str) -> Any:
    return typer.Option(name, metavar="N", help=f"{words} -1: all.", rich_help_panel=_KEEP)


KeepLast = Annotated[int | None, _rule("--keep-last", "The newest N.")]
KeepHourly = Annotated[int | None, _rule("--keep-hourly", "The newest of each of N hours.")]
KeepDaily = Annotated[int | None, _rule("--keep-daily", "The newest of each of N days.")]
KeepWeekly = Annotated[int | None, _rule("--keep-weekly", "The newest of each of N weeks.")]
KeepMonthly = Annotated[int | None, _rule("--keep-monthly", "The newest of each of N months.")]
KeepYearly = Annotated[int | None, _rule("--keep-yearly", "The newest of each of N years.")]
KeepWithin = Annotated[
    str | None,
    typer.Option("--keep-within", metavar="DURATION", help="All that are younger: 14d, 1y6m.", rich_help_panel=_KEEP),
]
KeepMin = Annotated[
    int | None, typer.Option("--keep-min", metavar="N", help="At least N, the newest.", rich_help_panel=_KEEP)
]
Grace = Annotated[
    str | None, typer.Option("--grace", metavar="TIME", help="Of a prune: between mark and deletion; 1d.")
]
Subset = Annotated[
    str | None,
    typer.Option("--read-data-subset", metavar="SHARE", help="Of a verification: read some data, such as 5%; 100%."),
]
Repair = Annotated[
    bool | None, typer.Option("--repair/--no-repair", help="Of a verification: mend what can be mended.")
]
KEEP_FIELDS = {
    "keep_last": "last",
    "keep_hourly": "hourly",
    "keep_daily": "daily",
    "keep_weekly": "weekly",
    "keep_monthly": "monthly",
    "keep_yearly": "yearly",
    "keep_within": "within",
    "keep_min": "minimum",
}
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_LENGTH = re.compile(r"(?:\d+[smhdw])+|\d+")
_PART = re.compile(r"(\d+)([smhdw]?)")
OVERLAPS = ("skip", "buffer", "allow", "cancel")
HOOKS = {"before": "before", "after": "after", "hook_timeout": "timeout_s", "on_hook_failure": "on_failure"}
PROBE = {"probe": "command", "probe_timeout": "timeout_s"}
DRAIN = {"parallel": "parallel", "skip_refused": "skip_refused"}
PLAIN = {"cron": "cron", "at": "at", "zone": "time_zone", "start": "start", "end": "end"}
"""Options whose words the server reads."""


def seconds(text: str) -> int:
    """Read a length of time, such as 90s, 1h30m or 2d.

    Raises:
        InvalidRequest: `bad_length`.
    """
    if not _LENGTH.fullmatch(text):
        raise InvalidRequest(
            f"{text[:60]!r} is no length of time", code="bad_length", remedy="write 90s, 15m, 1h30m, 6h, 1d or 2w"
        )
    return sum(int(number) * UNITS[unit or "s"] for number, unit in _PART.findall(text))


def overlap_number(word: str | None) -> str | None:
    """Read a policy as the API's word; None if nothing is said.

    Raises:
        InvalidRequest: `bad_overlap`.
    """
    if word is None:
        return None
    if word not in OVERLAPS:
        raise InvalidRequest(
            f"'{word}' is no policy for overlaps", code="bad_overlap", remedy=f"one of {', '.join(OVERLAPS)}"
        )
    return f"OVERLAP_POLICY_{word.upper()}"


def write_spec(spec: Any, words: dict[str, Any]) -> None:
    """Put what was given into a specification.

    Raises:
        InvalidRequest: A word makes no sense.
    """
    given = {name: word for name, word in words.items() if word is not None}
    if "kind" in given:
        spec.job.kind = _kind(type(spec.job), given["kind"])
    triggers = [name for name in ("cron", "every", "at") if given.get(name)]
    if len(triggers) > 1:
        raise InvalidRequest(
            f"--{triggers[0]} and --{triggers[1]} exclude each other", code="bad_trigger", remedy="give one of them"
        )
    if triggers:
        spec.cron, spec.every_s, spec.at = "", 0, ""
    for name, field in PLAIN.items():
        if name in given:
            setattr(spec, field, given[name])
    for name, field in (("every", "every_s"), ("catchup", "catchup_s"), ("jitter", "jitter_s")):
        if name in given:
            setattr(spec, field, seconds(given[name] or "0"))
    if "overlap" in given:
        spec.overlap = (
            type(spec)
            .DESCRIPTOR.fields_by_name["overlap"]
            .enum_type.values_by_name[str(overlap_number(given["overlap"]))]
            .number
        )
    if "blackout" in given:
        spec.blackouts[:] = [window for window in given["blackout"] if window]
    if "pause_after" in given:
        spec.pause_after_failures = given["pause_after"]
    if "allow_empty" in given:
        spec.allow_empty = given["allow_empty"]
    _write_target(spec, given)
    _write_job(spec.job, given)
    _write_store_work(spec, given)


def _write_target(spec: Any, given: dict[str, Any]) -> None:
    drains = spec.job.kind in (_kind(type(spec.job), "drain"), _kind(type(spec.job), "return"))
    if given.get("target") and (given.get("all_on") or given.get("selector")):
        raise InvalidRequest(
            "a container, and a choice of several, exclude each other",
            code="bad_target",
            remedy="name HOST/CONTAINER, or select with -l SELECTOR or --all-on HOST",
        )
    if given.get("target") or given.get("all_on") or (given.get("selector") and not drains):
        spec.job.source, spec.job.container, spec.job.workload, spec.selector = "", "", "", ""
    if "/" in given.get("target", ""):
        spec.job.source, spec.job.container = split_reference(given["target"])
    elif given.get("target"):
        spec.job.workload = given["target"]
    if given.get("all_on"):
        spec.job.source = given["all_on"]
    if "selector" in given and drains:
        spec.job.drain.selector = given["selector"]
    elif "selector" in given:
        spec.selector = given["selector"]


def _write_job(job: Any, given: dict[str, Any]) -> None:
    _write_goal(job, given)
    if "namespace" in given:
        job.namespace = check_namespace(given["namespace"])
    if "tcp" in given:
        job.tcp = type(job).DESCRIPTOR.fields_by_name["tcp"].enum_type.values_by_name[tcp_word(given["tcp"])].number
    if "volume" in given:
        job.volumes.clear()
        job.volumes.update(split_volumes([word for word in given["volume"] if word]))
    for name in ("external_unix_sockets", "keep_checkpoint"):
        if name in given:
            setattr(job, name, given[name])
    for message, options in ((job.hooks, HOOKS), (job.probe, PROBE), (job.drain, DRAIN)):
        for name, field in options.items():
            if name in given:
                setattr(message, field, given[name])
    if "return_after" in given:
        job.drain.ClearField("return_after_s")
    if given.get("return_after"):
        job.drain.return_after_s = seconds(given["return_after"])


def _write_goal(job: Any, given: dict[str, Any]) -> None:
    """Where it goes: one host, or of a drain those that may take containers."""
    hosts = [host for host in given.get("to", []) if host]
    if job.kind == _kind(type(job), "drain"):
        if "to" in given:
            job.drain.targets[:] = hosts
        if "namespace" in given:
            job.drain.namespaces[:] = [given["namespace"]]
        return
    if len(hosts) > 1:
        raise InvalidRequest(
            f"it cannot go to both {hosts[0]} and {hosts[1]}", code="bad_target", remedy="name one host by --to"
        )
    if "to" in given:
        job.target = "".join(hosts)


def _write_store_work(spec: Any, given: dict[str, Any]) -> None:
    """The options of forget, prune and verification, and what is kept after each backup."""
    forgets = spec.job.kind == _kind(type(spec.job), "forget")
    rules = {field: given[name] for name, field in KEEP_FIELDS.items() if name in given}
    if forgets:
        spec.job.forget.everything = True
        spec.job.forget.policy.time_zone = spec.time_zone or "UTC"
    if rules:
        policy = spec.job.forget.policy if forgets else spec.keep
        policy.time_zone = spec.time_zone or "UTC"
        for field, value in rules.items():
            setattr(policy, field, value)
        if not forgets and not any(getattr(policy, field) for field in KEEP_FIELDS.values()):
            spec.ClearField("keep")
    if "grace" in given:
        spec.job.prune.grace_s = seconds(given["grace"])
    if "read_data_subset" in given:
        spec.job.verify.read_data = given["read_data_subset"]
    if "repair" in given:
        spec.job.verify.repair = given["repair"]


def _kind(job: Any, word: str) -> int:
    known = job.DESCRIPTOR.fields_by_name["kind"].enum_type.values_by_name
    found = known.get(f"JOB_KIND_{word.upper()}")
    if found is None or not found.number:
        raise InvalidRequest(
            f"'{word}' is no kind of job", code="bad_kind", remedy="such as checkpoint, migration; see --help"
        )
    return int(found.number)
