"""A host's own CRIU configuration that contradicts what the job asks CRIU for: a file outranks what CRIU is asked."""

from __future__ import annotations

from collections.abc import Iterator

from migrator.criu.configuration import option_names
from migrator.models.preflight import Finding, Grade
from migrator.models.values import TcpPolicy
from migrator.service.preflight.subject import Subject

NEVER = frozenset({"images-dir", "work-dir", "log-file", "leave-stopped", "lazy-pages", "stream", "empty-ns"})
"""These put the images somewhere else, or leave something out of them."""
AGAINST = {
    TcpPolicy.KEEP: frozenset({"tcp-close"}),
    TcpPolicy.CLOSE: frozenset({"tcp-established"}),
    TcpPolicy.REFUSE: frozenset({"tcp-established", "tcp-close"}),
}


def check_criu_configuration(subject: Subject) -> Iterator[Finding]:
    """On the source."""
    yield from contradictions(subject.request.tcp)


def contradictions(tcp: TcpPolicy) -> Iterator[Finding]:
    """What stands in this host's files against a job with that policy."""
    for file, names in option_names():
        wrong = sorted(names & (NEVER | AGAINST[tcp]))
        if wrong:
            yield Finding(
                "criu configuration",
                Grade.FAIL,
                f"{file} says {', '.join(wrong)}, which contradicts what the job needs (--tcp {tcp})",
                "criu_configuration",
                f"take {', '.join(wrong)} out of {file} on this host",
            )
