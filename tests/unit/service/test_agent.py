"""The agent: every command is performed once and answered every time."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from migrator.errors import Unavailable
from migrator.models.phase import JobKind
from migrator.models.values import Facts, Following, JobRequest, Outcome, StepAction, StepCommand
from migrator.service.agent import HostAgent
from migrator.service.fence import Fence
from migrator.service.host import Act, Host, HostStep

COMMAND = StepCommand(
    job_id="j",
    step="probe",
    position=0,
    action=StepAction.RUN,
    attempt=1,
    epoch=2,
    workload_id="w",
    request=JobRequest(kind=JobKind.MIGRATION),
    checkpoint_id="ck",
    facts={},
)
PATIENCE_S = 10.0


class Probe(HostStep):
    """A step whose acts can be counted, held up and made to fail."""

    name = "probe"

    def __init__(self) -> None:
        self.runs = 0
        self.undos = 0
        self.error: Exception | None = None
        self.entered = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()

    def run(self, host: Host, act: Act) -> Facts:
        self.runs += 1
        self.entered.set()
        while not self.go_on.wait(0.01):
            act.check_aborted()
        if self.error:
            raise self.error
        return {"n": self.runs}

    def undo(self, host: Host, act: Act) -> None:
        self.undos += 1


class Tell(HostStep):
    """A step that says what the one before it found out."""

    name = "tell"

    def run(self, host: Host, act: Act) -> Facts:
        return {"told": act.facts["n"]}


class Bench:
    """An agent over one probe step, and the outcomes it reported."""

    def __init__(self, directory: Path):
        self.step = Probe()
        self.outcomes: list[Outcome] = []
        host = cast(Host, SimpleNamespace(name="alpha", fence=Fence(directory)))
        self.agent = HostAgent(host, {"probe": self.step, "tell": Tell()}, self.outcomes.append, lambda *_: None)

    def begin(self, command: StepCommand) -> threading.Thread:
        thread = threading.Thread(target=self.agent.perform, args=(command,), daemon=True)
        thread.start()
        return thread

    def settle(self, answers: int) -> None:
        """Wait for so many answers; all but the last of a row are sent beside what follows."""
        deadline = time.monotonic() + PATIENCE_S
        while len(self.outcomes) < answers and time.monotonic() < deadline:
            time.sleep(0.001)
        self.outcomes[-2:] = sorted(self.outcomes[-2:], key=lambda outcome: outcome.position)

    def perform(self, **changes: Any) -> Outcome:
        self.agent.perform(replace(COMMAND, **changes))
        return self.outcomes[-1]


def test_a_command_that_comes_twice_is_performed_once_and_answered_twice(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    assert bench.perform() == bench.perform()
    assert bench.step.runs == 1
    assert len(bench.outcomes) == 2


def test_a_copy_that_arrives_during_the_act_is_dropped(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.step.go_on.clear()
    thread = bench.begin(COMMAND)
    assert bench.step.entered.wait(PATIENCE_S)
    bench.agent.perform(COMMAND)
    assert bench.outcomes == []
    bench.step.go_on.set()
    thread.join(PATIENCE_S)
    assert [outcome.ok for outcome in bench.outcomes] == [True]
    assert bench.step.runs == 1


def test_an_undo_stops_the_act_under_way_and_follows_it(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.step.go_on.clear()
    thread = bench.begin(COMMAND)
    assert bench.step.entered.wait(PATIENCE_S)
    bench.agent.perform(replace(COMMAND, action=StepAction.UNDO))
    thread.join(PATIENCE_S)
    assert [(o.action, o.ok) for o in bench.outcomes] == [(StepAction.RUN, False), (StepAction.UNDO, True)]
    assert bench.step.undos == 1


def test_a_command_that_comes_after_its_undo_is_refused(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.perform(action=StepAction.UNDO)
    assert not bench.perform().ok
    assert bench.step.runs == 0


def test_failures_and_crashes_are_answers_that_name_the_host(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.step.error = Unavailable("store away", code="store_unavailable")
    failed = bench.perform()
    assert failed.failure is not None
    assert (failed.failure["code"], failed.failure["host"]) == ("store_unavailable", "alpha")
    bench.step.error = ZeroDivisionError("secret words")
    crashed = bench.perform(attempt=2)
    assert crashed.failure is not None
    assert crashed.failure["kind"] == "InternalError"
    assert "secret words" not in str(crashed.failure)


def test_a_command_from_the_past_is_refused(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.perform(epoch=5)
    stale = bench.perform(epoch=4, attempt=2)
    assert stale.failure is not None
    assert stale.failure["code"] == "stale_epoch"
    assert bench.step.runs == 1


def test_an_unknown_step_is_answered(tmp_path: Path) -> None:
    failed = Bench(tmp_path).perform(step="from-a-newer-version")
    assert failed.failure is not None
    assert "from-a-newer-version" in failed.failure["message"]


def in_a_row(*steps: str) -> StepCommand:
    following = tuple(Following(step, position, 1) for position, step in enumerate(steps, start=1))
    return replace(COMMAND, then=following)


def test_what_follows_is_performed_in_order_and_learns_what_was_found_out_before(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.agent.perform(in_a_row("probe", "tell"))
    bench.settle(3)
    assert [(o.position, o.ok) for o in bench.outcomes] == [(0, True), (1, True), (2, True)]
    assert bench.outcomes[-1].facts == {"told": 2}


def test_after_a_failure_nothing_follows_and_nothing_is_held_against_what_did_not_begin(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.step.error = Unavailable("store away", code="store_unavailable")
    bench.agent.perform(in_a_row("tell"))
    assert [(o.position, o.ok) for o in bench.outcomes] == [(0, False)]
    assert bench.perform(step="tell", position=1, facts={"n": 7}).facts == {"told": 7}


def test_an_undo_keeps_what_follows_from_beginning(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.step.go_on.clear()
    thread = bench.begin(in_a_row("tell"))
    assert bench.step.entered.wait(PATIENCE_S)
    bench.agent.perform(replace(COMMAND, step="tell", position=1, action=StepAction.UNDO))
    thread.join(PATIENCE_S)
    told = [(o.position, o.action) for o in bench.outcomes if o.ok]
    assert told == [(1, StepAction.UNDO)]


def test_a_copy_of_a_row_is_answered_as_far_as_it_is_known(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.agent.perform(in_a_row("tell"))
    bench.settle(2)
    bench.agent.perform(in_a_row("tell"))
    bench.settle(4)
    assert bench.step.runs == 1
    assert bench.outcomes[:2] == bench.outcomes[2:]
