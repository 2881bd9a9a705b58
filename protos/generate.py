"""Make the Python stubs in migrator/gen from every .proto file in this directory.

    python protos/generate.py            write what changed
    python protos/generate.py --check    exit 1 and list what is stale

The stubs are checked in, so that neither an installed package nor a lab host needs a compiler.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from importlib import resources
from pathlib import Path

from grpc_tools import protoc  # type: ignore[import-untyped]

PROTOS = Path(__file__).resolve().parent
GEN = PROTOS.parent / "migrator" / "gen"
PACKAGE = "migrator.gen"
HEADER = '"""Generated from protos/ by protos/generate.py: do not edit."""\n'


def sources() -> list[str]:
    """Every .proto file, relative to this directory, in a stable order."""
    return sorted(str(path.relative_to(PROTOS)) for path in PROTOS.rglob("*.proto"))


def compile_protos(names: list[str], out: Path) -> None:
    """Run the compiler with the plugins that sit beside this interpreter.

    Raises:
        SystemExit: A file does not compile; the compiler has said why on stderr.
    """
    tools = Path(sys.executable).parent
    arguments = [
        "protoc",
        f"--proto_path={PROTOS}",
        f"--proto_path={resources.files('grpc_tools') / '_proto'}",
        f"--plugin=protoc-gen-mypy={tools / 'protoc-gen-mypy'}",
        f"--plugin=protoc-gen-mypy_grpc={tools / 'protoc-gen-mypy_grpc'}",
        *(f"--{kind}_out={out}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")),
        "--mypy_opt=quiet",
        "--mypy_grpc_opt=quiet",
        *names,
    ]
    if protoc.main(arguments) != 0:
        raise SystemExit(1)


def rewrite_imports(text: str, roots: set[str]) -> str:
    """Point absolute imports among the stubs into our own package: the compiler knows only the proto path."""
    names = "|".join(sorted(map(re.escape, roots)))
    text = re.sub(rf"^(\s*)from ({names})\.", rf"\1from {PACKAGE}.\2.", text, flags=re.M)
    return re.sub(rf"^(\s*)import ({names})\.", rf"\1import {PACKAGE}.\2.", text, flags=re.M)


def render() -> dict[Path, str]:
    """Every stub as it should be, by its path below migrator/gen."""
    names = sources()
    roots = {Path(name).parts[0] for name in names}
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory)
        compile_protos(names, out)
        written = [path for path in out.rglob("*") if path.is_file()]
        stubs = {path.relative_to(out): rewrite_imports(path.read_text(), roots) for path in written}
    stubs = {path: text for path, text in stubs.items() if "_pb2_grpc." not in path.name or "Stub" in text}
    for path in list(stubs):
        for folder in path.parents[:-1]:
            stubs[folder / "__init__.py"] = HEADER
    return stubs


def present() -> set[Path]:
    """The stubs that are checked in now; the package's own opening file is written by hand."""
    found = {path.relative_to(GEN) for kind in ("*.py", "*.pyi") for path in GEN.rglob(kind)}
    return found - {Path("__init__.py")}


def stale(stubs: dict[Path, str]) -> list[Path]:
    """Stubs that are missing, differ, or have no source any more."""
    changed = [path for path, text in stubs.items() if not (GEN / path).exists() or (GEN / path).read_text() != text]
    return sorted([*changed, *(present() - stubs.keys())])


def write(stubs: dict[Path, str]) -> None:
    """Bring migrator/gen to the wanted state, touching only what differs."""
    for path in stale(stubs):
        target = GEN / path
        if path not in stubs:
            target.unlink()
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(stubs[path])


def main() -> int:
    """Write or check; see the module's text."""
    parser = argparse.ArgumentParser(description="make the Python stubs in migrator/gen")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a stub is stale")
    stubs = render()
    if not parser.parse_args().check:
        write(stubs)
        return 0
    old = stale(stubs)
    for path in old:
        print(f"stale: {GEN.relative_to(PROTOS.parent) / path}")
    return 1 if old else 0


if __name__ == "__main__":
    sys.exit(main())
