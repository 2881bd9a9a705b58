"""A server with a TCP connection to itself that is never idle."""

from pathlib import Path

from migrator.lab.recipes import python_image
from tests.workloads.workload import Running, State, Workload


class Server(Workload):
    name = "server"
    wide = True

    def image(self, root: Path) -> Path:
        return python_image(root, "server.py")

    def check(self, before: State, container: Running) -> State:
        after = super().check(before, container)
        assert after["connects"] == before["connects"], "its connection to itself did not go on"
        return after


WORKLOAD = Server()
