"""A worker whose hosts do nothing: what is left of a job is what the service itself needs.

    python3 empty_host.py NAME CONTAINERS

It is a real worker on a real queue, with the real agent; its steps answer at once.
"""

import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from migrator.models.values import ContainerView, Sight
from migrator.service.agent import HostAgent
from migrator.service.fence import Fence
from migrator.service.host import HostStep
from migrator.service.steps import HOST_STEPS
from migrator.settings import load_settings
from migrator.tasks import control, host
from migrator.tasks.app import build_app, host_queue
from migrator.tasks.process import Ticker, run_worker
from migrator.wiring import configure_logging

FACTS: dict[str, Any] = {
    "memory_bytes": 1 << 20, "estimate_bytes": 1 << 20, "index_digest": f"sha256:{64 * '0'}", "parts": [],
}  # fmt: skip


class Empty(HostStep):
    """Nothing, done at once."""

    def run(self, *_: object) -> dict[str, Any]:
        """Say what later steps look for."""
        return FACTS


def main() -> None:
    """Serve the queue of a host until SIGTERM."""
    name, count = sys.argv[1], int(sys.argv[2])
    settings = load_settings()
    configure_logging(settings)
    app = build_app(settings.broker_url.get_secret_value())
    line = control.ControllerLine(app)
    views = [ContainerView(name, "default", f"{name}-{number}", "running", "empty:1", 1) for number in range(count)]

    def show() -> None:
        line.show(name, Sight(views, {}))

    with tempfile.TemporaryDirectory() as directory:
        here: Any = SimpleNamespace(name=name, fence=Fence(Path(directory)))
        agent = HostAgent(here, dict.fromkeys(HOST_STEPS, Empty()), line.report, line.report_progress)
        unused: Any = None
        host.register(app, agent, unused, show)
        tickers = [
            Ticker("heartbeat", 1.0, lambda: line.beat(name, {"boot_id": "one"}, 1000.0)),
            Ticker("sight", 5.0, show),
        ]
        queue = host_queue(name)
        run_worker(
            app, queue=queue, name=f"worker@{name}", slots=settings.worker_slots, tickers=tickers, purge=True
        )  # fmt: skip


main()
