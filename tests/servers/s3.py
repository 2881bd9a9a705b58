"""An S3 server on the loopback interface: one identity, one bucket, nothing sent out, and gone without a trace."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from migrator.settings import Settings

START_DEADLINE_S = 40.0
STOP_DEADLINE_S = 10.0
BUCKET = "contract"
PORTS = ("master.port", "volume.port", "filer.port", "s3.port", "admin.port")
GRPC_OFFSET = 10_000
"""The server opens each port twice: for HTTP, and so much higher for gRPC."""


@dataclass(frozen=True)
class S3Server:
    """A running server.

    Attributes:
        pid: Of the server.
        port: Where it speaks S3, on 127.0.0.1.
        access_key: Of its one identity.
        secret_key: Of its one identity.
    """

    pid: int
    port: int
    access_key: str
    secret_key: str

    @property
    def endpoint(self) -> str:
        """Its URL."""
        return f"http://127.0.0.1:{self.port}"

    def settings(self, **overrides: object) -> Settings:
        """How the product is told about it."""
        wanted: dict[str, object] = {
            "store_url": f"s3://{BUCKET}",
            "s3_endpoint": self.endpoint,
            "s3_access_key": self.access_key,
            "s3_secret_key": self.secret_key,
        }
        return Settings(**(wanted | overrides))  # type: ignore[arg-type]


@contextmanager
def running_s3() -> Iterator[S3Server]:
    """Start a server with an empty bucket and stop it."""
    work = Path(tempfile.mkdtemp(prefix="migrator-s3-"))
    keys = {"accessKey": "contract", "secretKey": os.urandom(16).hex()}
    try:
        (work / "data").mkdir()
        identity = {"name": "contract", "credentials": [keys], "actions": ["Admin", "Read", "Write", "List", "Tagging"]}
        (work / "s3.json").write_text(json.dumps({"identities": [identity]}))
        ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
        with (work / "log").open("wb") as log:
            server = subprocess.Popen(
                _command(work, ports),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=work,
                env={"PATH": "/usr/bin:/bin", "HOME": str(work), "GOMEMLIMIT": "200MiB"},
            )
        try:
            _await_bucket(server, ports["filer.port"], ports["s3.port"], work / "log")
            yield S3Server(server.pid, ports["s3.port"], keys["accessKey"], keys["secretKey"])
        finally:
            _stop(server)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def free_ports(count: int) -> list[int]:
    """Find ports that are free now, with the ports that belong to them; all are held until the last is found."""
    found: list[int] = []
    with ExitStack() as held:
        while len(found) < count:
            holder = held.enter_context(socket.socket())
            holder.bind(("127.0.0.1", 0))
            port = int(holder.getsockname()[1]) % 20_000 + 20_000  # leaves room for the offset
            if port not in found and _is_free(port) and _is_free(port + GRPC_OFFSET):
                found.append(port)
    return found


def _is_free(port: int) -> bool:
    with socket.socket() as trial:
        try:
            trial.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _command(work: Path, ports: dict[str, int]) -> list[str]:
    """Its defaults would send telemetry, listen everywhere, make missing buckets and delete full ones."""
    options = {
        "dir": work / "data", "ip": "127.0.0.1", "ip.bind": "127.0.0.1", "bucket": BUCKET, **ports,
        "master.telemetry": "false", "admin.ui": "false", "webdav": "false",
        "s3.port.iceberg": 0, "s3.port.lance": 0, "s3.config": work / "s3.json",
        "s3.allowDeleteBucketNotEmpty": "false", "s3.autoCreateBucket": "false",
    }  # fmt: skip
    return [str(Path(sys.executable).parent / "weed"), "mini", *(f"-{name}={value}" for name, value in options.items())]


def _await_bucket(server: subprocess.Popen[bytes], filer_port: int, s3_port: int, log: Path) -> None:
    deadline = time.monotonic() + START_DEADLINE_S
    while not (_answers(filer_port, f"GET /buckets/{BUCKET}/ HTTP/1.0\r\n\r\n") and _answers(s3_port, "")):
        if server.poll() is not None or time.monotonic() > deadline:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
            raise RuntimeError(f"the S3 server did not start:\n{tail}")
        time.sleep(0.05)


def _answers(port: int, request: str) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as line:
            if not request:
                return True
            line.sendall(request.encode())
            return b" 200 " in line.recv(100)
    except OSError:
        return False


def _stop(server: subprocess.Popen[bytes]) -> None:
    if server.poll() is None:
        os.kill(server.pid, signal.SIGTERM)
    try:
        server.wait(STOP_DEADLINE_S)
    except subprocess.TimeoutExpired:
        os.kill(server.pid, signal.SIGKILL)
        server.wait(STOP_DEADLINE_S)
