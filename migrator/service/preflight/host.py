"""What must be on either host: CRIU and the object store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from migrator.criu.configuration import read_options
from migrator.criu.program import find_criu
from migrator.errors import PreconditionFailed
from migrator.models.preflight import Finding, Grade
from migrator.models.values import TcpPolicy
from migrator.service.host import Host
from migrator.service.preflight.arrival import Arrival
from migrator.service.preflight.subject import Subject
from migrator.storage.probing import probe_store

CONTRADICTS = frozenset({
    "images-dir", "work-dir", "root", "lazy-pages", "page-server", "address", "port", "stream", "leave-stopped",
    "prev-images-dir", "shell-job", "restore-detached", "restore-sibling", "pidfile", "tree", "log-file", "log-pid",
    "empty-ns",
})  # fmt: skip
"""Options about where images and logs lie, which processes are meant, what is left out, and what becomes of them."""
AGAINST = {
    TcpPolicy.KEEP: frozenset({"tcp-close"}),
    TcpPolicy.CLOSE: frozenset({"tcp-established"}),
    TcpPolicy.REFUSE: frozenset({"tcp-established", "tcp-close"}),
}
"""What would become of open connections otherwise than the job wants."""
HARMLESS = frozenset(["ghost-limit", "irmap-scan-path", "verbosity", "v0", "v1", "v2", "v3", "v4", "timeout"])


def criu_version(host: Host) -> str:
    """CRIU's version; empty when `check_criu` has something to say about it."""
    try:
        return find_criu(host.settings.criu_path).version
    except PreconditionFailed:
        return ""


def check_criu(place: Subject | Arrival) -> Iterator[Finding]:
    """CRIU must be here and suit this kernel.

    Raises:
        PreconditionFailed: `criu_missing`, `criu_broken` or `criu_too_old`.
    """
    known = place.traits.criu if place.traits else ""
    yield Finding("criu", Grade.PASS, f"CRIU {known or find_criu(place.host.settings.criu_path).version}")


def check_configuration(place: Subject | Arrival) -> Iterator[Finding]:
    """CRIU's own configuration on this host outranks what it is asked for."""
    yield from judge_options(read_options(), place.request.tcp)


def judge_options(options: Mapping[str, str], tcp: TcpPolicy = TcpPolicy.KEEP) -> Iterator[Finding]:
    """Refuse what would send images elsewhere or leave the task in another state, and tell the rest."""
    wrong = sorted((CONTRADICTS | AGAINST[tcp]) & options.keys())
    if wrong:
        remedy = "remove it from /etc/criu/default.conf, /etc/criu/runc.conf and ~/.criu/default.conf of this host"
        fault = f"CRIU's configuration contradicts what the job asks for: {', '.join(wrong)}"
        yield Finding("configuration", Grade.FAIL, fault, "criu_configuration", remedy)
    elif doubtful := sorted(options.keys() - HARMLESS):
        remedy = "see that both hosts have the same: CRIU takes these over what it is asked for"
        fault = f"CRIU's configuration says {', '.join(doubtful)}"
        yield Finding("configuration", Grade.WARN, fault, "criu_options", remedy)


def check_store(place: Subject | Arrival) -> Iterator[Finding]:
    """What the job moves goes by way of the object store: it must answer, and take and give.

    Raises:
        MigratorError: Why it does not.
    """
    probe_store(place.host.objects)
    yield Finding("store", Grade.PASS, place.host.objects.location)
