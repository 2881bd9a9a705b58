"""What fuzzing found, or would find in time: each stays as an example."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from tests.fuzz import targets_of_stores
from tests.fuzz.targets import BOMB, TARGETS
from tests.fuzz.test_fuzz import attempt, refusal_of

NAMED = {target.name: target for target in TARGETS}


def header(kind: bytes, size_bytes: int, form: int = tarfile.GNU_FORMAT) -> bytes:
    """A tar that begins with such a header and soon ends."""
    member = tarfile.TarInfo("name")
    member.type, member.size = kind, size_bytes
    return member.tobuf(form) + bytes(4096)


FOUND = (
    ("chunk", BOMB, "a frame that claims a terabyte made room for it"),
    ("stdio", b'{"stdout": "file://["}', "an address that is none"),
    ("stdio", b"[1]", "a list where names are"),
    ("container record", b"\x22\x04\x12\x02{}" + b"\x1a\x02\x12\xff", "runtime options that are cut off"),
    ("tar of images", header(tarfile.GNUTYPE_LONGNAME, 1 << 30), "a long name without an end"),
    ("tar of images", header(tarfile.XHDTYPE, 1 << 33), "attributes without an end"),
    ("tar of images", header(tarfile.GNUTYPE_SPARSE, 512), "a file with holes"),
    ("layer", header(tarfile.GNUTYPE_LONGNAME, 1 << 30), "a long name without an end"),
    ("layer", header(tarfile.XHDTYPE, 1 << 33), "attributes without an end"),
    ("index", b"[" * 100_000, "a document that is too deep"),
    ("recipe", b"[" * 100_000, "a document that is too deep"),
    ("spec", json.dumps({"linux": []}).encode(), "a list where an object is"),
)


@pytest.mark.parametrize(("name", "data", "what"), FOUND, ids=[f"{name}, {what}" for name, _, what in FOUND])
def test_what_was_found_is_refused(name: str, data: bytes, what: str, tmp_path: Path) -> None:
    attempt(NAMED[name], data, tmp_path / "here")
    (tmp_path / "again").mkdir()
    assert refusal_of(NAMED[name], data, tmp_path / "again") is not None, what


def test_a_pin_that_is_too_deep_still_holds(tmp_path: Path) -> None:
    assert refusal_of(NAMED["pin"], b"[" * 100_000, tmp_path) is None


def test_every_sample_is_taken_as_it_is(tmp_path: Path) -> None:
    """What no parser takes unchanged would prove nothing when it is changed."""
    from tests.fuzz import targets as t

    samples = {
        "recipe": t.RECIPE, "descriptor of a recipe": t.DESCRIPTOR, "pack": t.PACK, "pack index": t.PACK_INDEX,
        "list of chunks": t.LIST, "packets": t.PACKETS, "chunk": t.STORED[0][1], "index": t.INDEX, "index and what it names": t.INDEX,
        "manifest": t.MANIFEST, "snapshot": t.SNAPSHOT, "volumes": t.VOLUMES, "network": t.NETWORK,
        "options of CRIU": t.OPTIONS, "stdio": t.STDIO, "container record": t.RECORD.SerializeToString(),
        "spec": t.REAL.spec, "tar of images": t.MEMORY, "tar of images in GNU's form": t.GNU, "list of images": t.MEMORY,
        "layer": t.LAYER, "layer in GNU's form": t.GNU, "compressed layer": t.REAL.layer,
        "pages that come later": t.IMAGES["pagemap-7.img"], "mappings of pages that come later": t.IMAGES["mm-7.img"],
        "comparison of pages": t.IMAGES["pagemap-7.img"], **{name: t.IMAGES[name] for name in t.NAMES},
        **targets_of_stores.SAMPLES,
    }  # fmt: skip
    others = {"pin", "key of an index", "nested index", "lock of a prune", "images over others"}
    assert samples.keys() | others == NAMED.keys()
    for number, (name, data) in enumerate(samples.items()):
        (tmp_path / str(number)).mkdir()
        assert refusal_of(NAMED[name], data, tmp_path / str(number)) is None, name
