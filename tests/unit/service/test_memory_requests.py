"""Who may say when a program gets its memory, in which form it moves, and how long it may stand still."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from migrator.errors import InvalidRequest
from migrator.models.phase import JobKind
from migrator.models.values import JobRequest, Mode, StorePath
from migrator.service.plans import steps_for
from migrator.service.requests import check_request

MIGRATION = JobRequest(JobKind.MIGRATION, source_host="alpha", container="web", target_host="beta")
BACKUP = JobRequest(JobKind.BACKUP, source_host="alpha", container="web")
RESTORE = JobRequest(JobKind.RESTORE, checkpoint_id="ck-1", target_host="beta")
DRILL = JobRequest(JobKind.DRILL, checkpoint_id="ck-1", target_host="beta")


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (MIGRATION, {"mode": Mode.LAZY, "max_downtime_s": 0.5, "force": True, "path": StorePath.CONTENT}),
        (RESTORE, {"mode": Mode.LAZY}),
        (replace(MIGRATION, kind=JobKind.PREFLIGHT), {"mode": Mode.EAGER, "max_downtime_s": 2.0}),
    ],
)
def test_what_makes_sense_is_taken(request_: JobRequest, words: dict[str, Any]) -> None:
    check_request(replace(request_, **words), None)


@pytest.mark.parametrize(
    ("request_", "words", "code"),
    [
        (BACKUP, {"mode": Mode.LAZY}, "contradictory_request"),
        (DRILL, {"mode": Mode.EAGER}, "contradictory_request"),
        (RESTORE, {"max_downtime_s": 1.0}, "contradictory_request"),
        (BACKUP, {"force": True}, "contradictory_request"),
        (RESTORE, {"path": StorePath.CONTENT}, "contradictory_request"),
        (MIGRATION, {"max_downtime_s": 0.0}, "bad_max_downtime"),
        (MIGRATION, {"max_downtime_s": 1e9}, "bad_max_downtime"),
        (MIGRATION, {"max_downtime_s": float("nan")}, "bad_max_downtime"),
    ],
)
def test_what_makes_none_is_refused(request_: JobRequest, words: dict[str, Any], code: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_request(replace(request_, **words), None)
    assert caught.value.code == code


def test_only_what_may_come_lazily_waits_for_it() -> None:
    names = {mode: [step.name for step in steps_for(replace(MIGRATION, mode=mode))] for mode in Mode}
    assert "fill" not in names[Mode.EAGER]
    assert names[Mode.LAZY] == names[Mode.AUTO]
    lazily = names[Mode.LAZY]
    assert lazily.index("prove") < lazily.index("fill") < lazily.index("remove")
