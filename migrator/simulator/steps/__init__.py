"""The acts of the plans on fake hosts: the same effects in the same order as in `service/steps`.

Each act is a generator. It yields the name of the effect that comes next (or the name and how long that takes to
come), so that a fault can hit before, between and after all effects.
"""

from __future__ import annotations

from migrator.simulator.steps.ahead import Again, Precopy, Prefetch
from migrator.simulator.steps.displace import Displace, RemoveDisplaced
from migrator.simulator.steps.drill import Discard, TryProbe
from migrator.simulator.steps.dump import Dump
from migrator.simulator.steps.fetch import Fetch, ReadBack
from migrator.simulator.steps.freeze import Freeze, Promise, Thaw
from migrator.simulator.steps.hooks import AfterHook, BeforeHook
from migrator.simulator.steps.image import Prepare, PublishImage
from migrator.simulator.steps.inspecting import InspectSource, InspectTarget
from migrator.simulator.steps.release import ReleaseSource, ReleaseTarget, Remove
from migrator.simulator.steps.restore import Fill, Prove, Restore
from migrator.simulator.steps.step import SimulatedStep
from migrator.simulator.steps.upload import Upload

STEPS: dict[str, SimulatedStep] = {
    "inspect-source": InspectSource(),
    "inspect-target": InspectTarget(),
    "publish-image": PublishImage(),
    "prepare": Prepare(),
    "precopy": Precopy(),
    "prefetch": Prefetch(),
    "precopy-again": Again(Precopy()),
    "prefetch-again": Again(Prefetch()),
    "before-hook": BeforeHook(),
    "freeze": Freeze(),
    "dump": Dump(),
    "thaw": Thaw(),
    "after-hook": AfterHook(),
    "upload": Upload(),
    "read-back": ReadBack(),
    "fetch": Fetch(),
    "promise": Promise(),
    "displace": Displace(),
    "restore": Restore(),
    "prove": Prove(),
    "fill": Fill(),
    "probe": TryProbe(),
    "discard": Discard(),
    "remove": Remove(),
    "remove-displaced": RemoveDisplaced(),
    "release-source": ReleaseSource(),
    "release-target": ReleaseTarget(),
}

"""The same names as `service.steps.HOST_STEPS`."""
