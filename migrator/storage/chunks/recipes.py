"""A recipe stands in an index in place of a part, and says how the part is put together from chunks."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from migrator.errors import IntegrityError
from migrator.models.descriptors import Descriptor, check_digest, digest_bytes
from migrator.storage.chunks.format import CHUNK_LIMIT_BYTES, LIST_LIMIT

RECIPE = "application/vnd.migrator.recipe.v1+json"
"""The media type of a recipe."""
RECIPE_LIMIT_BYTES = 4 << 20
PART_MEDIA_TYPE = "io.migrator.part.media-type"
PART_DIGEST = "io.migrator.part.digest"
PART_SIZE = "io.migrator.part.size"
VERSIONS = (1, 2)
"""A recipe of version 1 tells the digest of the whole part; one of version 2 does not."""


@dataclass(frozen=True, slots=True)
class ChunkList:
    """A stretch of a part: the name of the chunk that lists its chunks, and the bytes of the part that it covers."""

    name: bytes
    covers_bytes: int


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a part is put together."""

    media_type: str
    digest: str
    """Of the part as a whole; "" if nobody knows it: the lists vouch for the chunks, and their names for the bytes."""
    size_bytes: int
    lists: tuple[ChunkList, ...]

    def to_bytes(self) -> bytes:
        """Return the form in which it is stored."""
        lists = [{"chunk": item.name.hex(), "size": item.covers_bytes} for item in self.lists]
        whole = {"schemaVersion": 1, "digest": self.digest} if self.digest else {"schemaVersion": 2}
        document = {**whole, "mediaType": self.media_type, "size": self.size_bytes}
        return json.dumps({**document, "lists": lists}, sort_keys=True, separators=(",", ":")).encode()


def is_chunked(part: Descriptor) -> bool:
    """Whether a recipe stands in place of a part."""
    return part.media_type == RECIPE


def describe_chunked(part: Descriptor, recipe: bytes) -> Descriptor:
    """Return the descriptor that stands in the index.

    Args:
        part: The part itself, with its role.
        recipe: The bytes of its recipe.
    """
    told = {PART_MEDIA_TYPE: part.media_type, PART_SIZE: str(part.size_bytes)}
    told |= {PART_DIGEST: part.digest} if part.digest else {}
    return Descriptor(RECIPE, digest_bytes(recipe), len(recipe), {**part.annotations, **told}, part.platform)


def part_of(descriptor: Descriptor) -> Descriptor:
    """Return the part that a descriptor of an index stands for: itself, unless it is of a recipe.

    Its digest is "" where only the recipe vouches for it.

    Raises:
        IntegrityError: `bad_recipe`, its annotations do not tell of a part.
    """
    if not is_chunked(descriptor):
        return descriptor
    notes = dict(descriptor.annotations)
    try:
        digest = _digest_if_any(notes.pop(PART_DIGEST, ""))
        media_type, size_bytes = notes.pop(PART_MEDIA_TYPE), _size(int(notes.pop(PART_SIZE)))
    except (KeyError, ValueError) as error:
        raise bad_recipe(f"its descriptor does not tell of its part ({error})") from error
    return replace(descriptor, media_type=media_type, digest=digest, size_bytes=size_bytes, annotations=notes)


def parse_recipe(data: bytes) -> Recipe:
    """Read a recipe.

    Raises:
        IntegrityError: `bad_recipe`.
    """
    if len(data) > RECIPE_LIMIT_BYTES:
        raise bad_recipe(f"it has {len(data)} bytes")
    try:
        found = _read(json.loads(data))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise bad_recipe(f"it is malformed ({error!r:.100})") from error
    if sum(item.covers_bytes for item in found.lists) != found.size_bytes:
        raise bad_recipe("its lists do not cover the part")
    return found


def check_is_of(recipe: Recipe, part: Descriptor) -> None:
    """See that a recipe speaks of the same part as its descriptor.

    Raises:
        IntegrityError: `bad_recipe`.
    """
    if (recipe.media_type, recipe.digest, recipe.size_bytes) != (part.media_type, part.digest, part.size_bytes):
        raise bad_recipe("it is of another part than its descriptor")


def names_of(recipes: Iterable[Recipe]) -> set[bytes]:
    """The names of all lists of some recipes."""
    return {item.name for recipe in recipes for item in recipe.lists}


def _read(document: Any) -> Recipe:
    version = document["schemaVersion"]
    if version not in VERSIONS:
        raise ValueError(f"version {version}")
    lists = tuple(ChunkList(_name(item["chunk"]), _size(item["size"])) for item in document["lists"])
    if any(not 0 < item.covers_bytes <= LIST_LIMIT * CHUNK_LIMIT_BYTES for item in lists):
        raise ValueError("a list of impossible length")
    media_type = document["mediaType"]
    if not isinstance(media_type, str):
        raise TypeError("no media type")
    digest = check_digest(document["digest"]) if version == 1 else ""
    return Recipe(media_type, digest, _size(document["size"]), lists)


def _digest_if_any(digest: str) -> str:
    return check_digest(digest) if digest else ""


def _name(text: str) -> bytes:
    name = bytes.fromhex(text)
    if len(name) != 32:
        raise ValueError("a chunk's name has 32 bytes")
    return name


def _size(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        raise ValueError(f"a size of {value!r:.50}")
    return value


def bad_recipe(why: str) -> IntegrityError:
    """Say that a recipe cannot be used."""
    return IntegrityError(
        f"a damaged recipe: {why}", code="bad_recipe", remedy="somebody changed the object store; use another backup"
    )
