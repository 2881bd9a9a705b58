"""What a request must say: all that its kind needs, nothing else, and names that can be."""

from __future__ import annotations

import re
from collections.abc import Mapping

from migrator.errors import InvalidRequest
from migrator.models.drains import DrainOptions
from migrator.models.hooks import Hooks, check_hooks, check_timeout, command_words
from migrator.models.phase import JobKind
from migrator.models.values import JobRequest, Mode, NetworkPolicy, Probe, StorePath
from migrator.models.volumes import VolumePolicy
from migrator.rates import check_rate
from migrator.service.retention.selection import check_work
from migrator.service.selectors import parse_selector

FIELDS = ("source_host", "container", "target_host", "checkpoint_id", "new_name")
NEEDED = {
    JobKind.MIGRATION: frozenset({"source_host", "container", "target_host"}),
    JobKind.CHECKPOINT: frozenset({"source_host", "container"}),
    JobKind.RESTORE: frozenset({"checkpoint_id", "target_host"}),
    JobKind.REWIND: frozenset({"checkpoint_id", "source_host"}),
    JobKind.PREFLIGHT: frozenset({"source_host", "container", "target_host"}),
    JobKind.DRILL: frozenset({"checkpoint_id", "target_host"}),
    JobKind.BACKUP: frozenset({"source_host", "container"}),
    JobKind.FORGET: frozenset(),
    JobKind.PRUNE: frozenset(),
    JobKind.VERIFICATION: frozenset(),
    JobKind.DRAIN: frozenset({"source_host"}),
    JobKind.RETURN: frozenset({"target_host"}),
}
DRAINS = (JobKind.DRAIN, JobKind.RETURN)
ALLOWED = {
    **NEEDED,
    JobKind.RESTORE: NEEDED[JobKind.RESTORE] | {"new_name"},
    JobKind.REWIND: NEEDED[JobKind.REWIND] | {"container"},
}
HOOKED = (JobKind.MIGRATION, JobKind.CHECKPOINT, JobKind.BACKUP, JobKind.REWIND, JobKind.PREFLIGHT)
MODED = (JobKind.MIGRATION, JobKind.RESTORE, JobKind.PREFLIGHT)
MOVING_BYTES = (
    JobKind.MIGRATION, JobKind.CHECKPOINT, JobKind.BACKUP, JobKind.RESTORE, JobKind.REWIND, JobKind.DRILL,
    JobKind.PREFLIGHT,
)  # fmt: skip
FORECAST = (JobKind.MIGRATION, JobKind.PREFLIGHT)
LONGEST_DOWNTIME_S = 3600.0
NAME = re.compile(r"[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*")
"""containerd's own rule for the names of containers and namespaces."""
NAME_LIMIT = 76
KEY_LIMIT = 200
PATH_LIMIT = 4095
PARALLEL_LIMIT = 64
LONGEST_MAINTENANCE_S = 366 * 86400.0


def check_request(request: JobRequest, idempotency_key: str | None) -> None:
    """Refuse a request that makes no sense.

    Raises:
        InvalidRequest: `incomplete_request`, `contradictory_request`, `bad_name` or `bad_idempotency_key`.
    """
    given = {name for name in FIELDS if getattr(request, name)}
    missing = sorted(NEEDED[request.kind] - given)
    if missing:
        raise InvalidRequest(
            f"a {request.kind} needs {_words(missing)}",
            code="incomplete_request",
            remedy=f"a {request.kind} is asked for by {_words(sorted(NEEDED[request.kind]))}",
        )
    unwanted = sorted(given - ALLOWED[request.kind])
    if unwanted:
        raise InvalidRequest(
            f"a {request.kind} cannot have {_words(unwanted)}", code="contradictory_request", remedy="leave it out"
        )
    for what, name in (
        ("namespace", request.namespace),
        ("container", request.container),
        ("container", request.new_name),
    ):
        if name is not None:
            _check_name(what, name)
    _check_volumes(request.volumes)
    _check_hooks(request)
    _check_restore(request)
    _check_memory(request)
    _check_bandwidth(request)
    check_work(request)
    _check_drain(request)
    if idempotency_key is not None and (len(idempotency_key) > KEY_LIMIT or not idempotency_key.isprintable()):
        raise InvalidRequest(
            f"an idempotency key of {len(idempotency_key)} signs cannot be kept",
            code="bad_idempotency_key",
            remedy=f"use up to {KEY_LIMIT} printable signs",
        )


