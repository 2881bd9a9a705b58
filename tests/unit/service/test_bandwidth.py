"""Which steps keep to a bandwidth, and to which."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from migrator.errors import InvalidRequest
from migrator.models.phase import JobKind
from migrator.models.values import JobRequest
from migrator.rates import parse_rate
from migrator.service.bandwidth import Bandwidth
from migrator.service.host import Act, Host
from migrator.service.requests import check_request
from migrator.settings import Settings, load_settings
from migrator.storage.checkpoints import CheckpointStore
from migrator.storage.memory import MemoryStore
from migrator.storage.pacing import PacedStore

MIGRATION = JobRequest(JobKind.MIGRATION, source_host="alpha", container="web", target_host="beta")
BACKUP = JobRequest(JobKind.BACKUP, source_host="alpha", container="web")


def act(request: JobRequest, step: str, job_id: str = "mig-1") -> Act:
    command: Any = SimpleNamespace(job_id=job_id, request=request, step=step)
    return Act(command, lambda *_: None)


def host() -> Host:
    checkpoints = CheckpointStore(MemoryStore())
    parts: Any = dict.fromkeys(("containerd", "objects", "verdicts", "guards", "fence"))
    return Host(name="alpha", settings=load_settings(), checkpoints=checkpoints, **parts)


def is_limited(bandwidth: Bandwidth, request: JobRequest, step: str) -> bool:
    return isinstance(bandwidth.limited(host(), act(request, step)).checkpoints.objects, PacedStore)


@pytest.mark.parametrize(
    ("text", "bytes_s"),
    [("50MiB/s", 50 << 20), ("10MB/s", 10**7), ("400Mbit/s", 50 * 10**6), ("1.5 GiB/s", 3 << 29), ("65536B/s", 65536)],
)
def test_a_rate_is_read(text: str, bytes_s: int) -> None:
    assert parse_rate(text) == bytes_s


@pytest.mark.parametrize("text", ["", "fast", "50", "50MiB", "-1MiB/s", "1B/s", "0MiB/s", "9e9MiB/s", "50XiB/s"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_rate(text)
    assert caught.value.code == "bad_bandwidth"
    assert caught.value.remedy


def test_nothing_is_limited_unless_somebody_asked() -> None:
    assert not is_limited(Bandwidth(load_settings()), MIGRATION, "precopy")


@pytest.mark.parametrize("settings", [load_settings(bandwidth="50MiB/s"), load_settings()])
def test_what_happens_in_a_freeze_is_not_limited_unless_that_was_asked_for(settings: Settings) -> None:
    bandwidth = Bandwidth(settings)
    migration = MIGRATION if settings.bandwidth else replace(MIGRATION, bandwidth_bytes_s=1 << 20)
    for step in ("precopy", "precopy-again", "prefetch", "publish-image", "prepare"):
        assert is_limited(bandwidth, migration, step)
    for step in ("upload", "fetch"):
        assert not is_limited(bandwidth, migration, step)
        assert is_limited(bandwidth, replace(migration, bandwidth_in_freeze=True), step)
    assert is_limited(bandwidth, replace(BACKUP, bandwidth_bytes_s=1 << 20), "upload")  # the program runs on


def test_the_requests_of_one_job_share_its_limit_and_jobs_their_hosts() -> None:
    bandwidth = Bandwidth(load_settings(bandwidth="50MiB/s"))
    slow = replace(MIGRATION, bandwidth_bytes_s=1 << 20)

    def paces(request: JobRequest, job_id: str) -> list[object]:
        store = bandwidth.limited(host(), act(request, "precopy", job_id)).checkpoints.objects
        return list(cast(PacedStore, store)._limits._sending)

    one, again, other = paces(slow, "mig-1"), paces(slow, "mig-1"), paces(slow, "mig-2")
    assert one == again
    assert len(one) == 2
    assert one[0] is other[0]
    assert one[1] is not other[1]


def test_who_moves_nothing_cannot_have_a_bandwidth() -> None:
    check_request(replace(MIGRATION, bandwidth_bytes_s=50 << 20), None)
    with pytest.raises(InvalidRequest):
        check_request(replace(MIGRATION, bandwidth_bytes_s=5), None)
    with pytest.raises(InvalidRequest):
        check_request(JobRequest(JobKind.PRUNE, bandwidth_bytes_s=50 << 20), None)


def test_a_hosts_own_limit_must_be_one() -> None:
    with pytest.raises(InvalidRequest, match="bandwidth"):
        load_settings(bandwidth="fast")
    assert load_settings(bandwidth="").bandwidth is None
