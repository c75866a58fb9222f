"""The run's log: what Beam, the driver and the workers have to say goes to a file."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from pipeline import storage
from pipeline.step import Run


@contextmanager
def log_file(run: Run) -> Iterator[Path]:
    """A local file that takes all logging meanwhile; `log/run.log`, to which a resume appends.

    On an object store the file is local first and uploaded at the end, one file for each driver.
    """
    with ExitStack() as stack:
        path = Path(run.path("log", "run.log"))
        if storage.is_remote(run.directory):
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="gristmill-log-"))
            path = Path(folder) / "run.log"
            stack.callback(storage.publish, path, run.path("log", f"run-{os.getpid()}.log"))
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(path, encoding="utf-8")
        stack.callback(handler.close)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        root = logging.getLogger()
        stack.callback(_restore, root, root.level, root.handlers[:])
        root.handlers[:] = [handler]
        root.setLevel(logging.INFO)
        yield path


def _restore(logger: logging.Logger, level: int, handlers: list[logging.Handler]) -> None:
    logger.setLevel(level)
    logger.handlers[:] = handlers
