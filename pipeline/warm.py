"""Compile the kernels once, before workers start and each would compile them for itself.

Numba keeps compiled kernels in its own cache (NUMBA_CACHE_DIR, else beside the sources, else in the
user's cache folder). A stamp remembers for which sources and environment that has been done; if it
is wrong, workers compile what they miss, and nothing but time is lost.
"""

from __future__ import annotations

import importlib
import logging
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from pathlib import Path

from pipeline.environment import fingerprint
from schemas.recipe import sha256_json

# Modules with a `warm` function, those that take longest first.
MODULES = (
    "filters.signals",
    "tokenizer.train",
    "tokenizer.pretokens",
    "filters.pii",
    "filters.language",
    "filters.minhash",
    "filters.lines",
    "filters.clusters",
)


def is_warm() -> bool:
    """Whether the kernels have been compiled for what is installed."""
    return _stamp().exists()


def warm(processes: int) -> None:
    """Compile all kernels in up to `processes` processes."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(processes, len(MODULES)), mp_context=context) as pool:
        list(pool.map(_warm_module, MODULES))
    stamp = _stamp()
    try:
        stamp.parent.mkdir(parents=True, exist_ok=True)
        stamp.touch()
    except OSError as error:  # a read-only home: the next run asks again
        logging.getLogger(__name__).warning("cannot write %s: %s", stamp, error)


def _warm_module(name: str) -> None:
    importlib.import_module(name).warm()


def _stamp() -> Path:
    """The stamp's path: its name changes with every source file and version."""
    sources = {}
    for package in ("filters", "tokenizer"):
        spec = find_spec(package)
        assert spec is not None and spec.submodule_search_locations
        for path in sorted(Path(spec.submodule_search_locations[0]).glob("*.py")):
            found = path.stat()
            sources[str(path)] = [found.st_size, found.st_mtime_ns]
    name = sha256_json({"sources": sources, "environment": fingerprint()})[:16]
    cache = os.environ.get("NUMBA_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME")
    return Path(cache or Path.home() / ".cache") / "gristmill" / f"kernels-{name}"