def _check_drain(request: JobRequest) -> None:
    options = request.drain or DrainOptions()
    if request.kind not in DRAINS:
        if request.drain is not None:
            raise _contradiction(f"a {request.kind} has no options of a drain")
        return
    if request.volumes:
        raise _contradiction("a drain has no volumes: each container says by its labels what becomes of them")
    back = request.kind is JobKind.RETURN
    if back and (options.targets or options.return_after_s is not None):
        raise _contradiction("what comes back goes to its own host, and now")
    if request.source_host in options.targets:
        raise _contradiction(f"host '{request.source_host}' cannot take what is drained off it")
    parse_selector(options.selector)
    for namespace in options.namespaces:
        _check_name("namespace", namespace)
    if not 1 <= options.parallel <= PARALLEL_LIMIT:
        raise InvalidRequest(
            f"{options.parallel} containers at once cannot be", code="bad_parallel", remedy=f"1 to {PARALLEL_LIMIT}"
        )
    if options.return_after_s is not None and not 0 < options.return_after_s <= LONGEST_MAINTENANCE_S:
        raise InvalidRequest(
            f"to return after {options.return_after_s:.0f} s cannot be", code="bad_return", remedy="1 s to 366 days"
        )


def _contradiction(fault: str) -> InvalidRequest:
    return InvalidRequest(fault, code="contradictory_request", remedy="leave it out")


def _check_volumes(volumes: Mapping[str, VolumePolicy]) -> None:
    for destination in volumes:
        if not destination.startswith("/") or len(destination) > PATH_LIMIT or not destination.isprintable():
            raise InvalidRequest(
                f"{destination[:100]!r} is no path of a volume",
                code="bad_volume",
                remedy="name where the container sees it, such as /data",
            )


def _check_hooks(request: JobRequest) -> None:
    if request.hooks != Hooks() and request.kind not in HOOKED:
        raise InvalidRequest(
            f"a {request.kind} freezes nothing and has no hooks",
            code="contradictory_request",
            remedy="leave them out; the hook after the freeze that a checkpoint tells of runs by itself",
        )
    check_hooks(request.hooks)


def _check_restore(request: JobRequest) -> None:
    """What only a restore, or only a drill, can have."""
    wrong = ""
    if request.volumes_at and request.kind is not JobKind.RESTORE:
        wrong = "place for volumes"
    if request.network is not NetworkPolicy.KEEP and request.kind is not JobKind.RESTORE:
        wrong = "other network"
    if request.probe != Probe() and request.kind is not JobKind.DRILL:
        wrong = "probe"
    if wrong:
        raise InvalidRequest(
            f"a {request.kind} cannot have a {wrong}", code="contradictory_request", remedy="leave it out"
        )
    place = request.volumes_at
    if place and (not place.startswith("/") or ".." in place.split("/") or not place.isprintable()):
        raise InvalidRequest(
            f"{place[:100]!r} is no place for volumes",
            code="bad_volume",
            remedy="name a directory, such as /srv/clones",
        )
    if request.probe.command:
        command_words(request.probe.command, "bad_probe")
    if request.probe.timeout_s is not None:
        check_timeout("probe", request.probe.timeout_s)


def _check_memory(request: JobRequest) -> None:
    """Who may say when the program gets its memory, and how long it may stand still."""
    wrong = ""
    if request.mode is not Mode.AUTO and request.kind not in MODED:
        wrong = f"{request.mode} restore"
    if (request.max_downtime_s is not None or request.force) and request.kind not in FORECAST:
        wrong = "limit for its freeze"
    if request.path is not StorePath.CHUNKS and request.kind is not JobKind.MIGRATION:
        wrong = "form of its own in the store"
    if wrong:
        raise _contradiction(f"a {request.kind} cannot have a {wrong}")
    if request.max_downtime_s is not None and not 0 < request.max_downtime_s <= LONGEST_DOWNTIME_S:
        raise InvalidRequest(
            f"a freeze of at most {request.max_downtime_s:g} s cannot be asked for",
            code="bad_max_downtime",
            remedy=f"more than 0 and up to {LONGEST_DOWNTIME_S:g} s, such as 500ms",
        )


def _check_bandwidth(request: JobRequest) -> None:
    """Who may say how fast it goes: whoever moves something."""
    asked = request.bandwidth_bytes_s is not None or request.bandwidth_in_freeze
    if asked and request.kind not in MOVING_BYTES:
        raise _contradiction(f"a {request.kind} cannot have a bandwidth")
    if request.bandwidth_bytes_s is not None:
        check_rate(request.bandwidth_bytes_s)


def _check_name(what: str, name: str) -> None:
    if len(name) > NAME_LIMIT or not NAME.fullmatch(name):
        raise InvalidRequest(
            f"{name[:100]!r} cannot be the name of a {what}",
            code="bad_name",
            remedy=f"use up to {NAME_LIMIT} letters and digits, with single dots, dashes or underscores between them",
        )


def _words(names: list[str]) -> str:
    return ", ".join(name.replace("_", " ").removesuffix(" id").removesuffix(" host") for name in names)
