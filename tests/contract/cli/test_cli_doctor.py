"""`migrator doctor`: what it says, and how it ends."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from migrator.models.housekeeping import Check, Examination, Fate, Finding, FindingKind, HostExamination, Level
from migrator.service.housekeeping import examining
from tests.servers.api import ServedApi
from tests.servers.command_line import Answer

Cli = Callable[..., Answer]
JOB = "mig-2222222222"


def finding(fate: Fate) -> Finding:
    return Finding(
        FindingKind.LEASE, f"migrator-{JOB}", fate, "keeps [what] the job made; its job is over", "default", JOB
    )


def well(host: str, *findings: Finding, level: Level = Level.FINE) -> HostExamination:
    return HostExamination(
        host, Examination(findings, (Check("criu", level, "4.2.1", "" if level is Level.FINE else "mend it"),))
    )


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOOK_S", "SILENT_LOOK_S", "FIX_S"):
        monkeypatch.setattr(examining, name, 0.5)


@pytest.mark.parametrize("fate", [Fate.KEPT, Fate.FOREIGN, Fate.REMOVED])
def test_all_is_well(api: ServedApi, cli: Cli, fate: Fate) -> None:
    api.examine(well("alpha", finding(fate)), well("beta", level=Level.DOUBTFUL))
    answer = cli("doctor")
    assert (answer.code, answer.err) == (0, "")
    for words in (
        "alpha",
        "beta",
        "criu",
        "4.2.1",
        "→ mend it",
        f"lease default/migrator-{JOB}",
        "keeps [what] the job made",
    ):
        assert words in answer.out


@pytest.mark.parametrize("fate", [Fate.DUE, Fate.FAILED])
def test_something_lies_about(api: ServedApi, cli: Cli, fate: Fate) -> None:
    api.examine(well("alpha", finding(fate)), well("beta"))
    assert cli("doctor").code == 1
    assert cli("doctor", "beta").code == 0


def test_an_epoch_of_a_workload_that_is_gone_is_no_illness(api: ServedApi, cli: Cli) -> None:
    epoch = Finding(FindingKind.EPOCH, "web-2222222222", Fate.DUE, "that workload no longer exists")
    api.examine(well("alpha", epoch), well("beta"))
    assert cli("doctor").code == 0


def test_a_host_is_ill(api: ServedApi, cli: Cli) -> None:
    api.examine(well("alpha", level=Level.WRONG), well("beta"))
    answer = cli("doctor")
    assert answer.code == 1
    assert "→ mend it" in answer.out


def test_a_host_is_silent(api: ServedApi, cli: Cli) -> None:
    api.beat("beta", age_s=60)
    api.examine(well("alpha"))
    answer = cli("doctor")
    assert answer.code == 6
    assert "beta  no answer" in answer.out
    assert "host 'beta' has no live worker" in answer.err
    assert "  → start it there: migrator worker --host beta" in answer.err
    assert "4.2.1" in answer.out


def test_as_json(api: ServedApi, cli: Cli) -> None:
    api.examine(well("alpha", finding(Fate.REMOVED)))
    row, silent = cli("doctor", "--fix", "--json").data
    assert (row["host"], row["failure"]) == ("alpha", None)
    assert row["checks"][0] == {"name": "criu", "level": "fine", "value": "4.2.1", "remedy": None}
    assert row["findings"] == [
        {
            "kind": "lease", "namespace": "default", "name": f"migrator-{JOB}", "job_id": JOB, "since": None,
            "fate": "removed", "reason": "keeps [what] the job made; its job is over",
        }
    ]  # fmt: skip
    assert (silent["host"], silent["failure"]["code"]) == ("beta", "host_silent")
