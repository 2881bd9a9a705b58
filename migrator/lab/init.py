"""The first process of a lab host: starts services when told, adopts and buries orphans, and tells who is alive.

Runs inside the host under its own Python, with nothing but the standard library. Requests come as one JSON line on a
unix socket, one per connection: `start`, `signal`, `list`, `probe`. It never restarts anything by itself: a lab is
for watching what happens when things die.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import pwd
import select
import signal
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CONTROL_SOCKET = Path("/run/lab/init.sock")
LOG_DIR = Path("/var/log/lab")
PR_SET_CHILD_SUBREAPER = 36
ANSWER_TIMEOUT_S = 5.0


@dataclass
class Service:
    """A program init was told to run, and how its latest run went."""

    name: str
    argv: list[str]
    environment: dict[str, str]
    user: str | None
    pid: int = 0
    exit_status: int | None = None
    started_at: float = 0.0

    @property
    def alive(self) -> bool:
        """True from the fork until init has collected its exit status."""
        return self.pid != 0 and self.exit_status is None

    def view(self) -> dict[str, Any]:
        """Return what `list` tells."""
        return {"pid": self.pid if self.alive else None, "exit_status": self.exit_status, "started_at": self.started_at}


class Init:
    """State of the host's first process."""

    def __init__(self) -> None:
        self.services: dict[str, Service] = {}

    def handle(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do what one request asks; an `error` key in the answer says why not."""
        operation = request.get("op")
        if operation == "list":
            return {"services": {name: service.view() for name, service in self.services.items()}}
        if operation == "start":
            return self.start(request)
        if operation == "signal":
            return self.signal(str(request["name"]), int(request["signal"]))
        if operation == "probe":
            return {"ok": probe(request)}
        return {"error": f"unknown operation {operation!r}"}

    def start(self, request: dict[str, Any]) -> dict[str, Any]:
        """Start a service, with its former program when the request gives none; one that lives is left alone."""
        name = str(request["name"])
        service = self.services.get(name)
        if service and service.alive:
            return {"pid": service.pid, "started": False}
        if "argv" in request:
            service = Service(name, request["argv"], request["environment"], request.get("user"))
        if service is None:
            return {"error": f"service {name} was never started, so its program is not known"}
        self.services[name] = service
        service.exit_status, service.started_at = None, time.time()
        service.pid = os.fork()
        if service.pid == 0:
            run_service(service)
        return {"pid": service.pid, "started": True}

    def signal(self, name: str, number: int) -> dict[str, Any]:
        """Send a signal to a living service."""
        service = self.services.get(name)
        if service is None or not service.alive:
            return {"sent": False}
        os.kill(service.pid, number)
        return {"sent": True}

    def reap(self) -> None:
        """Collect every child that ended, adopted ones included."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for service in self.services.values():
                if service.pid == pid and service.alive:
                    service.exit_status = os.waitstatus_to_exitcode(status)


def run_service(service: Service) -> None:
    """In the child: become the service. Never returns."""
    try:
        os.setsid()
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        signal.set_wakeup_fd(-1)
        log = os.open(LOG_DIR / f"{service.name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for descriptor, source in ((0, os.open(os.devnull, os.O_RDONLY)), (1, log), (2, log)):
            os.dup2(source, descriptor)
        if service.user:
            account = pwd.getpwnam(service.user)
            os.initgroups(service.user, account.pw_gid)
            os.setgid(account.pw_gid)
            os.setuid(account.pw_uid)
        os.execvpe(service.argv[0], service.argv, service.environment)
    except BaseException as error:  # noqa: BLE001 - the child of a fork must not run on in init's code
        with contextlib.suppress(OSError):
            os.write(2, f"cannot start {service.name}: {error}\n".encode())
    finally:
        os._exit(127)


def probe(request: dict[str, Any]) -> bool:
    """Tell whether an address inside the host answers: connect, send, and look for the expected words."""
    path = request.get("path")
    family = socket.AF_UNIX if path else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        connection.settimeout(1.0)
        try:
            connection.connect(path or tuple(request["address"]))
            if request.get("send"):
                connection.sendall(request["send"].encode())
                return str(request["expect"]).encode() in connection.recv(4096)
        except OSError:
            return False
    return True


def serve(init: Init) -> None:
    """Answer requests and bury the dead, until killed."""
    CONTROL_SOCKET.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    LOG_DIR.mkdir(mode=0o755, parents=True, exist_ok=True)
    waker, wakee = socket.socketpair()
    for end in (waker, wakee):
        end.setblocking(False)
    signal.set_wakeup_fd(wakee.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(CONTROL_SOCKET))
        listener.listen(16)
        while True:
            ready, _, _ = select.select([listener, waker], [], [])
            if waker in ready:
                waker.recv(4096)
            init.reap()
            if listener in ready:
                answer_one(init, listener)


def answer_one(init: Init, listener: socket.socket) -> None:
    """Take one connection, read its line, answer it."""
    connection, _ = listener.accept()
    with connection:
        connection.settimeout(ANSWER_TIMEOUT_S)
        try:
            with connection.makefile("rw") as stream:
                answer = init.handle(json.loads(stream.readline()))
                stream.write(json.dumps(answer) + "\n")
        except (OSError, ValueError, KeyError) as error:
            with contextlib.suppress(OSError):
                connection.sendall((json.dumps({"error": str(error)}) + "\n").encode())


def main() -> None:
    """Become the adopter of orphans and serve."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    serve(Init())


if __name__ == "__main__":
    main()
