"""A dump without pages, with a runc that does what runc and CRIU do as far as we can see it."""

from __future__ import annotations

import stat
import sys
import time
from pathlib import Path

import pytest

from migrator.criu.pageless import Runtime, dump_without_pages, is_runc
from migrator.errors import OutcomeUnknown, WorkloadFailed

RUNC = f"""#!{sys.executable}
import json, os, socket, sys
from pathlib import Path
words = sys.argv[1:]
if words == ["--version"]:
    print("runc version 1.3")
    sys.exit()
told = dict(zip(words, words[1:]))
images, trace = Path(told["--image-path"]), Path(__file__).with_suffix(".trace")
trace.write_text(" ".join(words) + "\\n")
def configuration():
    return Path(os.environ["HOME"], ".criu/default.conf").read_text()
def say(line):
    with trace.open("a") as file: file.write(line + "\\n")
configuration()  # CRIU's version
if MODE == "refuses":
    Path(told["--log"]).write_text(json.dumps({{"level": "error", "msg": "criu failed: it has its reasons"}}) + "\\n")
    sys.exit(1)
(images / "descriptors.json").write_text("[]")
lines = configuration()
say("dump begun")
say(lines)
(images / "pages-1.img").write_bytes(b"of shared memory")
(images / "inventory.img").write_bytes(b"all")
if MODE == "hangs":
    import time; time.sleep(4)
os.write(int(told["--status-fd"]), b"\\0")
end = socket.socket(fileno=int(lines.split("ps-socket ")[1].split()[0]))
say("let go " + repr(end.recv(1)))
"""


class Place:
    """A runc, and where it dumps."""

    def __init__(self, directory: Path, mode: str = "dumps"):
        self.program = directory / "runc"
        self.program.write_text(RUNC.replace("MODE", repr(mode)))
        self.program.chmod(self.program.stat().st_mode | stat.S_IXUSR)
        self.images, self.work = directory / "images", directory / "work"
        self.images.mkdir()
        self.work.mkdir()
        self.said: list[str] = []

    def freeze(self) -> None:
        """Note whether the dump has begun already; it must not for a while."""
        time.sleep(0.1)
        self.said.append("begun" if "dump begun" in self.trace else "waits")

    @property
    def trace(self) -> str:
        """What runc has done."""
        return self.program.with_suffix(".trace").read_text()

    def dump(self, limit_s: float = 20.0) -> None:
        """Dump."""
        runtime = Runtime(str(self.program), Path("/run/containerd/runc/default"), "web")
        flags, options = ["--file-locks"], ["network-lock skip"]
        dump_without_pages(
            runtime, self.images, self.work, flags=flags, options=options, limit_s=limit_s, freeze=self.freeze
        )


def test_the_dump_begins_when_all_is_frozen_and_nobody_wants_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "usual/.criu").mkdir(parents=True)
    (tmp_path / "usual/.criu/default.conf").write_text("ghost-limit 2M  # ours\n")
    monkeypatch.setenv("HOME", str(tmp_path / "usual"))
    place = Place(tmp_path)
    place.dump()
    assert place.said == ["waits"]
    assert "network-lock skip" in place.trace
    assert "ghost-limit 2M\n" in place.trace
    assert place.trace.endswith("let go b''\n")
    words = place.trace.splitlines()[0].split()
    assert words[:2] == ["--root", "/run/containerd/runc/default"]
    assert {"--leave-running", "--lazy-pages", "--file-locks"} < set(words)
    assert words[-1] == "web"
    assert sorted(file.name for file in place.images.iterdir()) == ["descriptors.json", "inventory.img"]


def test_a_refusal_says_why_and_freezes_nothing(tmp_path: Path) -> None:
    place = Place(tmp_path, "refuses")
    with pytest.raises(WorkloadFailed, match="it has its reasons"):
        place.dump()
    assert place.said == []


def test_a_container_that_does_not_freeze_is_not_dumped(tmp_path: Path) -> None:
    class Stubborn(Place):
        def freeze(self) -> None:
            raise KeyError("it does not freeze")

    place = Stubborn(tmp_path)
    with pytest.raises(KeyError):
        place.dump()
    time.sleep(0.2)
    assert "dump begun" not in place.trace


def test_who_hangs_is_not_waited_for(tmp_path: Path) -> None:
    place = Place(tmp_path, "hangs")
    with pytest.raises(OutcomeUnknown):
        place.dump(limit_s=1.0)


def test_only_runc_is_runc(tmp_path: Path) -> None:
    assert is_runc(str(Place(tmp_path).program))
    assert not is_runc("true")
    assert not is_runc(str(tmp_path / "none"))
