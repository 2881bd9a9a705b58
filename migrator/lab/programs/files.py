#!/usr/bin/python3
"""Changes about 100 MB of files in its rw layer in every way an image layer knows, then counts with one of them open.

The base image brings `/data/base/{keep,change,delete}` and `/data/opaque/{a,b}`; see `main` for what becomes of them.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
import time
from pathlib import Path

DATA = Path("/data")
STATE = Path("/state/state.json")
LARGE_FILES, LARGE_BYTES = 20, 5_000_000
SMALL_FILES = 500
NET_BIND = struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0)
"""A file capability as the kernel keeps it (capabilities(7), VFS_CAP_REVISION_2): the one extended attribute that
containerd's differ carries; it drops `user.*`."""


def fill(nonce: str) -> None:
    """Write many files, large and small, of content that does not compress."""
    for number in range(LARGE_FILES):
        file = DATA / "new" / f"large-{number:02}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(hashlib.shake_128(f"{nonce}{number}".encode()).digest(LARGE_BYTES))
    for number in range(SMALL_FILES):
        file = DATA / "new" / f"deep/{number % 10}" / f"small-{number:03}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{nonce} {number}\n")


def change() -> None:
    """Do to files what a layer must be able to say: change, delete, replace, link, own, mark."""
    (DATA / "base/change").write_text("changed\n")
    (DATA / "base/delete").unlink()
    shutil.rmtree(DATA / "opaque")
    (DATA / "opaque").mkdir()
    (DATA / "opaque/c").write_text("only this one\n")
    special = DATA / "special"
    special.mkdir()
    (special / "absolute-link").symlink_to("/data/new/large-00")
    (special / "dangling-link").symlink_to("../nowhere")
    (special / "hard-link").hardlink_to(DATA / "new/large-01")
    (special / "empty").touch()
    (special / "name with spaces, ünïcode").write_text("x")
    os.mkfifo(special / "fifo", 0o640)
    owned = special / "owned"
    owned.write_text("owned\n")
    os.chown(owned, 1234, 5678)
    owned.chmod(0o4750)
    old = special / "old"
    old.write_text("old\n")
    os.utime(old, (1_000_000_000, 1_000_000_000))
    (special / "sticky").mkdir()
    (special / "sticky").chmod(0o1777)
    os.setxattr(special / "empty", "security.capability", NET_BIND)


def main() -> None:
    """Change the files, then append to one for ever, by a descriptor that was opened once."""
    STATE.parent.mkdir(parents=True, exist_ok=True)
    nonce = os.urandom(16).hex()
    fill(nonce)
    change()
    count = 0
    with (Path("/state") / "journal").open("a+") as journal, (DATA / "new/ghost").open("w+") as ghost:
        ghost.write(nonce)
        ghost.flush()
        (DATA / "new/ghost").unlink()
        while True:
            count += 1
            journal.write(f"{count}\n")
            journal.flush()
            ghost.seek(0)
            ok = ghost.read() == nonce
            temporary = STATE.with_suffix(".new")
            temporary.write_text(json.dumps({"nonce": nonce, "counter": count, "ok": ok}))
            temporary.rename(STATE)
            time.sleep(0.02)


if __name__ == "__main__":
    main()
