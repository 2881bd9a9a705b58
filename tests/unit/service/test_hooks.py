"""Hooks: how their words are read, when the second is owed, and what a failure means."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from migrator.errors import InvalidRequest, MigratorError, PreconditionFailed, Unavailable, WorkloadFailed
from migrator.models.hooks import (
    AFTER_FAILED,
    HOOKS,
    RAN_BEFORE,
    Hooks,
    OnFailure,
    check_hooks,
    command_words,
    labelled_hooks,
    read_hooks,
    read_policies,
)
from migrator.models.memory import MemoryDatabase
from migrator.models.phase import JobKind, Phase
from migrator.models.values import Job, JobRequest, StepAction, StepCommand
from migrator.service.command import Ended, Tail
from migrator.service.control import engine
from migrator.service.control.endings import conclude
from migrator.service.host import Act, Host
from migrator.service.plans import steps_for
from migrator.service.steps import hooks as steps

BOTH = Hooks("flush", "unlock")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("sync; sync", ["/bin/sh", "-c", "sync; sync"]),
        ('["/bin/flush", "--all"]', ["/bin/flush", "--all"]),
        ("[ -e /file ] && sync", ["/bin/sh", "-c", "[ -e /file ] && sync"]),
    ],
)
def test_a_command_is_a_line_or_an_array_of_words(command: str, words: list[str]) -> None:
    assert command_words(command) == words


@pytest.mark.parametrize("command", ["[]", "[1]", '[""]', " ", "a\0b", "x" * 9000])
def test_what_is_no_command_is_refused(command: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        command_words(command)
    assert caught.value.code == "bad_hook"


def test_labels_say_what_a_job_does_not() -> None:
    labels = {
        "io.migrator.hook/before": "flush",
        "io.migrator.hook/after": "unlock",
        "io.migrator.hook/timeout": "20s",
        "io.migrator.hook/on-failure": "before=ignore",
        "team": "red",
    }
    hooks = Hooks(after="release", on_after_failure=OnFailure.IGNORE).or_else(labelled_hooks(labels))
    assert hooks == Hooks("flush", "release", 20, OnFailure.IGNORE, OnFailure.IGNORE)
    assert read_hooks(hooks.to_facts()) == hooks
    assert read_policies(hooks.policies) == (OnFailure.IGNORE, OnFailure.IGNORE)


@pytest.mark.parametrize(
    "labels",
    [
        {"during": "x"},
        {"timeout": "soon"},
        {"timeout": "0"},
        {"timeout": "nan"},
        {"on-failure": "retry"},
        {"after": ""},
    ],
)
def test_a_label_without_sense_is_refused(labels: dict[str, str]) -> None:
    told = {f"io.migrator.hook/{name}": word for name, word in labels.items()}
    if labels == {"after": ""}:
        assert labelled_hooks(told) == Hooks()
        return
    with pytest.raises(InvalidRequest) as caught:
        labelled_hooks(told)
    assert caught.value.code == "bad_hook"
    assert caught.value.remedy


@pytest.mark.parametrize("timeout_s", [0.0, -1.0, 301.0, float("inf"), float("nan")])
def test_a_time_for_which_nobody_waits_is_refused(timeout_s: float) -> None:
    with pytest.raises(InvalidRequest):
        check_hooks(Hooks("flush", timeout_s=timeout_s))


def test_the_end_of_the_output_is_told_in_one_printable_line() -> None:
    tail = Tail(100)
    tail.write(b"x" * 500)
    tail.write(b"\nerror: \x1b[31mno room\x1b[0m\n\n  left \xff\n")
    assert tail.text.endswith(" | error: ?[31mno room?[0m | left �")
    assert len(tail.text) <= 100
    assert Ended(3, "no room").fault == "failed with exit status 3: no room"
    assert Ended(137, "", timed_out=True, took_s=30.2).fault == "was ended after 30 s and said nothing"
    assert Ended(0, "fine").fault == ""


class Commands:
    """What is run in the container, and how it ends."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.codes: dict[str, int] = {}
        self.error: MigratorError | None = None

    def run(self, _runtime: object, container: str, exec_id: str, words: list[str], **_: Any) -> Ended:
        self.ran.append(f"{container}: {words[-1]}")
        assert exec_id.startswith("migrator-job-1-")
        if self.error is not None:
            raise self.error
        return Ended(self.codes.get(words[-1], 0), "it said so")


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> Commands:
    commands = Commands()
    monkeypatch.setattr(steps, "run_command", commands.run)
    monkeypatch.setattr(steps, "end_command", lambda *_: None)
    monkeypatch.setattr(steps, "check_runs", lambda *_: None)
    return commands


@pytest.fixture
def host(tmp_path: Path) -> Host:
    settings = SimpleNamespace(run_dir=tmp_path / "run", state_dir=tmp_path / "state")
    return cast(Host, SimpleNamespace(name="alpha", settings=settings, runtime=lambda _: None))


def act_of(hooks: Hooks, kind: JobKind = JobKind.CHECKPOINT, *, attempt: int = 1, **facts: Any) -> Act:
    target = "beta" if kind is JobKind.MIGRATION else None
    request = JobRequest(kind, source_host="alpha", container="web", target_host=target)
    command = StepCommand(
        "job-1", "before-hook", 0, StepAction.RUN, attempt, 1, "w", request, "ck", {HOOKS: hooks.to_facts(), **facts}
    )
    return Act(command, lambda *_: None)


