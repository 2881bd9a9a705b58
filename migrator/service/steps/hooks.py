"""Run a job's hooks in its container: one before the freeze, one when the program runs again.

From the moment before the first begins until the second has ended a note lies in the job's work directory, which a
reboot empties as it ends the container: whoever turns the job back knows from it that the second is owed.
"""

from __future__ import annotations

from pathlib import Path

from migrator.errors import Cancelled, MigratorError, OutcomeUnknown, TransientError, WorkloadFailed
from migrator.models.hooks import AFTER_FAILED, HOOKS, RAN_BEFORE, Hooks, OnFailure, command_words, read_hooks
from migrator.models.preflight import Finding, Grade
from migrator.models.values import Facts
from migrator.service.command import check_runs, end_command, fault_of, run_command
from migrator.service.host import Act, Host, HostStep
from migrator.service.preflight.arrival import restored_name
from migrator.service.preflight.report import warned
from migrator.service.steps.work import hook_directory, remove_hook_directory

BEFORE, AFTER = "before", "after"
ATTEMPTS = 3
"""So often an undo tries to run the hook when containerd does not answer: others wait behind it."""


class BeforeHook(HostStep):
    """Let the program get ready for the freeze. Undo: let it go on, if it runs."""

    name = "before-hook"

    def run(self, host: Host, act: Act) -> Facts:
        """Return whether anything was run.

        Raises:
            WorkloadFailed: `hook_failed`.
        """
        hooks = hooks_of_job(act)
        if not hooks.before and not hooks.after:
            return {}
        hook_directory(host, act).mkdir(parents=True, exist_ok=True, mode=0o700)
        _note(host, act).touch(mode=0o600)
        if not hooks.before:
            return {RAN_BEFORE: True}
        fault = _run(host, act, str(act.request.container), BEFORE, hooks)
        if fault and hooks.on_before_failure is not OnFailure.IGNORE:
            raise _failed(BEFORE, act, fault)
        return {RAN_BEFORE: True, **_told(BEFORE, fault)}

    def undo(self, host: Host, act: Act) -> Facts:
        """Run the hook that is for after the freeze: the program runs again and may still hold what it has locked.

        It is done when it was tried: a program that does not let go keeps no job from its end, which tells of it.
        """
        container, hooks = str(act.request.container), hooks_of_job(act)
        if not _note(host, act).exists():
            return {}
        runtime = host.runtime(act.request.namespace)
        end_command(runtime, container, _exec_id(act, BEFORE))
        fault = ""
        if hooks.after:
            try:
                check_runs(runtime, container)
                fault = _run(host, act, container, AFTER, hooks)
            except MigratorError as error:
                if isinstance(error, TransientError | OutcomeUnknown) and act.command.attempt < ATTEMPTS:
                    raise
                fault = fault_of(error)
        remove_hook_directory(host, act)
        return {AFTER_FAILED: fault} if fault else {}


class AfterHook(HostStep):
    """Let the program go on as before, where it runs now: a checkpoint's on the source, else on the target."""

    name = "after-hook"

    def run(self, host: Host, act: Act) -> Facts:
        """Run it if the one before the freeze was run.

        Where there is no way back, or nothing runs that could be locked, what goes wrong is told, and the job goes on.

        Raises:
            WorkloadFailed: `hook_failed`, of a checkpoint.
        """
        hooks = hooks_of_job(act)
        if not hooks.after or not act.facts.get(RAN_BEFORE):
            return {}
        at_source = act.request.target_host is None
        container = str(act.request.container) if at_source else restored_name(act)
        try:
            check_runs(host.runtime(act.request.namespace), container)
            fault = _run(host, act, container, AFTER, hooks)
        except (TransientError, OutcomeUnknown, Cancelled):
            if at_source or act.command.attempt < ATTEMPTS:
                raise
            fault = "could not be run: containerd gave no answer"
        except MigratorError as error:
            remove_hook_directory(host, act)
            return _told(AFTER, fault_of(error))
        remove_hook_directory(host, act)
        if fault and at_source and hooks.on_after_failure is not OnFailure.IGNORE:
            raise _failed(AFTER, act, fault)
        return _told(AFTER, fault)


def hooks_of_job(act: Act) -> Hooks:
    """What the inspection found, or the checkpoint tells of."""
    return read_hooks(act.facts.get(HOOKS))


def _run(host: Host, act: Act, container: str, which: str, hooks: Hooks) -> str:
    """Run a hook and return what went wrong with it, empty if nothing did."""
    words = command_words(hooks.before if which == BEFORE else hooks.after)
    try:
        ended = run_command(
            host.runtime(act.request.namespace),
            container,
            _exec_id(act, which),
            words,
            timeout_s=hooks.limit_s,
            directory=hook_directory(host, act),
            check=act.check_aborted,
        )
    except WorkloadFailed as error:  # such as: there is no shell in it
        return fault_of(error)
    return ended.fault


def _note(host: Host, act: Act) -> Path:
    """What lies here while the second hook is owed."""
    return hook_directory(host, act) / "owed"


def _exec_id(act: Act, which: str) -> str:
    return f"migrator-{act.command.job_id}-{which}"


def _failed(which: str, act: Act, fault: str) -> WorkloadFailed:
    return WorkloadFailed(
        f"the hook {which} the freeze of container '{act.request.container}' {fault}",
        code="hook_failed",
        remedy=f"mend it, or go on without it: --on-hook-failure {which}=ignore",
    )


def _told(which: str, fault: str) -> Facts:
    if not fault:
        return {}
    remedy = "see to it that the program is as it should be"
    return warned(Finding("hooks", Grade.WARN, f"the hook {which} the freeze {fault}", "hook_failed", remedy))
