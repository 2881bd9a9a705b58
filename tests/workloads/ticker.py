"""64 MiB of memory that changes all the time; every page of it is checked after a move."""

from pathlib import Path

from migrator.lab.recipes import python_image
from tests.workloads.workload import Running, State, Workload


class Ticker(Workload):
    name = "ticker"
    wide = True

    def image(self, root: Path) -> Path:
        return python_image(root, "ticker.py", "64")

    def check(self, before: State, container: Running) -> State:
        after = super().check(before, container)
        assert after["memory_ok"] is True, after["bad_pages"]
        assert after["started_at"] == before["started_at"], "another program runs"
        return container.wait_until(lambda state: state["memory_ok"] is False or state["sweeps"] > before["sweeps"])


WORKLOAD = Ticker()
