"""A shell that counts and starts processes all the time."""

from pathlib import Path

from migrator.lab.recipes import shell_image
from tests.workloads.workload import Running, State, Workload


class Counter(Workload):
    name = "counter"
    wide = True

    def image(self, root: Path) -> Path:
        return shell_image(root, "counter.sh")

    def started(self, container: Running) -> None:
        container.wait_until(lambda state: state["counter"] > 10, lambda: self.look(container))

    def look(self, container: Running) -> State:
        nonce, count, pid = (container.root / "state/state").read_text().split()
        return {"nonce": nonce, "counter": int(count), "pid": int(pid)}

    def check(self, before: State, container: Running) -> State:
        after = container.wait_until(
            lambda state: state["counter"] > before["counter"] + 10, lambda: self.look(container)
        )
        assert (after["nonce"], after["pid"]) == (before["nonce"], before["pid"])
        return after


WORKLOAD = Counter()
