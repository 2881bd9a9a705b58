"""Parent, child and grandchild that talk by pipes."""

from pathlib import Path

from migrator.lab.recipes import python_image
from tests.workloads.workload import Running, State, Workload


class Tree(Workload):
    name = "tree"

    def image(self, root: Path) -> Path:
        return python_image(root, "tree.py")

    def check(self, before: State, container: Running) -> State:
        after = super().check(before, container)
        assert after["pids"] == before["pids"]
        assert len(after["pids"]) == 3
        assert container.processes() == 3
        return after


WORKLOAD = Tree()
