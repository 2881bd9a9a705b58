"""A client on another host that talks to the program by one TCP connection, and tells the longest wait."""

from __future__ import annotations

import json
import subprocess
from types import TracebackType
from typing import Self

from tests.acceptance.cluster import Cluster
from tests.workloads import Running

SCRIPT = """
import json, select, socket, sys, time
line = socket.create_connection((sys.argv[1], 7000))
line.settimeout(120)
print("connected", flush=True)
longest, asked, last = 0.0, 0, time.monotonic()
while not select.select([sys.stdin], [], [], 0.002)[0]:
    words = b"%d\\n" % asked
    line.sendall(words)
    answer = b""
    while not answer.endswith(b"\\n"):
        part = line.recv(4096)
        if not part:
            raise SystemExit("the connection was closed")
        answer += part
    assert answer == words, answer
    now = time.monotonic()
    longest, last, asked = max(longest, now - last), now, asked + 1
print(json.dumps({"longest_s": longest, "asked": asked}))
"""
END_S = 150.0


class Client:
    """Connected for as long as a block lasts."""

    def __init__(self, cluster: Cluster, container: Running):
        command = ["nsenter", "-t", str(container.pid), "-n", "ip", "-json", "address", "show", "eth0"]
        [link] = json.loads(container.host.run(*command))
        self._command = cluster.lab.control.enter_command(["python3", "-c", SCRIPT, link["addr_info"][0]["local"]])
        self.longest_gap_s = 0.0

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert self._process.stdout is not None
        said = self._process.stdout.readline()
        assert said == "connected\n", said
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        said, _ = self._process.communicate("done\n", timeout=END_S)
        if error is None:
            assert self._process.returncode == 0, said
            self.longest_gap_s = json.loads(said)["longest_s"]
