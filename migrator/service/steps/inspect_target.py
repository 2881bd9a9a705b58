"""Preflight on the target: can the container be restored here? Touches nothing."""

from __future__ import annotations

from migrator.criu.lazy.userfault import why_not
from migrator.models.values import Facts
from migrator.service.host import Act, Host, HostStep
from migrator.service.preflight.arrival import Arrival, moved_bytes
from migrator.service.preflight.checks import TARGET_CHECKS, conclude, examine
from migrator.service.preflight.forecast import LAZY_REFUSED
from migrator.service.preflight.host import criu_version
from migrator.service.preflight.image import missing_image_bytes
from migrator.service.preflight.report import told
from migrator.service.preflight.traits import read_traits


class InspectTarget(HostStep):
    """Look for a free name, room, CRIU and the object store, and compare this host with the source."""

    name = "inspect-target"

    def run(self, host: Host, act: Act) -> Facts:
        """Return the target's version of CRIU and what the checks found.

        Raises:
            AlreadyExists: `container_exists` or `snapshot_exists`, the name is taken here.
            PreconditionFailed: No CRIU here, too old, a snapshotter that this host lacks, or another kind of host.
            ResourceExhausted: `no_room`, its memory would not fit where CRIU reads it from.
        """
        runtime = host.runtime(act.request.namespace)
        traits = read_traits(runtime, criu_version(host))
        arrival = Arrival(host, act.request, runtime, act.facts, traits)
        findings = conclude(examine(TARGET_CHECKS, arrival), act)
        refused = {LAZY_REFUSED: why_not()}
        return {
            "target_criu": traits.criu,
            **refused,
            **told(findings),
            **missing_image_bytes(arrival),
            **moved_bytes(arrival),
        }
