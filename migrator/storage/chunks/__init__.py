"""Parts of backups as chunks, each stored once: see docs/format.md. Packs first, then their index, then recipes."""

from migrator.storage.chunks.cutting import cut_by_content
from migrator.storage.chunks.recipes import Recipe, is_chunked, part_of
from migrator.storage.chunks.store import ChunkStore
from migrator.storage.chunks.writing import ChunkWriter, Written

__all__ = ["ChunkStore", "ChunkWriter", "Recipe", "Written", "cut_by_content", "is_chunked", "part_of"]
