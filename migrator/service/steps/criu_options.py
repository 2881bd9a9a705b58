"""What CRIU is told beside what runtime and shim tell it; at a restore only a file of CRIU's own can say it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from migrator.criu.configuration import RUNC_FILE, write_options
from migrator.errors import IntegrityError
from migrator.models.values import TcpPolicy
from migrator.service.preflight.processes import read_status
from migrator.service.records import CONFIG_ANNOTATION

Spec = dict[str, Any]


@dataclass(frozen=True, slots=True)
class CriuOptions:
    """The options of a dump, which its restore needs again: the runtime's shim does not replay them."""

    tcp: TcpPolicy = TcpPolicy.REFUSE
    """What becomes of open TCP connections."""
    file_locks: bool = True
    """The processes of a container hold their locks themselves: they are taken along, and where there are none this
    costs nothing."""
    external_unix: bool = False

    def lines(self) -> list[str]:
        """As they stand in CRIU's configuration file (criu(8), CONFIGURATION FILES)."""
        wanted = {
            "tcp-established": self.tcp is TcpPolicy.KEEP,
            "tcp-close": self.tcp is TcpPolicy.CLOSE,
            "file-locks": self.file_locks,
            "ext-unix-sk": self.external_unix,
        }
        return [option for option, on in wanted.items() if on]


def options_to_replay(options: CriuOptions, images: Path) -> dict[str, Any]:
    """Say what a restore from these images needs (one `tcp-stream` image is one open connection)."""
    tcp = TcpPolicy.KEEP if any(images.glob("tcp-stream-*.img")) else TcpPolicy.REFUSE
    return asdict(replace(options, tcp=tcp))


def replayed_options(told: Any, tcp: TcpPolicy) -> CriuOptions:
    """Read what a checkpoint says the dump was told, and turn it as the job wants it.

    A checkpoint that says nothing is from before, and has no locks.

    Raises:
        IntegrityError: `bad_index`, it asks for an option that no restore needs.
    """
    known = read_options({} if told is None else told)
    return replace(known, tcp=tcp) if known.tcp is not TcpPolicy.REFUSE else known


def read_options(told: Any) -> CriuOptions:
    """Read what a checkpoint says; it is not trusted, so nothing else is taken from it.

    Raises:
        IntegrityError: `bad_index`.
    """
    words = {"tcp": "refuse", "file_locks": False, "external_unix": False} | (
        told if isinstance(told, dict) else {"": told}
    )
    tcp, file_locks, external_unix, *others = words.values()
    if others or tcp not in list(TcpPolicy) or not (isinstance(file_locks, bool) and isinstance(external_unix, bool)):
        raise IntegrityError(f"the checkpoint asks CRIU for {told!r:.100}", code="bad_index")
    return CriuOptions(TcpPolicy(tcp), file_locks, external_unix)


def with_options(spec: Spec, options: CriuOptions, file: Path, more: Iterable[str] = ()) -> Spec:
    """Write the options into a file and name it in a spec; what the container's own file, or runc's, says stays."""
    lines = [*options.lines(), *more]
    if not lines:
        return spec
    annotations: Mapping[str, str] = spec.get("annotations") or {}
    write_options(file, lines, Path(annotations.get(CONFIG_ANNOTATION, RUNC_FILE)))
    return {**spec, "annotations": {**annotations, CONFIG_ANNOTATION: str(file)}}


@contextmanager
def usual_file_counts(pid: int, spec: Spec, work_root: Path) -> Iterator[None]:
    """While a dump runs, let the host's own file say what it says, also of a task that was restored here.

    runc keeps to the file that the restore named, which is gone, and reads no other: it is given back meanwhile.

    Args:
        pid: The task's first process.
        spec: The container's own, as it was made with.
        work_root: Where jobs have their directories; no other file is written.
    """
    file = _file_of_restore(pid)
    if file is None or file.exists() or not file.resolve().is_relative_to(work_root):
        yield
        return
    annotations: Mapping[str, str] = spec.get("annotations") or {}
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        write_options(file, [], Path(annotations.get(CONFIG_ANNOTATION, RUNC_FILE)))
        yield
    finally:
        file.unlink(missing_ok=True)
        with suppress(OSError):  # another job's, that has more in it
            file.parent.rmdir()


def _file_of_restore(pid: int) -> Path | None:
    """Return which file the running task was restored with: its shim lives in the bundle that runc was given."""
    try:
        shim = read_status(Path(f"/proc/{pid}/status"))["PPid"]
        bundle: Spec = json.loads(Path(f"/proc/{shim}/cwd/config.json").read_bytes())
    except (OSError, KeyError, ValueError):
        return None
    named = (bundle.get("annotations") or {}).get(CONFIG_ANNOTATION)
    return Path(named) if named else None
