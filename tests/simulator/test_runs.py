"""The nine rules hold: every single fault at every point, rollbacks included, and many random runs with several."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Iterator
from itertools import chain

import pytest

from migrator.models.phase import JobKind
from migrator.service.plans import PLANS
from migrator.service.steps import HOST_STEPS
from migrator.simulator.faults import Fault, Kind
from migrator.simulator.runs import (
    SCENARIOS,
    Run,
    control_faults,
    late_commands,
    perform,
    points_of,
    races,
    random_run,
    single_faults,
    turned_back,
)
from migrator.simulator.steps import STEPS

PLAN_NAMES = ("migration", "checkpoint", "backup", "restore", "rewind", "preflight", "drill")
"""The plans that hosts perform; a drain is made of them."""
CHUNKS = 10
IN_MAKE_TEST = 3
"""So many chunks of the single faults run in `make test`; a chunk is every tenth of them."""
SEEDS_PER_CHUNK = 500
RANDOM_RUNS = 14_000


def check_all(runs: Iterable[Run]) -> int:
    """Perform runs until one breaks a rule; a seed and a schedule replay it exactly."""
    count = 0
    for run in runs:
        result = perform(run)
        assert result.violation is None, f"{result.violation}; replay: seed {run.seed}, {run}"
        count += 1
    return count


def enumerated(*names: str) -> Iterator[Run]:
    for name in names:
        yield from chain(single_faults(name, variants=False), turned_back(name, variants=False))
        yield from chain(races(name), late_commands(name))


def test_the_simulator_knows_every_step_of_every_plan() -> None:
    assert STEPS.keys() == HOST_STEPS.keys()
    on_hosts = {plan for plan in PLANS.values() if any(line.step in STEPS for line in plan)}
    assert on_hosts == {PLANS[JobKind(name)] for name in PLAN_NAMES}
    for name in PLAN_NAMES:
        told = " ".join(what for _, what in points_of(name))
        hosts = [line.step for line in PLANS[JobKind(name)] if line.step in STEPS]
        assert all(f" {step} run: " in told for step in hosts)


@pytest.mark.parametrize("name", SCENARIOS)
def test_without_faults_all_goes_well(name: str) -> None:
    result = perform(Run(name, {}, thorough=True))
    assert result.violation is None
    assert result.phases.count("succeeded") >= 1


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "chunk", [pytest.param(chunk, marks=[pytest.mark.wide] * (chunk >= IN_MAKE_TEST)) for chunk in range(CHUNKS)]
)
def test_every_single_fault_at_every_point(chunk: int) -> None:
    names = [name for name in PLAN_NAMES if name != "rewind"]
    mine = (run for number, run in enumerate(enumerated(*names)) if number % CHUNKS == chunk)
    assert check_all(mine) >= 1000 // CHUNKS


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "chunk", [pytest.param(chunk, marks=[pytest.mark.wide] * (chunk > 0)) for chunk in range(CHUNKS)]
)
def test_every_single_fault_at_every_point_of_a_rewind(chunk: int) -> None:
    mine = (run for number, run in enumerate(enumerated("rewind")) if number % CHUNKS == chunk)
    assert check_all(mine) >= 9000 // CHUNKS


@pytest.mark.timeout(600)
@pytest.mark.parametrize("chunk", [0, *(pytest.param(chunk, marks=pytest.mark.wide) for chunk in range(1, 11))])
def test_a_drain_and_a_return_whatever_happens_to_the_controller(chunk: int) -> None:
    runs = [run for name in ("drain", "return") for run in control_faults(name)][chunk::11]
    assert len(runs) > 100
    for run in runs:
        result = perform(run)
        assert result.violation is None, f"{result.violation}; replay: {run}"
        if "cancel" not in str(run):
            assert result.phases[0] == "succeeded", f"the drain is {result.phases[0]}; replay: {run}"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("first_seed", range(1, RANDOM_RUNS, SEEDS_PER_CHUNK))
def test_random_runs_with_several_faults(first_seed: int) -> None:
    seeds = range(first_seed, first_seed + SEEDS_PER_CHUNK)
    assert check_all(random_run(seed) for seed in seeds) == SEEDS_PER_CHUNK


@pytest.mark.parametrize("seed", [6, 77, 4242])
def test_a_seed_replays_exactly(seed: int) -> None:
    first: list[str] = []
    again: list[str] = []
    perform(random_run(seed), first.append)
    perform(random_run(seed), again.append)
    assert first == again
    assert len(first) > 50


def test_the_command_line_tells_how_many_runs_broke_a_rule() -> None:
    command = [sys.executable, "-m", "migrator.simulator", "--runs", "3", "--first-seed", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "3 runs, 0 violations")
    replayed = subprocess.run(
        [sys.executable, "-m", "migrator.simulator", "--seed", "1", "--trace"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert replayed.returncode == 0
    assert "deliver  perform" in replayed.stdout


def test_a_violation_is_told_with_its_seed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from migrator.service.pause_guard import PauseGuard
    from migrator.simulator import __main__ as command_line

    monkeypatch.setattr(PauseGuard, "_reason_to_resume", lambda *_: None)
    frozen = next(number for number, (_, what) in enumerate(points_of("migration")) if "memory is dumped" in what)
    broken = Run("migration", {frozen: [Fault(Kind.CRASH, "alpha", 20.0)]})
    monkeypatch.setattr(command_line, "random_run", lambda _seed: broken)
    monkeypatch.setattr(sys, "argv", ["simulator", "--runs", "1"])
    assert command_line.main() == 1
    out = capsys.readouterr().out
    assert "SEED 1: rule 3" in out
    assert out.splitlines()[-1] == "1 runs, 1 violations"
