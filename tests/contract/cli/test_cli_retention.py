"""Forgetting by the command line: tables, `--json`, and what is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from migrator.service.control.rounds import Rounds, utc_now
from migrator.service.retention.steps import retention_steps
from tests.contract.cli.test_cli_json import assert_keys
from tests.servers.api import ServedApi
from tests.servers.command_line import Answer

Cli = Callable[..., Answer]


@pytest.fixture
def kept(api: ServedApi, monkeypatch: pytest.MonkeyPatch) -> ServedApi:
    """Three checkpoints, and a controller that does at once what it is told."""
    for number in range(3):
        api.keep_checkpoint(f"ck-{number}", minutes=60 * number)
    steps = retention_steps(api.database, api.checkpoints, utc_now)
    rounds = Rounds(api.database, None, steps, {}, {}, freezes_per_host=2, now=utc_now)  # type: ignore[arg-type]
    monkeypatch.setattr(api.bell, "ring_controller", lambda job_id: rounds.move(job_id, lambda job: job))
    return api


def names(cli: Cli) -> list[str]:
    return [found["id"] for found in cli("checkpoints", "list", "--json").data]


def test_a_dry_run_is_a_table_with_reasons(kept: ServedApi, cli: Cli) -> None:
    answer = cli("forget", "alpha/web", "--keep-last", "1", "--keep-hourly", "2", "--dry-run")
    assert answer.code == 0, answer
    lines = [line.split() for line in answer.out.splitlines()]
    assert lines[0] == ["web-1"]
    assert lines[2][:5] == ["ck-2", "2026-03-01", "14:00:00", "alpha", "web"]
    assert lines[2][-3:] == ["keep", "last,", "hourly"]
    assert lines[4][-5:] == ["remove", "no", "rule", "keeps", "it"]
    assert "2 kept, 1 would be removed" in answer.out
    assert names(cli) == ["ck-2", "ck-1", "ck-0"]


def test_forgetting_in_json(kept: ServedApi, cli: Cli) -> None:
    answer = cli("forget", "--all", "--keep-last", "1", "--json")
    assert_keys(answer.data, "job")
    assert_keys(answer.data["forget"][0], "judgement")
    assert [found["keep"] for found in answer.data["forget"]] == [True, False, False]
    assert (answer.data["kind"], answer.data["state"], answer.code) == ("forget", "succeeded", 0)
    assert names(cli) == ["ck-2"]
    shown = cli("jobs", "show", answer.data["id"])
    assert "1 kept, 2 removed" in shown.out


def test_pins_are_shown_and_hold(kept: ServedApi, cli: Cli) -> None:
    assert cli("checkpoints", "pin", "ck-0", "--reason", "the first").out == "checkpoint ck-0 is pinned\n"
    assert cli("checkpoints", "pin", "ck-0", "--json").data == {"id": "ck-0", "pinned": True, "reason": None}
    assert "pinned" in next(line for line in cli("checkpoints", "list").out.splitlines() if "ck-0" in line)
    refused = cli("checkpoints", "remove", "ck-0")
    assert (refused.code, "unpin ck-0" in refused.err) == (5, True)
    assert cli("checkpoints", "unpin", "ck-0", "--json").data == {"id": "ck-0", "pinned": False}
    assert cli("checkpoints", "remove", "ck-0", "ck-1", "--json").data["state"] == "succeeded"
    assert names(cli) == ["ck-2"]


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        (("forget",), 2, "bad_selection"),
        (("forget", "web-1", "--all"), 2, "bad_selection"),
        (("forget", "web-1"), 5, "removes_everything"),
        (("forget", "web-9", "--keep-last", "1"), 3, "nothing_selected"),
        (("forget", "alpha/db", "--keep-last", "1"), 3, "nothing_selected"),
        (("forget", "web-1", "--keep-within", "soon"), 2, "bad_duration"),
        (("forget", "web-1", "--keep-daily", "1", "--time-zone", "Mars"), 2, "bad_time_zone"),
        (("forget", "web-1", "--keep-last", "-7"), 2, "bad_retention"),
        (("checkpoints", "remove", "ck-9"), 3, "checkpoint_not_found"),
        (("checkpoints", "pin", "ck-9"), 3, "checkpoint_not_found"),
    ],
    ids=str,
)
def test_bad_input_changes_nothing(kept: ServedApi, cli: Cli, words: tuple[str, ...], code: int, error: str) -> None:
    answer = cli(*words, "--json")
    assert (answer.code, answer.data["error"]["code"]) == (code, error)
    assert answer.data["error"]["remedy"]
    assert names(cli) == ["ck-2", "ck-1", "ck-0"]
