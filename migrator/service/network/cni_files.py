"""What CNI keeps on a host: configurations of networks, plug-ins, and a record of each container's attachment."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CONFIG_DIR = Path("/etc/cni/net.d")
PLUGIN_DIRS = (Path("/opt/cni/bin"), Path("/usr/lib/cni"), Path("/usr/libexec/cni"))
RECORDS_DIR = Path("/var/lib/cni/results")
RESERVATIONS_DIR = Path("/var/lib/cni/networks")
"""host-local's: a file an address."""

Config = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Record:
    """The note that runtimes leave of an attachment (libcni, `cniCacheV1`), so that others can take it back."""

    path: Path
    container_id: str
    interface: str
    network: str
    config: Config
    result: Config
    capabilities: Config = field(default_factory=dict)
    arguments: tuple[tuple[str, str], ...] = ()
    namespace: str = ""

    def has(self, interface: str, mac: str) -> bool:
        """Whether this is about an interface with that name and MAC address inside a container."""
        inside = [link for link in self.result.get("interfaces", []) if link.get("sandbox")]
        return any(link.get("name") == interface and link.get("mac") == mac for link in inside)


def read_networks(directory: Path | None = None) -> dict[str, Config]:
    """Read every network's configuration by name; the first file wins, as for other runtimes."""
    found: dict[str, Config] = {}
    for file in sorted((directory or CONFIG_DIR).glob("*")):
        if file.suffix in (".conflist", ".conf", ".json"):
            with suppress(OSError, ValueError):
                config = as_list(json.loads(file.read_text()))
                found.setdefault(str(config["name"]), config)
    return found


def as_list(config: Config) -> Config:
    """Read the configuration of a single plug-in as a list of one."""
    if not isinstance(config, dict) or not config.get("name"):
        raise ValueError("no network configuration")
    if "plugins" in config:
        return config
    return {"cniVersion": config.get("cniVersion", "0.2.0"), "name": config["name"], "plugins": [config]}


def find_program(kind: str, directories: tuple[Path, ...] = PLUGIN_DIRS) -> Path | None:
    """Find a plug-in's program; a kind is a plain name."""
    if not kind or "/" in kind:
        return None
    return next((place / kind for place in directories if (place / kind).is_file()), None)


def read_records() -> Iterator[Record]:
    """Read the notes of all attachments on this host; what nobody can read is left out."""
    for file in sorted(RECORDS_DIR.glob("*")):
        with suppress(OSError, ValueError, KeyError, TypeError):
            yield parse_record(file, json.loads(file.read_text()))


def find_record(network: str, container_id: str, interface: str) -> Record | None:
    """Find the note of one attachment."""
    wanted = (network, container_id, interface)
    return next((r for r in read_records() if (r.network, r.container_id, r.interface) == wanted), None)


def parse_record(path: Path, data: Config) -> Record:
    """Read a note."""
    return Record(
        path=path,
        container_id=str(data["containerId"]),
        interface=str(data["ifName"]),
        network=str(data["networkName"]),
        config=as_list(json.loads(base64.b64decode(data["config"]))),
        result=dict(data["result"]),
        capabilities=dict(data.get("capabilityArgs") or {}),
        arguments=tuple((str(key), str(value)) for key, value in data.get("cniArgs") or ()),
        namespace=str(data.get("netns", "")),
    )


def write_record(record: Record) -> None:
    """Write a note; it is there whole or not at all."""
    data = {
        "kind": "cniCacheV1",
        "containerId": record.container_id,
        "config": base64.b64encode(json.dumps(record.config).encode()).decode(),
        "ifName": record.interface,
        "networkName": record.network,
        "netns": record.namespace,
        "capabilityArgs": record.capabilities,
        "result": record.result,
    }
    record.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = record.path.with_name(f".{record.path.name}.new")
    temporary.write_text(json.dumps(data))
    temporary.rename(record.path)


def record_path(network: str, container_id: str, interface: str) -> Path:
    """Where the note of an attachment lies."""
    return RECORDS_DIR / f"{network}-{container_id}-{interface}"


def holder_of(network: str, address: str) -> str | None:
    """Say whom host-local has given an address to; None when it is free."""
    try:
        return (RESERVATIONS_DIR / network / address).read_text().split()[0]
    except FileNotFoundError:
        return None
    except (OSError, IndexError):
        return "somebody"
