"""A container's place in a network, as it travels with the job and with a checkpoint."""

from __future__ import annotations

from ipaddress import ip_interface
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked

from migrator.errors import IntegrityError


def _address(text: str) -> str:
    return str(ip_interface(text))


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$")]
Interface = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,14}$")]
Address = Annotated[str, AfterValidator(_address)]
Mac = Annotated[str, Field(pattern=r"^([0-9a-f]{2}:){5}[0-9a-f]{2}$")]
STRICT = ConfigDict(extra="ignore")


@checked(frozen=True, slots=True, config=STRICT)
class Route:
    """A route that somebody set; those that follow from an address are not told."""

    destination: Annotated[str, Field(pattern=r"^(default|[0-9a-fA-F.:]+(/[0-9]{1,3})?)$")]
    gateway: Annotated[str, Field(pattern=r"^([0-9a-fA-F.:]+)?$")] = ""


@checked(frozen=True, slots=True, config=STRICT)
class PublishedPort:
    """A port of the host that leads to one of the container, in CNI's words (conventions, portMappings)."""

    hostPort: Annotated[int, Field(ge=1, le=65535)]  # noqa: N815
    containerPort: Annotated[int, Field(ge=1, le=65535)]  # noqa: N815
    protocol: Literal["tcp", "udp", "sctp"] = "tcp"
    hostIP: Annotated[str, Field(pattern=r"^([0-9a-fA-F.:]+)?$")] = ""  # noqa: N815


@checked(frozen=True, slots=True, config=STRICT)
class Attachment:
    """One interface of a container in one network."""

    plugin: Name
    """Which `NetworkPlugin` knows it."""
    network: Name
    container_id: Name
    """What the network knows the container by."""
    interface: Interface
    mac: Mac
    addresses: tuple[Address, ...]
    routes: tuple[Route, ...] = ()
    ports: tuple[PublishedPort, ...] = ()
    mtu: Annotated[int, Field(ge=68, le=65536)] = 1500
    host_link: Annotated[str, Field(pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,14})?$")] = ""
    """The interface of its host that is the other end; empty where none is prepared."""

    namespace_path: Annotated[str, Field(pattern=r"^((/var)?/run/netns/[A-Za-z0-9][A-Za-z0-9._-]{0,199})?$")] = ""
    """The namespace that the container joins by this path, made by others; empty if it has one of its own."""

    @property
    def plain_addresses(self) -> list[str]:
        """The addresses without the length of their networks."""
        return [address.partition("/")[0] for address in self.addresses]


_ADAPTER: TypeAdapter[Attachment] = TypeAdapter(Attachment)


def pack_attachment(attachment: Attachment | None) -> dict[str, Any] | None:
    """Write an attachment as JSON types."""
    return None if attachment is None else _ADAPTER.dump_python(attachment, mode="json")


def read_attachment(data: Any) -> Attachment | None:
    """Read an attachment; None says that there is none. The data is not trusted.

    Raises:
        IntegrityError: `bad_network`.
    """
    if data is None:
        return None
    try:
        return _ADAPTER.validate_python(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise IntegrityError(f"a malformed network ({place}: {first['msg']})", code="bad_network") from error