def left(host: Host) -> list[str]:
    return [file.name for file in (host.settings.run_dir / "criu").glob("*/hooks/*")]


def test_the_second_hook_is_owed_from_before_the_first_until_it_has_run(host: Host, commands: Commands) -> None:
    assert steps.BeforeHook().run(host, act_of(BOTH)) == {RAN_BEFORE: True}
    assert left(host) == ["owed"]
    assert steps.AfterHook().run(host, act_of(BOTH, ran_before=True)) == {}
    assert (commands.ran, left(host)) == (["web: flush", "web: unlock"], [])
    assert steps.BeforeHook().undo(host, act_of(BOTH)) == {}
    assert commands.ran == ["web: flush", "web: unlock"], "nothing is owed any more"


def test_without_hooks_nothing_is_run_and_nothing_left(host: Host, commands: Commands) -> None:
    assert steps.BeforeHook().run(host, act_of(Hooks())) == {}
    assert steps.AfterHook().run(host, act_of(Hooks())) == {}
    assert steps.BeforeHook().undo(host, act_of(Hooks())) == {}
    assert (commands.ran, left(host)) == ([], [])
    assert not (host.settings.run_dir / "criu").exists()


def test_a_first_hook_that_fails_fails_the_job_and_the_second_is_still_owed(host: Host, commands: Commands) -> None:
    commands.codes["flush"] = 3
    with pytest.raises(WorkloadFailed) as caught:
        steps.BeforeHook().run(host, act_of(BOTH))
    assert caught.value.code == "hook_failed"
    assert "exit status 3: it said so" in caught.value.message
    assert steps.BeforeHook().undo(host, act_of(BOTH)) == {}
    assert commands.ran == ["web: flush", "web: unlock"]


@pytest.mark.parametrize("which", ["before", "after"])
def test_a_failure_that_is_to_be_ignored_is_a_warning(host: Host, commands: Commands, which: str) -> None:
    commands.codes = {"flush": 1, "unlock": 1}
    hooks = replace(BOTH, on_before_failure=OnFailure.IGNORE, on_after_failure=OnFailure.IGNORE)
    step = steps.BeforeHook() if which == "before" else steps.AfterHook()
    (finding,) = step.run(host, act_of(hooks, ran_before=True))["findings"]
    assert (finding["grade"], finding["code"]) == ("warn", "hook_failed")


def test_a_second_hook_that_fails_fails_a_checkpoint_and_is_told_of_a_migration(host: Host, commands: Commands) -> None:
    commands.codes["unlock"] = 9
    with pytest.raises(WorkloadFailed):
        steps.AfterHook().run(host, act_of(BOTH, ran_before=True))
    told = steps.AfterHook().run(host, act_of(BOTH, JobKind.MIGRATION, ran_before=True))
    assert told["findings"][0]["code"] == "hook_failed"


def test_a_program_that_ended_after_the_dump_keeps_its_checkpoint(
    host: Host, commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ended(*_: object) -> None:
        raise PreconditionFailed("container 'web' does not run", code="task_not_running")

    monkeypatch.setattr(steps, "check_runs", ended)
    told = steps.AfterHook().run(host, act_of(BOTH, ran_before=True))
    assert "does not run" in told["findings"][0]["message"]
    assert commands.ran == []


def test_an_undo_tries_again_while_containerd_is_silent_and_then_tells(host: Host, commands: Commands) -> None:
    steps.BeforeHook().run(host, act_of(BOTH))
    commands.error = Unavailable("containerd does not answer")
    with pytest.raises(Unavailable):
        steps.BeforeHook().undo(host, act_of(BOTH))
    assert left(host) == ["owed"]
    told = steps.BeforeHook().undo(host, act_of(BOTH, attempt=steps.ATTEMPTS))
    assert "containerd does not answer" in told[AFTER_FAILED]
    assert left(host) == []


@pytest.mark.parametrize("kind", [JobKind.MIGRATION, JobKind.CHECKPOINT])
def test_the_second_hook_follows_the_resume_before_anything_is_swept(kind: JobKind) -> None:
    job = a_job(kind)
    for step in job.steps:
        if step.name in ("prepare", "before-hook", "freeze", "dump", "upload"):
            job = engine.begin(job, step, StepAction.RUN, datetime.now(UTC))
    names = [step.name for step in engine.undo_order(job)]
    assert names[:2] == ["freeze", "before-hook"]


def test_the_end_of_a_job_tells_of_a_program_that_may_still_be_locked() -> None:
    job = a_job(JobKind.CHECKPOINT)
    steps_ = (replace(job.steps[0], facts={AFTER_FAILED: "failed with exit status 1: locked"}), *job.steps[1:])
    job = replace(job, phase=Phase.FAILED, steps=steps_, failure=WorkloadFailed("no").to_dict())
    with MemoryDatabase().transaction() as tx:
        failure = conclude(tx, job).failure or {}
    assert failure["message"] == "no; and the hook after the freeze failed with exit status 1: locked"
    assert "web" in failure["remedy"]


def a_job(kind: JobKind) -> Job:
    request = JobRequest(kind, source_host="alpha", container="web", target_host="beta")
    now = datetime.now(UTC)
    return Job("job-1", request, Phase.FREEZING, 1, now, now, steps=steps_for(request))
