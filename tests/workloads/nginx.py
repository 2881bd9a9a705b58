"""nginx that serves a download of 1 GiB to curl."""

from tests.workloads.images import Program
from tests.workloads.workload import Running, State

DOWNLOAD_S = 60.0


class Nginx(Program):
    def check(self, before: State, container: Running) -> State:
        super().check(before, container)  # the same curl still gets what it must
        after = container.wait_until(lambda state: state["downloads"] > before["downloads"], timeout_s=DOWNLOAD_S)
        assert after["ok"] is True, after
        return after


WORKLOAD = Nginx("nginx.py", packages=["nginx-light", "curl"], outside=True, wide=True)
