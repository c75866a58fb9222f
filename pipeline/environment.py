"""The environment fingerprint: what byte identity depends on besides recipe and input."""

from __future__ import annotations

import platform
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version

# Distributions whose version can change a byte of the output.
_PACKAGES = (
    "gristmill",
    "fastokens",
    "fasttext",
    "fasttext-predict",
    "fastwarc",
    "llvmlite",
    "numba",
    "numpy",
    "presidio-analyzer",
    "pyarrow",
    "resiliparse",
    "sentencepiece",
    "tokenizers",
    "zstandard",
)


@cache
def fingerprint() -> dict[str, str]:
    """Versions and machine type, by name."""
    found = {"python": ".".join(map(str, sys.version_info[:2])), "machine": platform.machine()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found
