from __future__ import annotations

from pathlib import Path

import pytest

from migrator.errors import PreconditionFailed
from migrator.service.fence import Fence


def test_a_lower_epoch_is_refused_also_by_the_next_process(tmp_path: Path) -> None:
    Fence(tmp_path / "epochs").admit("w", 3)
    fence = Fence(tmp_path / "epochs")
    fence.admit("w", 3)
    with pytest.raises(PreconditionFailed) as caught:
        fence.admit("w", 2)
    assert caught.value.code == "stale_epoch"
    fence.admit("other", 1)
    fence.admit("w", 4)
    assert fence.highest("w") == 4
    assert fence.highest("never seen") == 0
