"""What a workload is, and a running container as a test sees it: from outside, by /proc and containerd's own tool."""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

State = dict[str, Any]
WAIT_S = 30.0


class Shell(Protocol):
    """A host on which commands can be run."""

    name: str

    def run(self, *command: str, timeout_s: float = ..., check: bool = ...) -> str:
        """Run a command and return its standard output."""
        ...


class Client(Protocol):
    """Somebody who talks to a container from outside."""

    def state(self) -> State:
        """What it says of itself."""
        ...


class Running:
    """A container with a task on a host; never looked at through our own client.

    Args:
        host: Where it runs.
        name: Its name.
        namespace: Its namespace.
        client: Who talks to it from outside, and tells of it; None when it tells of itself.
    """

    def __init__(self, host: Shell, name: str, namespace: str = "default", client: Client | None = None):
        self.host = host
        self.name = name
        self.namespace = namespace
        self.client = client

    def on(self, host: Shell) -> Running:
        """Return the same container, with the same client, on another host."""
        return Running(host, self.name, self.namespace, self.client)

    def __str__(self) -> str:
        return f"{self.host.name}/{self.name}"

    def ctr(self, *words: str, timeout_s: float = 60.0) -> str:
        return self.host.run("ctr", "--namespace", self.namespace, *words, timeout_s=timeout_s)

    @property
    def pid(self) -> int:
        for line in self.ctr("tasks", "ls").splitlines()[1:]:
            name, pid, *_ = line.split()
            if name == self.name:
                return int(pid)
        raise AssertionError(f"{self} has no task")

    @property
    def root(self) -> Path:
        """The container's files, as its first process sees them."""
        return Path(f"/proc/{self.pid}/root")

    @property
    def address(self) -> str:
        """The address of its interface, as the kernel has it."""
        shown = self.host.run("nsenter", "-t", str(self.pid), "-n", "ip", "-json", "-4", "address", "show", "eth0")
        return str(json.loads(shown)[0]["addr_info"][0]["local"])

    def state(self) -> State:
        """What the program says of itself, or its client of it."""
        if self.client is not None:
            return self.client.state()
        state: State = json.loads((self.root / "state/state.json").read_text())
        return state

    def exec(self, *command: str, timeout_s: float = 60.0) -> str:
        """Run a command inside the container.

        Not by `ctr tasks exec`, which closes the pipes before it has read all: on a busy machine one answer in sixty
        came without its words.
        """
        inside = ("--mount", "--net", "--ipc", "--uts", "--pid", "--root", "--wd")
        return self.host.run("nsenter", f"--target={self.pid}", *inside, *command, timeout_s=timeout_s)

    def processes(self) -> int:
        """How many processes run in it."""
        return len(self.ctr("tasks", "ps", self.name).splitlines()) - 1

    def wait_until(
        self, wanted: Callable[[State], bool], look: Callable[[], State] | None = None, timeout_s: float = WAIT_S
    ) -> State:
        """Look until it is so; fails after half a minute, saying what was seen last."""
        deadline, seen = time.monotonic() + timeout_s, None
        while time.monotonic() < deadline:
            try:
                seen = (look or self.state)()
            except (FileNotFoundError, ProcessLookupError) as error:
                seen = {"unreadable": str(error)}
            else:
                if wanted(seen):
                    return seen
            time.sleep(0.02)
        raise AssertionError(f"{self} never got there; last seen: {seen}")


class Workload(ABC):
    """A real program, and what must be true of it before and after a move."""

    name: str
    title: str
    """The first line of its file."""
    run_options: tuple[str, ...] = ()
    """What `ctr run` is told besides."""
    volume: str | None = None
    """A directory that comes from its host and is copied when it moves."""
    client: tuple[str, ...] = ()
    """The command of its client, which then runs outside, on another host; none when it is its own client."""
    wide = False
    """Moved by `make test-wide` and `make workloads`, so that `make test` stays short."""

    @abstractmethod
    def image(self, root: Path) -> Path:
        """Make its image archive from the lab's root file system."""

    def started(self, container: Running) -> None:
        """Bring it to the point where a move is worth something."""
        container.wait_until(lambda state: state["counter"] > 20)

    def look(self, container: Running) -> State:
        """What it says of itself, right now."""
        return container.state()

    def check(self, before: State, container: Running) -> State:
        """Assert that this is the same program, gone on; return what it says now."""
        after = container.wait_until(lambda state: state["counter"] > before["counter"] + 20)
        assert after["nonce"] == before["nonce"], "another program runs: the nonce lives in memory only"
        assert after.get("ok", True) is True, after
        return after
