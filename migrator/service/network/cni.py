"""Containers in CNI networks (CNI specification 1.0.0): `ctr run --cni` and other callers of libcni make them.

The plug-ins are run as their specification says, with the configuration that *this* host has for the network of that
name: addresses are the network's, bridges and paths the host's.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

from migrator.errors import InternalError, PreconditionFailed, Unavailable
from migrator.models.preflight import Finding, Grade
from migrator.service.network import cni_files as files
from migrator.service.network.attachment import Attachment, PublishedPort, Route
from migrator.service.network.cni_files import Config, Record
from migrator.service.network.links import host_end, own_addresses, read_links, read_routes

PLUGIN_S = 20.0
OUTSIDE = ("loopback",)
"""Not a network of its own."""


class Cni:
    """See `NetworkPlugin`."""

    name = "cni"

    def find(self, namespace: Path) -> Attachment | None:
        """Find the note whose interface is in the namespace."""
        found = {link["ifname"]: link for link in read_links(namespace)}
        for record in files.read_records():
            link = found.get(record.interface)
            if link and record.network not in OUTSIDE and record.has(record.interface, link["address"]):
                return _described(record, link, namespace)
        return None

    def examine(self, wanted: Attachment) -> Iterator[Finding]:
        """Configuration, programs, addresses and ports."""
        config = files.read_networks().get(wanted.network)
        if config is None:
            yield _failure("network_missing", f"has no CNI network '{wanted.network}'", "configure it there")
            return
        missing = sorted({kind for kind in _kinds(config) if files.find_program(kind) is None})
        if missing:
            remedy = "install containernetworking-plugins there"
            yield _failure("network_missing", f"lacks the CNI plug-ins {', '.join(missing)}", remedy)
        if shutil.which("nft") is None:
            yield _failure("network_missing", "lacks the program nft", "install nftables there")
        yield from _examine_addresses(wanted)
        yield from _examine_ports(wanted)

    def prepare(self, wanted: Attachment, namespace: Path) -> Attachment:
        """Run ADD with the address asked for, and leave the note that makes DEL possible for everybody."""
        config = files.read_networks().get(wanted.network)
        if config is None:
            raise PreconditionFailed(f"no CNI network '{wanted.network}' here", code="network_missing")
        _refuse_foreign(wanted, namespace)
        self.detach(wanted, namespace)  # what a former attempt left
        config = with_addresses(config, wanted.plain_addresses, wanted.addresses)
        ports = {"portMappings": [_port(port) for port in wanted.ports]} if wanted.ports else {}
        record = Record(
            files.record_path(wanted.network, wanted.container_id, wanted.interface),
            wanted.container_id,
            wanted.interface,
            wanted.network,
            config,
            {},
            ports,
            namespace=str(namespace),
        )
        files.write_record(record)  # before the first plug-in acts: it is taken back by this note
        record = replace(record, result=_add(record))
        files.write_record(record)
        link = next(link for link in read_links(namespace) if link["ifname"] == wanted.interface)
        found = _described(record, link, namespace)
        if wanted.addresses and set(found.plain_addresses) != set(wanted.plain_addresses):
            raise PreconditionFailed(
                f"network '{wanted.network}' gives {', '.join(found.plain_addresses)} "
                f"instead of {', '.join(wanted.plain_addresses)}",
                code="address_unavailable",
                remedy="let its address management give out the address that is asked for",
            )
        return found if not wanted.addresses else replace(found, mac=wanted.mac, routes=wanted.routes or found.routes)

    def waits(self, attachment: Attachment, namespace: Path) -> bool:
        """Look into the note."""
        record = files.find_record(attachment.network, attachment.container_id, attachment.interface)
        return record is not None and record.namespace == str(namespace)

    def adopt(self, attachment: Attachment, namespace: Path) -> None:
        """Write the new place and MAC address into the note."""
        record = files.find_record(attachment.network, attachment.container_id, attachment.interface)
        if record is None:
            return
        links = [
            {**link, "sandbox": str(namespace), "mac": attachment.mac} if link.get("sandbox") else link
            for link in record.result.get("interfaces", [])
        ]
        files.write_record(replace(record, namespace=str(namespace), result={**record.result, "interfaces": links}))

    def detach(self, attachment: Attachment, namespace: Path | None) -> None:
        """Run DEL with the configuration that ADD was run with, then remove the note."""
        record = files.find_record(attachment.network, attachment.container_id, attachment.interface)
        if record is None:
            return
        place = str(namespace) if namespace is not None and namespace.exists() else ""
        _delete(replace(record, namespace=place))
        record.path.unlink(missing_ok=True)


def with_addresses(config: Config, plain: list[str], full: tuple[str, ...]) -> Config:
    """Have the network give out these addresses.

    host-local gives out only addresses of its own ranges. Another one of the same network came from another host: it is
    set as it is, and no other host gives it out.
    """
    if not plain:
        return config
    first, *others = config["plugins"]
    ipam = dict(first.get("ipam") or {})
    if ipam.get("type") == "host-local" and not all(_in_ranges(ipam, address) for address in plain):
        ipam = {"type": "static", "addresses": [{"address": address} for address in full]}
    asked = {**(first.get("args") or {}), "cni": {"ips": list(full if ipam.get("type") == "static" else plain)}}
    return {**config, "plugins": [{**first, "ipam": ipam, "args": asked}, *others]}


def _refuse_foreign(wanted: Attachment, namespace: Path) -> None:
    record = files.find_record(wanted.network, wanted.container_id, wanted.interface)
    if record is not None and record.namespace != str(namespace):
        raise PreconditionFailed(
            f"container '{wanted.container_id}' is in network '{wanted.network}' here already",
            code="network_taken",
            remedy="detach it there: CNI's DEL for that container",
        )


def _in_ranges(ipam: Config, address: str) -> bool:
    sets = ipam.get("ranges") or [[ipam]]
    return any(_in_range(part, address) for parts in sets for part in parts)


def _in_range(part: Config, address: str) -> bool:
    """Whether an address is within `rangeStart` and `rangeEnd` of a subnet (host-local)."""
    wanted = ip_address(address)
    subnet = ip_network(part.get("subnet", "0.0.0.0/32"), strict=False)
    if wanted.version != subnet.version or wanted not in subnet:
        return False
    first, last = part.get("rangeStart"), part.get("rangeEnd")
    number = int(wanted)
    return (not first or int(ip_address(first)) <= number) and (not last or number <= int(ip_address(last)))


def _described(record: Record, link: Config, namespace: Path) -> Attachment:
    """Describe an attachment by what the kernel says now: addresses may have changed since the note was written."""
    ports = record.capabilities.get("portMappings") or []
    return Attachment(
        plugin=Cni.name,
        network=record.network,
        container_id=record.container_id,
        interface=record.interface,
        mac=link["address"],
        addresses=tuple(f"{a['local']}/{a['prefixlen']}" for a in link["addr_info"] if a.get("scope") == "global"),
        routes=tuple(Route(*route) for route in read_routes(namespace, record.interface)),
        ports=tuple(PublishedPort(**port) for port in ports),
        mtu=link["mtu"],
        host_link=host_end(link) or "",
    )


def _kinds(config: Config) -> Iterator[str]:
    for part in config["plugins"]:
        yield str(part.get("type", ""))
        if ipam := (part.get("ipam") or {}).get("type"):
            yield str(ipam)


def _examine_addresses(wanted: Attachment) -> Iterator[Finding]:
    own = own_addresses()
    for address in wanted.plain_addresses:
        holder = "this host itself" if address in own else files.holder_of(wanted.network, address)
        if holder not in (None, wanted.container_id):
            told = f"has given the address {address} of network '{wanted.network}' to {holder}"
            yield _failure("address_taken", told, "give it back there, or choose another target")
    if files.find_record(wanted.network, wanted.container_id, wanted.interface):
        told = f"knows a container '{wanted.container_id}' in network '{wanted.network}' already"
        yield _failure("network_taken", told, "detach it there: CNI's DEL for that container")


def _examine_ports(wanted: Attachment) -> Iterator[Finding]:
    others = [record for record in files.read_records() if record.container_id != wanted.container_id]
    taken = {_port_key(port): record for record in others for port in record.capabilities.get("portMappings") or []}
    for port in wanted.ports:
        record = taken.get((port.protocol, port.hostPort))
        if record:
            told = f"has published {port.protocol} port {port.hostPort} for '{record.container_id}'"
            yield _failure("port_taken", told, "free it there, or choose another target")


def _port_key(port: Config) -> tuple[str, int]:
    return str(port.get("protocol", "tcp")), int(port.get("hostPort", 0))


def _port(port: PublishedPort) -> dict[str, Any]:
    told = {"hostPort": port.hostPort, "containerPort": port.containerPort, "protocol": port.protocol}
    return {**told, **({"hostIP": port.hostIP} if port.hostIP else {})}


def _failure(code: str, told: str, remedy: str) -> Finding:
    return Finding("network", Grade.FAIL, f"the target {told}", code, remedy)


def _add(record: Record) -> Config:
    result: Config | None = None
    for part in record.config["plugins"]:
        result = _call("ADD", record, part, result) or result
    return result or {}


def _delete(record: Record) -> None:
    """In reverse; a plug-in takes back what it finds and does not mind if there is nothing."""
    for part in reversed(record.config["plugins"]):
        _call("DEL", record, part, record.result or None)


def _call(verb: str, record: Record, part: Config, previous: Config | None) -> Config | None:
    """Run one plug-in.

    Raises:
        Unavailable: `network_failed`, with the plug-in's own words.
    """
    kind = str(part.get("type", ""))
    program = files.find_program(kind)
    if program is None:
        raise InternalError(f"CNI plug-in '{kind}' is not installed", code="network_failed")
    done = _run(program, _environment(verb, record), json.dumps(plugin_input(record, part, previous)))
    answer = _answer(done.stdout)
    if done.returncode:
        words = answer.get("msg") or done.stderr.strip() or f"status {done.returncode}"
        raise Unavailable(
            f"CNI plug-in '{kind}' failed to {verb} '{record.container_id}': {words}", code="network_failed"
        )
    return answer or None


def plugin_input(record: Record, part: Config, previous: Config | None) -> Config:
    """Compose what a plug-in reads on its standard input (CNI specification, section 4)."""
    known = part.get("capabilities") or {}
    runtime = {name: value for name, value in record.capabilities.items() if known.get(name)}
    config = {key: value for key, value in part.items() if key != "capabilities"}
    config |= {"cniVersion": record.config.get("cniVersion", "0.2.0"), "name": record.network}
    return config | ({"runtimeConfig": runtime} if runtime else {}) | ({"prevResult": previous} if previous else {})


def _environment(verb: str, record: Record) -> dict[str, str]:
    return {
        "PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
        "CNI_COMMAND": verb,
        "CNI_CONTAINERID": record.container_id,
        "CNI_NETNS": record.namespace,
        "CNI_IFNAME": record.interface,
        "CNI_PATH": ":".join(map(str, files.PLUGIN_DIRS)),
        "CNI_ARGS": ";".join(f"{key}={value}" for key, value in record.arguments),
    }


def _run(program: Path, environment: dict[str, str], text: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            [program], input=text, env=environment, capture_output=True, text=True, timeout=PLUGIN_S, check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise Unavailable(f"CNI plug-in {program} failed: {error}", code="network_failed") from error


def _answer(text: str) -> Config:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
