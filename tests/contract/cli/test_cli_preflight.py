"""`migrator preflight` and `migrator migrate --dry-run`: every finding, the forecast, and 1 when a check fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from migrator.errors import NotFound
from migrator.models.phase import Phase
from migrator.models.preflight import Finding, Grade
from migrator.models.values import Job, StepStatus
from migrator.service.control import engine
from migrator.service.preflight.forecast import FORECAST, predict
from migrator.service.preflight.report import told
from tests.contract.cli.test_cli_json import assert_keys
from tests.servers.api import ServedApi
from tests.servers.command_line import Answer

Cli = Callable[..., Answer]
WELL = Finding("criu", Grade.PASS, "CRIU 4.2.1")
ODD = Finding("versions", Grade.WARN, "runc 1.3.6 is odd [sic]", "cve_2026_119101", "install runc 1.3.7")
BAD = Finding("anonymous", Grade.FAIL, "container 'web' uses io_uring", "io_uring", "turn it off")
WORST = Finding("sockets", Grade.FAIL, "container 'web' has a SCTP socket", "unknown_socket", "close it")


def answer(api: ServedApi, source: tuple[Finding, ...], target: tuple[Finding, ...]) -> Job:
    """Let both hosts have answered a preflight that waits for them."""
    now = datetime.now(UTC)
    with api.database.transaction() as tx:
        (job,) = tx.jobs.list(limit=1)
        facts = {
            "inspect-source": {**told(source), "estimate_bytes": 64_000_000, "image_upload_bytes": 7_000_000},
            "inspect-target": {**told(target), "image_download_bytes": 0},
        }
        steps = [
            replace(s, status=StepStatus.DONE, attempt=1, started_at=now, finished_at=now, facts=facts.get(s.name, {}))
            for s in job.steps
        ]
        after = replace(job, phase=Phase.PREFLIGHT, steps=tuple(steps))
        steps[-1] = replace(steps[-1], facts={FORECAST: predict(after, []).to_facts()})
        return tx.jobs.save(job, engine.finish(replace(after, steps=tuple(steps)), Phase.SUCCEEDED, now))


@contextmanager
def meanwhile(api: ServedApi, act: Callable[[], object]) -> Iterator[None]:
    """Do something as soon as there is a job."""

    def wait() -> None:
        while not api.plane.list_jobs():
            time.sleep(0.02)
        act()

    waiting = threading.Thread(target=wait)
    waiting.start()
    yield
    waiting.join()


def test_a_container_that_can_move(api: ServedApi, cli: Cli) -> None:
    with meanwhile(api, lambda: answer(api, (WELL, ODD), (WELL,))):
        said = cli("preflight", "alpha/web", "beta")
    assert said.code == 0, said.err
    for words in (
        "alpha/web → beta",
        "✓  criu      CRIU 4.2.1",
        "!  versions  runc 1.3.6 is odd [sic]",
        "→ install runc 1.3.7",
        "preflight   claim           control",
        "freezing    freeze          alpha",
        "restoring   restore         beta",
        "64.0 MB of memory and changed files",
        "7.0 MB to the store, 0 B to the target, before the freeze",
        "ms, by a default model",
        "it can move: 4 pass, 1 warn",
    ):
        assert words in said.out, said.out


@pytest.mark.parametrize("words", [("preflight", "alpha/web", "beta"), ("migrate", "alpha/web", "beta", "--dry-run")])
def test_all_failures_are_shown_and_the_end_is_1(api: ServedApi, cli: Cli, words: tuple[str, ...]) -> None:
    with meanwhile(api, lambda: answer(api, (BAD, WORST, WELL), (BAD,))):
        said = cli(*words)
    assert said.code == 1
    assert said.out.count("✗ ") == 3
    assert "→ turn it off" in said.out
    assert "→ close it" in said.out
    assert "it would be refused: 3 pass, 3 fail" in said.out
    (job,) = api.plane.list_jobs()
    assert (job.request.kind, job.checkpoint_id, job.workload_id) == ("preflight", None, None)


def test_json(api: ServedApi, cli: Cli) -> None:
    with meanwhile(api, lambda: answer(api, (ODD, BAD), (WELL,))):
        said = cli("preflight", "alpha/web", "beta", "--json")
    assert said.code == 1
    assert_keys(said.data, "job")
    first = said.data["findings"][0]
    assert_keys(first, "preflight finding")
    assert_keys(said.data["forecast"], "forecast")
    assert first == {
        "host": "alpha",
        "check": "versions",
        "grade": "warn",
        "message": "runc 1.3.6 is odd [sic]",
        "code": "cve_2026_119101",
        "remedy": "install runc 1.3.7",
    }
    assert said.data["kind"] == "preflight"
    forecast = said.data["forecast"]
    assert forecast["steps"][0] == {"name": "inspect-source", "host": "alpha", "phase": "preflight"}
    assert (forecast["checkpoint_bytes"], forecast["image_upload_bytes"]) == (64_000_000, 7_000_000)
    assert cli("jobs", "show", said.data["id"], "--json").data == said.data


def test_nothing_to_look_at_is_an_error_with_its_own_exit_code(api: ServedApi, cli: Cli) -> None:
    gone = NotFound("container 'web' does not exist", code="container_not_found", host="alpha", remedy="look")

    def fail() -> None:
        api.move(api.plane.list_jobs()[0].id, Phase.FAILED, failure=gone.to_dict())

    with meanwhile(api, fail):
        said = cli("preflight", "alpha/web", "beta")
    assert said.code == 3
    assert "container 'web' does not exist (host alpha)" in said.err


@pytest.mark.parametrize(
    ("words", "code"), [(("alpha/web", "alpha"), 2), (("web", "beta"), 2), (("alpha/web", "nowhere"), 3)]
)
def test_words_that_name_nothing(cli: Cli, words: tuple[str, ...], code: int) -> None:
    assert cli("preflight", *words).code == code


def test_a_migrations_warnings_are_shown_with_it(api: ServedApi, cli: Cli) -> None:
    job = api.migrate()
    with api.database.transaction() as tx:
        before = tx.jobs.get(job.id)
        steps = (replace(before.steps[0], status=StepStatus.DONE, facts=told((ODD,))), *before.steps[1:])
        tx.jobs.save(before, replace(before, steps=steps))
    said = cli("jobs", "show", job.id)
    assert "!  versions  runc 1.3.6 is odd [sic]" in said.out
    shown = cli("jobs", "show", job.id, "--json").data
    assert [found["code"] for found in shown["findings"]] == ["cve_2026_119101"]
    assert shown["forecast"] is None
