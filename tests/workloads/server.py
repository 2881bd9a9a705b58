"""A server with a TCP connection to itself that is never idle."""

from pathlib import Path

from migrator.lab.recipes import python_image
from tests.workloads.workload import Workload


class Server(Workload):
    name = "server"

    def image(self, root: Path) -> Path:
        return python_image(root, "server.py")


WORKLOAD = Server()
