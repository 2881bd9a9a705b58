"""Six threads with a lock, a condition and thread-local storage."""

from pathlib import Path

from migrator.lab.recipes import python_image
from tests.workloads.workload import Running, State, Workload


class Threads(Workload):
    name = "threads"

    def image(self, root: Path) -> Path:
        return python_image(root, "threads.py")

    def check(self, before: State, container: Running) -> State:
        after = super().check(before, container)
        assert after["threads"] == before["threads"], "a thread got another id"
        assert len(after["threads"]) == 7
        assert all(now > then for now, then in zip(after["counters"], before["counters"], strict=True)), after
        assert after["rounds"] > before["rounds"]
        return after


WORKLOAD = Threads()
