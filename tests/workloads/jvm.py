"""A server in Java with eight connected clients."""

import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from tests.workloads.images import PROGRAMS_DIR, Program
from tests.workloads.root import program_root

JAVA = "/usr/lib/jvm/java-21-openjdk-amd64/bin/java"
COMPILER = "/usr/share/java/eclipse-jdt-core-compiler-batch.jar:/usr/share/java/eclipse-jdt-core.jar"
SOURCE = PROGRAMS_DIR / "Server.java"


IN_ROOT = 'mount -t proc proc "$0/proc" && exec chroot "$0" "$@"'


@cache
def compiled() -> bytes:
    """Compile the program by the root's own Java, which looks for itself in /proc."""
    root = program_root()
    with tempfile.TemporaryDirectory(dir=root / "tmp") as scratch:
        source = shutil.copy(SOURCE, scratch)
        command = [JAVA, "-cp", COMPILER, "org.eclipse.jdt.internal.compiler.batch.Main", "--release", "21"]
        command += [f"/{Path(source).relative_to(root)}"]
        subprocess.run(["unshare", "--mount", "sh", "-c", IN_ROOT, root, *command], check=True, timeout=60)
        return (Path(scratch) / "Server.class").read_bytes()


class Jvm(Program):
    def image(self, root: Path) -> Path:
        self.files = {"/opt/Server.class": compiled()}
        return super().image(root)


WORKLOAD = Jvm(
    "lines.py",
    *(JAVA, "-Xmx128m", "-cp", "/opt", "Server"),
    name="jvm",
    outside=True,
    packages=["openjdk-21-jre-headless"],
)
