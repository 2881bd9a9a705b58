"""The state of a lab, as JSON values and as a table."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from migrator.errors import Unavailable
from migrator.lab.host import Host
from migrator.lab.lab import Lab


def describe(lab: Lab) -> dict[str, Any]:
    """Return the state of a lab as JSON values."""
    hosts = {name: describe_host(host) for name, host in lab.all_hosts.items()}
    return {
        "name": lab.name,
        "up": bool(hosts),
        "healthy": bool(hosts) and all(host["healthy"] for host in hosts.values()),
        "api": lab.api if lab.layout.api_socket.exists() else None,
        "hosts": hosts,
    }


def describe_host(host: Host) -> dict[str, Any]:
    """Return the state of a host and its services as JSON values."""
    pid = host.find_init()
    services: dict[str, dict[str, Any]] = {name: {"pid": None, "ready": False} for name in host.services}
    try:
        if pid is not None:
            services = {name: {"pid": s.pid, "ready": s.ready()} for name, s in host.services.items()}
    except Unavailable:  # it went down while we looked
        pid = None
    healthy = pid is not None and all(service["ready"] for service in services.values())
    return {"address": host.address, "pid": pid, "healthy": healthy, "services": services}


def show_status(view: dict[str, Any]) -> None:
    """Print the state of a lab as a table on stdout."""
    if not view["up"]:
        print(f"lab {view['name']} is not up")
        return
    table = Table("HOST", "ADDRESS", "SERVICE", "PID", "STATE", box=None, header_style="bold", pad_edge=False)
    for name, host in view["hosts"].items():
        table.add_row(name, host["address"], "init", *_state(host["pid"], ready=True))
        for service, seen in host["services"].items():
            table.add_row("", "", service, *_state(seen["pid"], seen["ready"]))
    Console().print(table)


def _state(pid: int | None, ready: bool) -> tuple[str, str]:
    if pid is None:
        return "-", "[red]down[/]"
    return str(pid), "[green]ready[/]" if ready else "[yellow]not answering[/]"
