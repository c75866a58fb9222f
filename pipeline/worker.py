"""What a worker process does before its first task."""

from __future__ import annotations

import os
import threading
import time
from functools import cache


@cache
def prepare_worker() -> None:
    """Bound the threads that libraries start, and leave when the driver is gone. Once a process."""
    import pyarrow as pa

    pa.set_cpu_count(1)
    pa.set_io_thread_count(2)
    if "CONTROL_API_SERVICE_DESCRIPTOR" in os.environ:  # a worker of its own, started by a driver
        threading.Thread(target=_leave_with, args=(os.getppid(),), daemon=True).start()


def _leave_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)
