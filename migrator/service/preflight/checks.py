"""All checks on the source, in the order in which their failures are told."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from migrator.errors import PreconditionFailed
from migrator.models.preflight import Finding, Grade
from migrator.service.preflight import connections, container, criu_configuration, network
from migrator.service.preflight.subject import Check, Subject

SOURCE_CHECKS: tuple[Check, ...] = (
    container.check_runtime,
    container.check_terminal,
    container.check_binds,
    container.check_namespaces,
    container.check_destinations,
    network.check_network,
    connections.check_connections,
    connections.check_waiting,
    criu_configuration.check_criu_configuration,
)


def examine_source(subject: Subject) -> Iterator[Finding]:
    """Look at everything that could keep a container from being checkpointed."""
    for check in SOURCE_CHECKS:
        yield from check(subject)


def refuse_failures(findings: Iterable[Finding]) -> None:
    """Stop at the first failure.

    Raises:
        PreconditionFailed: With that failure's code, message and remedy.
    """
    for finding in findings:
        if finding.grade is Grade.FAIL:
            raise PreconditionFailed(finding.message, code=finding.code, remedy=finding.remedy)
