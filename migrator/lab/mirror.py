"""Which Debian mirror this machine uses, read from its own apt sources in either of their two formats."""

from __future__ import annotations

from pathlib import Path

from migrator.errors import PreconditionFailed

APT_DIR = Path("/etc/apt")


def find_mirror(apt_dir: Path = APT_DIR) -> str:
    """Return the URI of the first Debian archive that apt is told of.

    Raises:
        PreconditionFailed: No enabled source looks like Debian's main archive.
    """
    for uri in _sources(apt_dir):
        if uri.rstrip("/").endswith("/debian"):
            return uri.rstrip("/")
    raise PreconditionFailed(
        f"no Debian archive among the apt sources in {apt_dir}",
        code="no_debian_mirror",
        remedy="add a source whose URI ends in /debian to /etc/apt/sources.list",
    )


def _sources(apt_dir: Path) -> list[str]:
    parts = apt_dir / "sources.list.d"
    uris: list[str] = []
    for file in [apt_dir / "sources.list", *sorted(parts.glob("*.list")), *sorted(parts.glob("*.sources"))]:
        if not file.is_file():
            continue
        text = file.read_text(errors="replace")
        uris += parse_stanzas(text) if file.suffix == ".sources" else parse_lines(text)
    return uris


def parse_lines(text: str) -> list[str]:
    """Return the URIs of `deb [options] URI suite component…` lines (sources.list(5))."""
    uris = []
    for line in text.splitlines():
        words = line.split("#", 1)[0].split()
        if not words or words[0] != "deb":
            continue
        if len(words) > 1 and words[1].startswith("["):
            end = next((i for i, word in enumerate(words) if word.endswith("]")), len(words))
            words = [words[0], *words[end + 1 :]]
        uris += words[1:2]
    return uris


def parse_stanzas(text: str) -> list[str]:
    """Return the URIs of deb822 stanzas that are of type `deb` and not disabled (sources.list(5))."""
    uris: list[str] = []
    for stanza in _stanzas(text):
        types = stanza.get("types", "").split()
        if "deb" in types and stanza.get("enabled", "yes").lower() not in ("no", "false", "0"):
            uris += stanza.get("uris", "").split()
    return uris


def _stanzas(text: str) -> list[dict[str, str]]:
    stanzas: list[dict[str, str]] = [{}]
    key = ""
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        if not line.strip():
            stanzas.append({})
        elif line[0] in " \t":
            stanzas[-1][key] = stanzas[-1].get(key, "") + " " + line.strip()
        else:
            name, _, value = line.partition(":")
            key = name.strip().lower()
            stanzas[-1][key] = value.strip()
    return stanzas
