"""CRIU's options that must be the same at the dump and at the restore: the runtime's shim does not replay them."""

from __future__ import annotations

from pathlib import Path

from migrator.errors import IntegrityError
from migrator.models.values import TcpPolicy
from migrator.storage.oci import CheckpointIndex, FactAnnotation

TCP_ESTABLISHED, TCP_CLOSE = "tcp-established", "tcp-close"
REPLAYED = frozenset({TCP_ESTABLISHED})
"""Nothing else is taken from a checkpoint: it is not trusted."""


def options_to_replay(images: Path) -> list[str]:
    """Say what a restore from these images needs (one `tcp-stream` image is one open connection)."""
    return [TCP_ESTABLISHED] if any(images.glob("tcp-stream-*.img")) else []


def replayed_options(index: CheckpointIndex, tcp: TcpPolicy) -> list[str]:
    """Read what the dump was told, and turn it as the job wants it.

    Raises:
        IntegrityError: `bad_index`, the checkpoint asks for an option that no restore needs.
    """
    told = index.told(FactAnnotation.CRIU_OPTIONS, [])
    if not isinstance(told, list) or not REPLAYED.issuperset(map(str, told)):
        raise IntegrityError(f"the checkpoint asks CRIU for {told!r:.100}", code="bad_index")
    return [TCP_CLOSE if name == TCP_ESTABLISHED and tcp is TcpPolicy.CLOSE else str(name) for name in told]
