"""What processes have open, in words."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Mapping, Sequence

from migrator.criu.entries import Images, read_entries, text_of
from migrator.gen.criu.images_pb2 import FdinfoEntry, InetSocket, OpenFileEntry, RemapEntry, UnixSocket
from migrator.models.contents import OpenFile

FILES_IMAGE, REMAPS_IMAGE = "files.img", "remap-fpath.img"
FILES_MARK, FDINFO_MARK, REMAPS_MARK = 0x56303138, 0x56213732, 0x59133954
_KINDS = {
    1: "file", 2: "pipe", 3: "fifo", 4: "inet", 5: "unix", 6: "eventfd", 7: "epoll", 8: "inotify", 9: "signalfd",
    10: "packet", 11: "terminal", 12: "fanotify", 13: "netlink", 14: "namespace", 15: "tun", 16: "external",
    17: "timerfd", 18: "memfd", 19: "bpf", 20: "pidfd",
}  # fmt: skip
_PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmp", 136: "udplite"}
_STATES = {
    1: "established", 2: "connecting", 3: "connecting", 4: "closing", 5: "closing", 6: "closing", 7: "closed",
    8: "half closed", 9: "closing", 10: "listening", 11: "closing",
}  # fmt: skip
"""Linux's states of a TCP socket (include/net/tcp_states.h), which it uses for all sockets."""
_INET6, _STREAM, _DATAGRAM = 10, 1, 2
_V4_WORDS, _V6_WORDS = 1, 4
_UNIX_FORMS = {_STREAM: "stream", _DATAGRAM: "datagram", 5: "seqpacket"}
_WORD = struct.Struct("<I")


class OpenFiles:
    """The open files of all processes.

    Args:
        images: Where they are listed.

    Raises:
        IntegrityError: `bad_images`.
    """

    def __init__(self, images: Images):
        self._images = images
        names = images.names()
        entries = read_entries(images, FILES_IMAGE, FILES_MARK, OpenFileEntry) if FILES_IMAGE in names else []
        self._entries = {(entry.type, entry.id): entry for entry in entries}
        remaps = read_entries(images, REMAPS_IMAGE, REMAPS_MARK, RemapEntry) if REMAPS_IMAGE in names else []
        self._deleted = {entry.orig_id for entry in remaps}
        self._unix_names = {entry.usk.ino: _unix_name(entry.usk) for entry in entries if entry.HasField("usk")}
        self.paths: Mapping[int, str] = {
            entry.id: text_of(entry.reg.name) for entry in entries if entry.HasField("reg")
        }
        """The paths of regular files, by id: programs and mapped files are named by it."""

    def of_table(self, table: int) -> tuple[OpenFile, ...]:
        """What a table of descriptors holds."""
        name = f"fdinfo-{table}.img"
        if name not in self._images.names():
            return ()
        entries = read_entries(self._images, name, FDINFO_MARK, FdinfoEntry)
        return tuple(self._describe(entry) for entry in sorted(entries, key=lambda entry: entry.fd))

    def _describe(self, info: FdinfoEntry) -> OpenFile:
        entry = self._entries.get((info.type, info.id))
        kind = _KINDS.get(info.type, f"kind {info.type}")
        if entry is None:
            return OpenFile(info.fd, kind, "")
        if entry.HasField("isk"):
            return _describe_inet(info.fd, entry.isk)
        if entry.HasField("usk"):
            return self._describe_unix(info.fd, entry.usk)
        state = "deleted" if entry.id in self._deleted and entry.HasField("reg") else ""
        return OpenFile(info.fd, kind, self._name(entry), state)

    def _name(self, entry: OpenFileEntry) -> str:
        if entry.HasField("reg"):
            return self.paths[entry.id]
        if entry.HasField("pipe"):
            return f"number {entry.pipe.pipe_id}"
        return f"number {entry.fifo.pipe_id}" if entry.HasField("fifo") else ""

    def _describe_unix(self, descriptor: int, socket: UnixSocket) -> OpenFile:
        form = _UNIX_FORMS.get(socket.type, "")
        peer = self._unix_names.get(socket.peer)
        words = [word for word in (form, _unix_name(socket)) if word]
        if socket.peer:
            words.append(f"to {peer or f'number {socket.peer}'}" if peer is not None else "to outside of the container")
        state = _STATES.get(socket.state, "")
        return OpenFile(descriptor, "unix", " ".join(words), "" if state == "closed" else state)


def _describe_inet(descriptor: int, socket: InetSocket) -> OpenFile:
    kind = _PROTOCOLS.get(socket.proto, "raw")
    state = _STATES.get(socket.state, "")
    if kind != "tcp" and state == "closed":
        state = "unconnected"
    name = _address(socket.family, socket.src_addr, socket.src_port)
    if socket.dst_port:
        name += f" → {_address(socket.family, socket.dst_addr, socket.dst_port)}"
    return OpenFile(descriptor, kind, name, state)


def _address(family: int, words: Sequence[int], port: int) -> str:
    wanted = _V6_WORDS if family == _INET6 else _V4_WORDS
    if len(words) < wanted:
        return f"?:{port}"
    address = ipaddress.ip_address(b"".join(_WORD.pack(word) for word in words[:wanted]))
    return f"[{address}]:{port}" if wanted == _V6_WORDS else f"{address}:{port}"


def _unix_name(socket: UnixSocket) -> str:
    """A path; `@NAME` for an abstract one; empty for one that has none."""
    name: bytes = socket.name
    return f"@{text_of(name[1:])}" if name.startswith(b"\0") and len(name) > 1 else text_of(name)
