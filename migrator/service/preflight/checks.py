"""All checks, in the order in which their failures are told."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TypeVar

from migrator.errors import MigratorError
from migrator.models.phase import JobKind
from migrator.models.preflight import Finding, Grade
from migrator.service.host import Act
from migrator.service.preflight import (
    arrival,
    connections,
    container,
    files,
    hooks,
    host,
    image,
    likeness,
    network,
    programs,
    record,
    sockets,
    states,
    streams,
    versions,
    volumes,
)
from migrator.service.preflight.arrival import Arrival
from migrator.service.preflight.subject import Subject

T = TypeVar("T")

ALIKE = 5
"""A program of a thousand processes may have a thousand of what cannot be dumped."""

SOURCE_CHECKS: tuple[Callable[[Subject], Iterator[Finding]], ...] = (
    container.check_runtime,
    container.check_terminal,
    streams.check_streams,
    volumes.check_volumes,
    volumes.check_submounts,
    container.check_runtime_hooks,
    container.check_namespaces,
    container.check_mounts,
    container.check_destinations,
    network.check_network,
    states.check_stopped,
    states.check_users,
    states.check_pinned,
    programs.check_executed,
    hooks.check_hooks,
    programs.check_sleep,
    programs.check_tracing,
    programs.check_probes,
    programs.check_nesting,
    programs.check_shared_memory,
    files.check_anonymous,
    files.check_devices,
    files.check_open_terminals,
    files.check_deleted,
    files.check_watches,
    sockets.check_sockets,
    sockets.check_netlink,
    connections.check_connections,
    connections.check_waiting,
    host.check_criu,
    versions.check_versions,
    host.check_configuration,
    host.check_store,
    image.check_image,
    container.check_room,
)
TARGET_CHECKS: tuple[Callable[[Arrival], Iterator[Finding]], ...] = (
    arrival.check_name,
    record.check_record,
    host.check_criu,
    versions.check_versions,
    host.check_configuration,
    host.check_store,
    likeness.check_processor,
    likeness.check_kernel,
    likeness.check_cgroups,
    likeness.check_criu_images,
    streams.check_programs,
    volumes.check_places,
    network.check_attachment,
    network.check_sysctls,
    connections.check_kept_connections,
    connections.check_endpoints,
    arrival.check_room,
    arrival.check_memory,
    arrival.check_huge_pages,
    image.check_base_image,
)


def examine(checks: Iterable[Callable[[T], Iterator[Finding]]], subject: T) -> Iterator[Finding]:
    """Make every check; one that has nothing to tell has passed, and one that raises an error has failed."""
    for check in checks:
        name = name_of(check)
        try:
            found = list(check(subject))
        except MigratorError as error:
            found = [failure(name, error)]
        yield from (replace(finding, check=name) for finding in _shortened(found))


def _shortened(found: list[Finding]) -> list[Finding]:
    """A pass where there is nothing to tell; of a great many that are alike, a few."""
    if len(found) <= ALIKE:
        return found or [Finding("", Grade.PASS, "")]
    more = replace(found[ALIKE], message=f"and {len(found) - ALIKE} more like these")
    return [*found[:ALIKE], more]


def conclude(findings: Iterable[Finding], act: Act) -> tuple[Finding, ...]:
    """Stop a job that acts at its first failure, and keep what it should know; a preflight keeps all.

    Raises:
        MigratorError: That failure.
    """
    if act.request.kind is JobKind.PREFLIGHT:
        return tuple(findings)
    kept: list[Finding] = []
    for finding in findings:
        if finding.grade is Grade.FAIL:
            raise finding.to_error()
        kept += [finding] if finding.grade is Grade.WARN else []
    return tuple(kept)


def name_of(check: Callable[[T], Iterator[Finding]]) -> str:
    """What all findings of a check are called."""
    return check.__name__.removeprefix("check_").replace("_", "-")


def failure(check: str, error: MigratorError) -> Finding:
    """A finding that becomes this error."""
    return Finding(check, Grade.FAIL, error.message, error.code, error.remedy or "", type(error).__name__)
