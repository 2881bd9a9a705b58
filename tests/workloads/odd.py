"""Things that look as if they could not move, and do: watches, terminals, shared memory, devices, a deleted file."""

from pathlib import Path

from migrator.lab.images import build_image
from migrator.lab.programs import read_program
from migrator.lab.recipes import IMAGES_DIR
from tests.workloads.workload import Workload

COMMAND = ("/usr/bin/python3", "-B", "/opt/odd.py")
HARMLESS = "plain-devices,deleted-small,watch-etc,watch-tmpfs,terminal,shared"


class Odd(Workload):
    name = "odd"
    wide = True

    def image(self, root: Path) -> Path:
        return build_image(
            root,
            IMAGES_DIR,
            name="migrator.local/odd:1",
            packages=["python3-minimal", "libpython3-stdlib"],
            files={"/opt/odd.py": read_program("odd.py")},
            entrypoint=[*COMMAND, HARMLESS],
        )


WORKLOAD = Odd()
