"""The command line within this process: the words of a shell in, exit code, standard output and standard error out."""

from __future__ import annotations

import io
import json
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import Any
from unittest import mock

from migrator.__main__ import main


@dataclass(frozen=True)
class Answer:
    """What one call of the command line gave."""

    code: int
    raw: bytes
    err: str

    @property
    def out(self) -> str:
        return self.raw.decode()

    @property
    def data(self) -> Any:
        return json.loads(self.raw)


def run_migrator(*words: str) -> Answer:
    """Call `migrator` with these words."""
    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.TextIOWrapper(io.BytesIO(), "utf-8")
    code = 0
    with redirect_stdout(out), redirect_stderr(err), mock.patch.object(sys, "argv", ["migrator", *words]):
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
    for stream in (out, err):
        stream.flush()
    return Answer(code, out.buffer.getvalue(), err.buffer.getvalue().decode())  # type: ignore[attr-defined]
