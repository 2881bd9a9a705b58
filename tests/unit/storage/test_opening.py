"""Which store a URL opens, and what it costs."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

from migrator.settings import Settings
from migrator.storage import open_store
from migrator.storage.directory import DirectoryStore

COUNT = """
import sys
from migrator.settings import Settings
from migrator.storage import open_store
from migrator.storage.checkpoints import CheckpointStore
open_store(Settings(store_url="file:///nowhere"))
print(sorted(name for name in sys.modules if name.split(".")[0] in ("boto3", "botocore", "s3transfer")))
"""


def test_a_directory_does_not_pay_for_s3() -> None:
    done = subprocess.run([sys.executable, "-c", COUNT], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.strip() == "[]"


def test_a_directory_is_opened_by_its_url(tmp_path: Path) -> None:
    store = open_store(Settings(store_url=f"file://{tmp_path}/new/store"))
    assert isinstance(store, DirectoryStore)
    store.probe()
    assert str(tmp_path) in store.location


def test_a_location_has_no_secret() -> None:
    store = open_store(
        Settings(store_url="s3://b/p/", s3_endpoint="http://127.0.0.1:1", s3_access_key="k", s3_secret_key="hidden")
    )
    assert store.location == "s3://b/p at http://127.0.0.1:1"


def test_nobody_else_may_read_what_a_directory_holds(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "store")
    store.put("a/b", b"memory")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "store").rglob("*")}
    assert modes == {"a": 0o700, "b": 0o600}
    assert stat.S_IMODE((tmp_path / "store").stat().st_mode) == 0o700
