"""A handle on one service of a lab host: start it, stop it, kill it, see whether it answers."""

from __future__ import annotations

import signal
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from migrator.errors import Unavailable
from migrator.lab.files import write_private
from migrator.lab.services import ServiceSpec

if TYPE_CHECKING:
    from migrator.lab.host import Host

POLL_S = 0.02
STOP_TIMEOUT_S = 15.0
LOG_TAIL_LINES = 3


class Service:
    """One service on one host; everything is asked of the host's init, nothing remembered."""

    def __init__(self, host: Host, spec: ServiceSpec):
        self.host = host
        self.spec = spec
        self.name = spec.name

    @property
    def pid(self) -> int | None:
        """Its process id on the machine, None when it is not running."""
        found: int | None = self._view().get("pid")
        return found

    @property
    def exit_status(self) -> int | None:
        """How its latest run ended (negative: by that signal); None while it runs or when it never ran."""
        found: int | None = self._view().get("exit_status")
        return found

    def launch(self) -> None:
        """Start it unless it runs, and do not wait until it is ready."""
        spec = self.spec
        self._prepare()
        request = {"op": "start", "name": spec.name, "argv": list(spec.argv), "environment": dict(spec.environment)}
        self.host.ask(request | {"user": spec.user})

    def start(self) -> None:
        """Start it unless it runs, and wait until it is ready.

        Raises:
            Unavailable: It ended, or did not answer within its deadline; the message carries its last words.
        """
        self.launch()
        self.wait_ready()

    def wait_ready(self) -> None:
        """Wait until it answers.

        Raises:
            Unavailable: It ended, or did not answer within its deadline.
        """
        deadline = time.monotonic() + self.spec.deadline_s
        while not self.ready():
            if self.pid is None:
                raise self._failure(f"ended with status {self.exit_status}")
            if time.monotonic() > deadline:
                raise self._failure(f"was not ready after {self.spec.deadline_s:.0f} s")
            time.sleep(POLL_S)

    def ready(self) -> bool:
        """Tell whether it runs and answers its probe."""
        if self.pid is None:
            return False
        return all(self.host.ask({"op": "probe", **asdict(probe)})["ok"] for probe in self.spec.probes)

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Send SIGTERM and wait until it ended; SIGKILL after `timeout_s`."""
        self.signal(signal.SIGTERM)
        if not self._wait_ended(timeout_s):
            self.kill()

    def kill(self) -> None:
        """Send SIGKILL and wait until init has collected it.

        Raises:
            Unavailable: It is still there.
        """
        self.signal(signal.SIGKILL)
        if not self._wait_ended(STOP_TIMEOUT_S):
            raise self._failure("does not die")

    def signal(self, number: int) -> None:
        """Send it a signal; nothing happens when it is not running."""
        self.host.ask({"op": "signal", "name": self.name, "signal": int(number)})

    def log_tail(self, lines: int = LOG_TAIL_LINES) -> str:
        """Return the last lines of what it wrote."""
        file = self.host.layout.disk_of(self.host.name) / "log" / f"{self.name}.log"
        if not file.is_file():
            return ""
        return "\n".join(file.read_text(errors="replace").strip().splitlines()[-lines:])

    def _prepare(self) -> None:
        root, owner = self.host.root, self.spec.user
        for directory in self.spec.directories:
            (root / directory.lstrip("/")).mkdir(mode=0o700, parents=True, exist_ok=True)
        for path, text in self.spec.files.items():
            write_private(root / path.lstrip("/"), text)
        if owner:
            self.host.exec(["chown", owner, *self.spec.directories, *self.spec.files])

    def _view(self) -> dict[str, Any]:
        services: dict[str, dict[str, Any]] = self.host.ask({"op": "list"})["services"]
        return services.get(self.name, {})

    def _wait_ended(self, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while self.pid is not None:
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_S)
        return True

    def _failure(self, what: str) -> Unavailable:
        tail = " | ".join(self.log_tail().splitlines())
        return Unavailable(
            f"{self.name} {what}" + (f": {tail}" if tail else ""),
            code="lab_service_down",
            host=self.host.name,
            remedy=f"read the whole log with `migrator lab logs {self.host.name} {self.name}`",
        )
