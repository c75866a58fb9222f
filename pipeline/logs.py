"""The run's log: what Beam, the driver and the workers have to say goes to a file."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline import storage
from pipeline.step import Run


@contextmanager
def log_file(run: Run) -> Iterator[Path]:
    """A local file that takes all logging meanwhile; `log/run.log`, to which a resume appends.

    On an object store the file is local first and uploaded at the end, one file for each driver.
    """
    remote = storage.is_remote(run.directory)
    with tempfile.TemporaryDirectory(prefix="gristmill-log-") as folder:
        path = Path(folder) / "run.log" if remote else Path(run.path("log", "run.log"))
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(path, encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        root = logging.getLogger()
        before = root.level, root.handlers[:]
        root.handlers[:] = [handler]
        root.setLevel(logging.INFO)
        try:
            yield path
        finally:
            root.setLevel(before[0])
            root.handlers[:] = before[1]
            handler.close()
            if remote:
                storage.publish(path, run.path("log", f"run-{os.getpid()}.log"))
