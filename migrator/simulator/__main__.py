"""`python -m migrator.simulator`: run seeds, or replay one."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Iterator

from migrator.simulator.quiet import be_quiet
from migrator.simulator.runs import (
    SCENARIOS,
    Result,
    Run,
    late_commands,
    perform,
    races,
    random_run,
    single_faults,
    turned_back,
)

PROGRESS_S = 5.0


def main() -> int:
    """Do what the command line says; the exit status is 1 if a rule was broken."""
    arguments = _parse()
    be_quiet()
    if arguments.seed is not None:
        return _replay(arguments.seed, trace=arguments.trace)
    if arguments.singles:
        return _perform_all(_enumerate())
    return _perform_all(random_run(seed) for seed in range(arguments.first_seed, arguments.first_seed + arguments.runs))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m migrator.simulator", description=__doc__)
    parser.add_argument("--runs", type=int, default=1000, help="how many random runs with several faults")
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--singles", action="store_true", help="every single fault at every point instead")
    parser.add_argument("--seed", type=int, help="replay this seed alone")
    parser.add_argument("--trace", action="store_true", help="print everything that happens in it")
    return parser.parse_args()


def _replay(seed: int, *, trace: bool) -> int:
    run = random_run(seed)
    print(f"seed {seed}: {run}")
    result = perform(run, print if trace else None)
    print(_sentence(result) if result.violation else f"no violation; jobs: {', '.join(result.phases)}")
    return 1 if result.violation else 0


def _enumerate() -> Iterator[Run]:
    for name in SCENARIOS:
        yield from single_faults(name)
    for name in ("migration", "checkpoint", "backup", "restore"):
        yield from turned_back(name)
        yield from races(name)
        yield from late_commands(name)


def _perform_all(runs: Iterable[Run]) -> int:
    count = violations = 0
    begun = told = time.monotonic()
    for run in runs:
        result = perform(run)
        count += 1
        if result.violation:
            violations += 1
            print(_sentence(result), flush=True)
        if time.monotonic() - told > PROGRESS_S:
            told = time.monotonic()
            print(f"{count} runs, {violations} violations, {count / (told - begun):.0f} runs/s", flush=True)
    print(f"{count} runs, {violations} violations")
    return 1 if violations else 0


def _sentence(result: Result) -> str:
    return f"SEED {result.run.seed}: {result.violation} [{result.run}]"


if __name__ == "__main__":
    sys.exit(main())
