"""The object store: verbs in `store`, keys in `layout`, checkpoints and their write order in `checkpoints`."""

from migrator.storage.opening import open_checkpoints, open_store

__all__ = ["open_checkpoints", "open_store"]
