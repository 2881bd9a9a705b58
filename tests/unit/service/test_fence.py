from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path

import pytest

from migrator.errors import PreconditionFailed, ResourceExhausted
from migrator.models.phase import JobKind
from migrator.models.values import JobRequest, StepAction, StepCommand
from migrator.service.fence import Fence

COMMAND = StepCommand(
    job_id="j",
    step="prepare",
    position=4,
    action=StepAction.RUN,
    attempt=1,
    epoch=3,
    workload_id="w",
    request=JobRequest(kind=JobKind.MIGRATION),
    checkpoint_id="ck",
    facts={},
)


def test_a_lower_epoch_is_refused_also_by_the_next_process(tmp_path: Path) -> None:
    Fence(tmp_path / "epochs").admit("w", 3)
    fence = Fence(tmp_path / "epochs")
    fence.admit("w", 3)
    with pytest.raises(PreconditionFailed) as caught:
        fence.admit("w", 2)
    assert caught.value.code == "stale_epoch"
    fence.admit("other", 1)
    fence.admit("w", 4)
    assert fence.highest("w") == 4
    assert fence.highest("never seen") == 0


def test_a_full_disk_stops_what_begins_something_and_not_what_gives_it_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fence = Fence(tmp_path / "epochs")

    def write(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fence, "_write", write)
    with pytest.raises(ResourceExhausted, match="No space left"):
        fence.check(COMMAND)
    fence.check(replace(COMMAND, action=StepAction.UNDO, epoch=4))
    with pytest.raises(PreconditionFailed):
        fence.check(replace(COMMAND, epoch=3))
    monkeypatch.undo()
    fence.check(replace(COMMAND, epoch=4))
    assert fence.highest("w") == 4
