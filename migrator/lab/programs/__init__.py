"""Programs that run inside containers of the lab. Each is one file, needs nothing but its interpreter, and can tell by
itself whether its memory is still its own. They write what they know to `/state` in the container's rw layer.
"""

from __future__ import annotations

from importlib import resources


def read_program(file_name: str) -> bytes:
    """Return the text of a program, ready to be put into an image."""
    return resources.files(__name__).joinpath(file_name).read_bytes()
