"""What a transfer has used is given back."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys, threading
from migrator.tasks.allocator import keep_little
keep_little()
def work():
    for _ in range(20):
        pieces = [bytearray(32 << 10) for _ in range(400)]
        whole = b"".join(pieces)
        del pieces, whole
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(int(open("/proc/self/statm").read().split()[1]) * 4 // 1024)
"""


def test_threads_that_move_much_leave_little_behind() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=True)
    assert int(done.stdout) < 60
