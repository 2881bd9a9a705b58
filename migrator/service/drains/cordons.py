"""Hosts that take no new containers, from the beginning of a maintenance to its end."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from migrator.errors import PreconditionFailed
from migrator.models.drains import Cordon, DrainOptions
from migrator.models.phase import JobKind, Phase
from migrator.models.session import Transaction
from migrator.models.values import Host, Job, JobRequest
from migrator.service.job_making import new_job
from migrator.service.requests import DRAINS


def begin_maintenance(tx: Transaction, cordon: Cordon) -> Cordon:
    """Cordon a host. A new maintenance knows nothing of what an earlier one has moved; a cordoned host stays so."""
    known = tx.cordons.find(cordon.host)
    if known is None:
        tx.displacements.forget(cordon.host)
    elif cordon.drain_id is None:
        return known
    else:
        cordon = replace(known, drain_id=cordon.drain_id)
    tx.cordons.put(cordon)
    return cordon


def refuse_cordoned(tx: Transaction, host: str | None) -> None:
    """Refuse to bring something to a host that takes no new containers.

    Raises:
        PreconditionFailed: `host_cordoned`.
    """
    cordon = tx.cordons.find(host) if host is not None else None
    if cordon is not None:
        why = f" ({cordon.reason})" if cordon.reason else ""
        raise PreconditionFailed(
            f"host '{host}' takes no new containers{why}",
            code="host_cordoned",
            host=host,
            remedy=f"choose another host, or let it: migrator hosts uncordon {host}",
        )


def check_maintenance(tx: Transaction, request: JobRequest) -> None:
    """Refuse a job that a maintenance forbids; that a host has one drain at a time is for the database to say.

    Raises:
        PreconditionFailed: `host_cordoned` or `plan_not_usable`.
    """
    options = request.drain or DrainOptions()
    if request.kind not in DRAINS:
        refuse_cordoned(tx, request.target_host)
        return
    for target in options.targets:
        refuse_cordoned(tx, target)
    if options.plan_id is not None:
        _check_plan(tx.jobs.get(options.plan_id), request)


def _check_plan(plan: Job, request: JobRequest) -> None:
    told, wanted = plan.request.drain or DrainOptions(), request.drain or DrainOptions()
    as_told = replace(wanted, plan_id=None, dry_run=True, return_after_s=told.return_after_s)
    as_told = replace(as_told, parallel=told.parallel, skip_refused=told.skip_refused)
    if plan.phase is not Phase.SUCCEEDED or replace(request, drain=as_told) != plan.request:
        raise PreconditionFailed(
            f"job '{plan.id}' is no plan for this: it must be a dry run of the same that succeeded",
            code="plan_not_usable",
            remedy="make a new one with --dry-run, or leave it out",
        )


def start_return(tx: Transaction, cordon: Cordon, host: Host, now: datetime) -> str | None:
    """Bring back what was moved off a host, if it is time for it; return the job's id.

    It happens in one transaction with the note that it has, so once, however many controllers there are.

    Raises:
        ResourceBusy: `drain_under_way`, somebody drains it anew; it is for later.
    """
    current = tx.cordons.find(cordon.host)
    if current is None or current.return_at is None or current.return_at > now or current.drain_id is None:
        return None
    drain = tx.jobs.get(current.drain_id)
    if not drain.phase.terminal:
        return None
    tx.cordons.put(replace(current, return_at=None))
    wanted = drain.request
    options = wanted.drain and replace(wanted.drain, targets=(), dry_run=False, plan_id=None, return_after_s=None)
    request = JobRequest(
        JobKind.RETURN,
        target_host=host.name,
        external_unix_sockets=wanted.external_unix_sockets,
        tcp=wanted.tcp,
        drain=options,
    )
    return tx.jobs.add(new_job(request, now, f"{drain.id}/return")).id
