"""The labels by which an image keeps its parts: the collector follows them from an image's target downwards."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING
from typing import Any as Json

from migrator.containerd.mediatypes import GC_CONTENT, INDEXES, MANIFESTS
from migrator.errors import IntegrityError
from migrator.models.descriptors import Descriptor

if TYPE_CHECKING:
    from migrator.containerd.client import ContainerdClient


def read_json(client: ContainerdClient, part: Descriptor) -> dict[str, Json]:
    """Return an index, manifest or config, verified.

    Raises:
        NotFound: `content_not_found`.
        IntegrityError: `bad_manifest`: it is no JSON object.
    """
    try:
        found = json.loads(client.content.read_all(part.digest))
    except ValueError as error:
        raise IntegrityError(f"content {part.digest} is no JSON: {error}", code="bad_manifest") from error
    if not isinstance(found, dict):
        raise IntegrityError(f"content {part.digest} is no JSON object", code="bad_manifest")
    return found


def children(client: ContainerdClient, part: Descriptor) -> Iterator[tuple[str, Descriptor]]:
    """Yield what an index or manifest names, each with the label that keeps it; nothing for other parts."""
    if part.media_type in INDEXES:
        for number, child in enumerate(read_json(client, part).get("manifests", ())):
            yield f"{GC_CONTENT}.m.{number}", Descriptor.from_oci(child)
    elif part.media_type in MANIFESTS:
        manifest = read_json(client, part)
        yield f"{GC_CONTENT}.config", Descriptor.from_oci(manifest.get("config", {}))
        for number, child in enumerate(manifest.get("layers", ())):
            yield f"{GC_CONTENT}.l.{number}", Descriptor.from_oci(child)


def label_tree(client: ContainerdClient, root: Descriptor) -> list[Descriptor]:
    """Label `root` and all below it so that whoever keeps `root` keeps all of it.

    Parts that an index names and the store does not have (other platforms) are labelled for and left out of the walk.

    Returns:
        Every part found in the store, children before parents: the order in which to copy them elsewhere.

    Raises:
        NotFound: `content_not_found`: `root`, or a part of a manifest, is missing.
    """
    found = list(children(client, root))
    below = [child for _, child in found if root.media_type not in INDEXES or client.content.exists(child.digest)]
    walked = [part for child in below for part in label_tree(client, child)]
    if found:
        client.content.update_labels(root.digest, {label: child.digest for label, child in found})
    else:
        client.content.info(root.digest)
    return [*walked, root]
