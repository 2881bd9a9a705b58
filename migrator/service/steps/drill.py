"""What decides about a restore drill, and its end."""

from __future__ import annotations

import time

from migrator.containerd import ContainerdClient
from migrator.errors import MigratorError, WorkloadFailed
from migrator.models.hooks import command_words
from migrator.models.values import Facts, Probe
from migrator.service.command import check_runs, fault_of, run_command
from migrator.service.host import Act, Host, HostStep
from migrator.service.preflight.arrival import restored_name
from migrator.service.steps.fetch import Fetch
from migrator.service.steps.image import Prepare
from migrator.service.steps.restore import Restore
from migrator.service.steps.work import work_directory

PROBE_LABEL = "io.migrator.drill/probe"
"""A label of the container that holds its probe, which the job outranks."""
PAUSE_S = 0.5


class TryProbe(HostStep):
    """Ask the restored program whether it is well."""

    name = "probe"

    def run(self, host: Host, act: Act) -> Facts:
        """Return what was asked and how long it took to say yes.

        Raises:
            WorkloadFailed: `probe_failed`, it never did; `drill_ended`, it ended.
        """
        runtime, name = host.runtime(act.request.namespace), restored_name(act)
        probe = act.request.probe
        command = probe.command or runtime.containers.get(name).labels.get(PROBE_LABEL, "")
        begun = time.monotonic()
        if command:
            _probe(host, act, runtime, Probe(command, probe.timeout_s))
        else:
            _watch(act, runtime, probe.limit_s)
        return {"probe": command, "probe_s": time.monotonic() - begun}


class Discard(HostStep):
    """Throw away all that a drill made on its host."""

    name = "discard"

    def run(self, host: Host, act: Act) -> Facts:
        """Take back the steps of the restore, newest first."""
        for step in (Restore(), Fetch(), Prepare()):
            step.undo(host, act)
        return {}


def _probe(host: Host, act: Act, runtime: ContainerdClient, probe: Probe) -> None:
    """Run the probe again and again until it succeeds or its time is over."""
    name, deadline = restored_name(act), time.monotonic() + probe.limit_s
    while True:
        _check_lives(runtime, name)
        try:
            ended = run_command(
                runtime,
                name,
                f"migrator-{act.command.job_id}-probe",
                command_words(probe.command, "bad_probe"),
                timeout_s=max(0.1, deadline - time.monotonic()),
                directory=work_directory(host, act),
                check=act.check_aborted,
            )
            fault = ended.fault
        except WorkloadFailed as error:
            fault = fault_of(error)
        if not fault:
            return
        if time.monotonic() + PAUSE_S >= deadline:
            raise WorkloadFailed(
                f"the probe {fault}",
                code="probe_failed",
                remedy="restore it under another name with --network none and look; is the probe right?",
            )
        act.check_aborted()
        time.sleep(PAUSE_S)


def _watch(act: Act, runtime: ContainerdClient, for_s: float) -> None:
    """See the program run for a while."""
    deadline = time.monotonic() + for_s
    while time.monotonic() < deadline:
        act.check_aborted()
        _check_lives(runtime, restored_name(act))
        time.sleep(0.1)
    _check_lives(runtime, restored_name(act))


def _check_lives(runtime: ContainerdClient, name: str) -> None:
    try:
        check_runs(runtime, name)
    except MigratorError as error:
        raise WorkloadFailed(
            f"the restored program ended: {error.message}",
            code="drill_ended",
            remedy="restore it under another name with --network none and look why",
        ) from error
