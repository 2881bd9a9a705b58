"""What runs on this host, as seen right now."""

from __future__ import annotations

from pathlib import Path

from migrator.containerd import Container, ContainerdClient, Task
from migrator.errors import MigratorError, NotFound
from migrator.models.values import ContainerView, Sight
from migrator.service.host import Host


def look(host: Host) -> Sight:
    """See what a host has, and which epochs it has seen."""
    epochs = {workload: host.fence.highest(workload) for workload, _ in host.fence.seen()}
    return Sight(containers=view_containers(host.name, host.containerd), epochs=epochs)


def view_containers(host: str, client: ContainerdClient) -> list[ContainerView]:
    """List the containers of all namespaces on this host."""
    views: list[ContainerView] = []
    for namespace in client.namespaces.list():
        runtime = client.with_namespace(namespace.name)
        views += [_view(host, namespace.name, runtime, container) for container in runtime.containers.list()]
    return views


def memory_bytes(task: Task) -> int:
    """Add up the resident memory of a task's processes (proc(5), VmRSS): what CRIU would have to write, roughly."""
    return sum(_resident_bytes(process.pid) for process in task.pids())


def _view(host: str, namespace: str, runtime: ContainerdClient, container: Container) -> ContainerView:
    status, pid, used_bytes = "none", 0, 0
    try:
        task = runtime.task(container.id)
        status, pid, used_bytes = task.status().state.value, task.pid, memory_bytes(task)
    except NotFound:
        pass  # a container without a task, or one that ended while we looked
    except MigratorError:
        status = "unknown"
    return ContainerView(
        host=host,
        namespace=namespace,
        name=container.id,
        status=status,
        image=container.image,
        pid=pid,
        memory_bytes=used_bytes,
        labels=dict(container.labels),
    )


def _resident_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    resident = next((line for line in lines if line.startswith("VmRSS:")), "VmRSS: 0 kB")
    return int(resident.split()[1]) * 1024
