"""`python -m tests.bench`: move the same program by each system in turn, and write docs/benchmarks.*.

`--smoke` measures few moves of a small load and compares the ratios with the recorded ones; exit status 1 when one is
worse by more than 30 %.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import sys
from collections.abc import Iterator, Sequence

from migrator.errors import MigratorError
from migrator.lab.lab import Shape
from migrator.lab.rootfs import ensure_root
from tests.acceptance.cluster import Cluster
from tests.bench.load import Load
from tests.bench.page import write_page
from tests.bench.records import FILE_OF_GROWTH, Record, ratio, read_records, write_records
from tests.bench.systems import Bare, ByCtr, ByPodman, Sample, Service, System
from tests.bench.systems.by_podman import podman_lab
from tests.conftest import lab_name, running_lab

WORSE = 1.3
SYSTEMS = ("floor", "eager", "lazy", "content", "podman", "ctr")
"""Three of them are this service."""
ALL = [Load(mib, rate) for mib in (64, 512, 2048) for rate in (0, 10, 100)]
SPECIAL = [Load(1024, 20, "redis"), Load(1024, 0, "files")]
GROWN = [Load(16 << power) for power in range(10)]
LARGE_MIB = 2048
LARGE_RUNS = 3
"""Of a load this large, which takes minutes to be moved by all."""
SLOW = ("content", "ctr")
SLOW_RUNS = 2
"""Of what is slower by so much that more would tell nothing more; only where nothing is rewritten."""
SMOKE = ([Load(64)], 3, ("floor", "eager"))


def main() -> int:
    """Measure, print, write."""
    asked = _arguments()
    names = tuple(asked.systems)
    if asked.smoke:
        loads, runs, names = SMOKE
        return compare(measure_all(names, loads, runs), read_records())
    if asked.growth:
        write_records(measure_all(names, GROWN, asked.runs), FILE_OF_GROWTH)
    elif asked.memory:
        loads = [Load(mib, rate, asked.place) for mib in asked.memory for rate in asked.rewrite]
        records = measure_all(names, loads, asked.runs)
        if not asked.record:
            return 0
        write_records([*(known for known in read_records() if known.load not in loads), *records])
    elif not asked.page:
        write_records(measure_all(names, ALL + SPECIAL, asked.runs))
    write_page(describe_machine())
    return 0


def measure_all(names: Sequence[str], loads: Sequence[Load], runs: int) -> list[Record]:
    """Measure in one lab."""
    with _systems(names) as systems:
        return [record for load in loads for record in measure(systems, load, runs)]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--memory", type=int, nargs="+", metavar="MIB", help="only these; print")
    parser.add_argument("--rewrite", type=int, nargs="+", default=[0], metavar="MIB_S")
    parser.add_argument(
        "--record", action="store_true", help="put what --memory measures in the place of what was known"
    )
    parser.add_argument("--place", default="memory", choices=("memory", "files", "redis"))
    parser.add_argument("--runs", type=int, default=5, help="moves of each system and load")
    parser.add_argument("--systems", nargs="+", default=SYSTEMS, choices=SYSTEMS)
    parser.add_argument("--growth", action="store_true", help="16 MiB to 8 GiB instead of the table's loads")
    parser.add_argument("--smoke", action="store_true", help="compare ratios with the recorded ones")
    parser.add_argument("--page", action="store_true", help="write the page anew from what was recorded")
    return parser.parse_args()


@contextlib.contextmanager
def _systems(names: Sequence[str]) -> Iterator[list[System]]:
    with contextlib.ExitStack() as ending:
        lab = ending.enter_context(running_lab("bench", Shape(hosts=2)))
        cluster = Cluster(lab, ensure_root(print))
        found: dict[str, System] = {
            "floor": Bare(cluster),
            "eager": Service(cluster, "eager", ("--eager",)),
            "lazy": Service(cluster, "lazy", ("--lazy",)),
            "content": Service(cluster, "content", ("--eager", "--path", "content")),
            "ctr": ByCtr(cluster),
        }
        if "podman" in names:
            found["podman"] = ByPodman(ending.enter_context(podman_lab(ending.enter_context(lab_name("bench-podman")))))
        yield [found[name] for name in names]


def measure(systems: Sequence[System], load: Load, runs: int) -> list[Record]:
    """Move a load so many times with each system, in turns of one move; a first move of each is not counted.

    The memory is warm then, and what else the machine does hits all alike.
    """
    samples: dict[System, list[Sample]] = {system: [] for system in systems}
    for turn in range(runs + 1):
        for system in systems:
            if turn > _runs_of(system, load, runs):
                continue
            sample = _one_move(system, load)
            if sample is None:
                continue
            print(f"{load}, {system}{' (warming up)' if not turn else ''}: {sample}", flush=True)
            if turn:
                samples[system].append(sample)
    return [Record.of(system, load, samples[system]) for system in systems if samples[system]]


def _runs_of(system: System, load: Load, runs: int) -> int:
    if system.mode in SLOW or system.name in SLOW:
        return -1 if load.rewrite_mib_s else min(runs, SLOW_RUNS)
    return min(runs, LARGE_RUNS) if load.memory_mib >= LARGE_MIB else runs


def _one_move(system: System, load: Load) -> Sample | None:
    """Start the program, move it once, remove it; a system that fails has no sample and says why."""
    try:
        return system.measure(load, system.start(load))[1]
    except (AssertionError, MigratorError, OSError) as error:
        print(f"{load}, {system} FAILED: {error}", file=sys.stderr, flush=True)
        return None
    finally:
        system.remove()


def compare(measured: Sequence[Record], recorded: Sequence[Record]) -> int:
    """Hold ratios to the floor against the recorded ones."""
    worse = 0
    for record in (record for record in measured if record.system == "migrator"):
        [known] = [
            other for other in recorded
            if (other.system, other.mode, other.load) == (record.system, record.mode, record.load)
        ]  # fmt: skip
        now, then = ratio(record, measured, "floor"), ratio(known, recorded, "floor")
        assert now is not None
        assert then is not None
        print(f"{record.memory_mib} MiB, {record.mode}: {now:.2f} times the floor, recorded {then:.2f}")
        worse += now > WORSE * then
    return 1 if worse else 0


def describe_machine() -> str:
    """Say on what this was measured."""
    kernel = f"kernel {platform.release()}, {platform.machine()}"
    return f"Measured on {os.cpu_count()} processors, {kernel}; the hosts are those of a lab, on one machine."


if __name__ == "__main__":
    sys.exit(main())
