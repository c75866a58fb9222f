"""The Python interpreters of this machine."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path


def interpreter(python: str) -> str | None:
    """An interpreter of a version such as 3.10: on the path, or among those of pyenv; None if none.

    Each candidate is asked, since pyenv's shims are on the path for versions not switched on, too.
    """
    folder = Path.home() / ".pyenv" / "versions"
    candidates = [shutil.which(f"python{python}"), shutil.which("python3")]
    candidates += [str(path) for path in sorted(folder.glob(f"{python}.*/bin/python"))]
    for candidate in candidates:
        if candidate is not None:
            ask = "import sys; print('%d.%d' % sys.version_info[:2])"
            done = subprocess.run([candidate, "-c", ask], capture_output=True, text=True)
            if done.stdout.strip() == python:
                return candidate
    return None
