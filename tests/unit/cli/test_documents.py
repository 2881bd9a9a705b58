"""The documents and the code say the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from migrator.errors import KINDS
from migrator.storage import archive, checkpoints, layout, oci
from tests.unit.cli.commands import COMMANDS

DOCS = Path(__file__).parents[3] / "docs"
CLI = (DOCS / "cli.md").read_text()
FORMAT = (DOCS / "format.md").read_text()


def test_the_table_of_exit_codes_is_that_of_the_errors() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \| (\d+) \| \S.* \|$", CLI, re.MULTILINE)
    leaves = [kind for kind in KINDS.values() if not kind.__subclasses__()]
    assert len(rows) == len(leaves)
    assert {name: (status, int(code)) for name, status, code in rows} == {
        kind.__name__: (kind.grpc_status, kind.exit_code) for kind in leaves
    }


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_is_documented(command: tuple[str, ...]) -> None:
    assert re.search(rf"`migrator {' '.join(command)}\b[^`]*`", CLI), "docs/cli.md says nothing of it"


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_option_is_documented(command: tuple[str, ...]) -> None:
    options = {option for parameter in COMMANDS[command].params for option in parameter.opts if option.startswith("--")}
    for option in options - {"--help"}:
        assert option in CLI, option


@pytest.mark.parametrize("word", [*oci.Role, *oci.FactAnnotation, *oci.INDEX_TYPES[:1], *oci.MANIFEST_TYPES])
def test_every_word_of_the_format_is_documented(word: str) -> None:
    assert f"`{word}`" in FORMAT


def test_keys_and_limits_of_the_format_are_documented() -> None:
    for word in (
        layout.OCI_LAYOUT,
        layout.OCI_LAYOUT_CONTENT.decode(),
        layout.SEGMENT.pattern,
        layout.blob_key("sha256:" + "0" * 64).replace("0" * 64, "HEX"),
        layout.index_key("WORKLOAD", "ID"),
        oci.ROLE_ANNOTATION,
        archive.archive_name("CONTAINER", "ID").replace("container:", "CONTAINER:"),
    ):
        assert f"`{word}`" in FORMAT, word
    assert f"{oci.DOCUMENT_LIMIT_BYTES >> 20} MiB and {oci.PARTS_LIMIT} descriptors" in FORMAT
    assert f"{checkpoints.BLOBS_LIMIT} blobs" in FORMAT
    assert checkpoints.DEPTH_LIMIT == 3
