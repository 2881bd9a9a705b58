"""redis-server with 50,000 keys in memory only; afterwards every one of them is looked at."""

import uuid
from pathlib import Path

from migrator.lab.recipes import redis_image
from tests.workloads.workload import Running, State, Workload

KEYS = 50_000


class Redis(Workload):
    name = "redis"

    def image(self, root: Path) -> Path:
        return redis_image(root)

    def started(self, container: Running) -> None:
        container.wait_until(lambda state: bool(state["run_id"]), lambda: self.look(container))
        salt = uuid.uuid4().hex
        assert int(self._script(container, "redis_fill.lua", salt)) == KEYS + 1

    def look(self, container: Running) -> State:
        info = dict(line.split(":", 1) for line in self._cli(container, "INFO", "server").splitlines() if ":" in line)
        return {"run_id": info.get("run_id", ""), "salt": self._cli(container, "GET", "salt")}

    def check(self, before: State, container: Running) -> State:
        after = self.look(container)
        assert after == before, "another server runs: the run id lives in memory only"
        assert self._script(container, "redis_check.lua", before["salt"]) == f"ok {KEYS}"
        assert self._cli(container, "SET", "written-after", "1") == "OK"
        assert self._cli(container, "DEL", "written-after") == "1"
        return after

    @staticmethod
    def _script(container: Running, script: str, salt: str) -> str:
        return Redis._cli(container, "--eval", f"/opt/{script}", salt, str(KEYS), ",")

    @staticmethod
    def _cli(container: Running, *words: str) -> str:
        return container.exec("redis-cli", *words).strip()


WORKLOAD = Redis()
