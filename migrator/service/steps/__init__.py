"""The acts of the plans on hosts, one subject a file, in the order in which a migration performs them."""

from __future__ import annotations

from migrator.service.host import HostStep
from migrator.service.steps.ahead import Again, Precopy, Prefetch
from migrator.service.steps.displace import Displace, RemoveDisplaced
from migrator.service.steps.drill import Discard, TryProbe
from migrator.service.steps.dump import Dump
from migrator.service.steps.fetch import Fetch
from migrator.service.steps.freeze import Freeze, Promise, Thaw
from migrator.service.steps.hooks import AfterHook, BeforeHook
from migrator.service.steps.image import Prepare, PublishImage
from migrator.service.steps.inspect_source import InspectSource
from migrator.service.steps.inspect_target import InspectTarget
from migrator.service.steps.lazy import Fill
from migrator.service.steps.read_back import ReadBack
from migrator.service.steps.release import ReleaseSource, ReleaseTarget, Remove
from migrator.service.steps.restore import Prove, Restore
from migrator.service.steps.upload import Upload

HOST_STEPS: dict[str, HostStep] = {
    step.name: step
    for step in (
        InspectSource(),
        InspectTarget(),
        PublishImage(),
        Prepare(),
        Precopy(),
        Prefetch(),
        Again("precopy-again", Precopy()),
        Again("prefetch-again", Prefetch()),
        BeforeHook(),
        Freeze(),
        Dump(),
        Thaw(),
        AfterHook(),
        Upload(),
        ReadBack(),
        Fetch(),
        Promise(),
        Displace(),
        Restore(),
        Prove(),
        Fill(),
        TryProbe(),
        Discard(),
        Remove(),
        RemoveDisplaced(),
        ReleaseSource(),
        ReleaseTarget(),
    )
}
