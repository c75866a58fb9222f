"""Install the built wheel with its constraints on every Python at hand, and run the demo there.

    python tests/tools/check_pythons.py 3.10 3.11 3.12 3.13

Every environment is new and empty. The demo has to verify, and to give the same tokens on every
Python, although numpy and others are of different versions there. Ends with 1 if anything fails, or
if none of the versions is at hand.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow.parquet as pq
from interpreters import interpreter

PROJECT = Path(__file__).resolve().parents[2]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("pythons", nargs="+", metavar="3.X")
    arguments = parser.parse_args()
    tokens: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="gristmill-pythons-") as name:
        folder = Path(name)
        build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", name, "."]
        subprocess.run(build, cwd=PROJECT, check=True, stdout=subprocess.DEVNULL)
        (wheel,) = folder.glob("*.whl")
        for python in arguments.pythons:
            found = interpreter(python)
            if found is None:
                print(f"Python {python}: not on this machine, skipped", flush=True)
                continue
            started = time.monotonic()
            tokens[python] = check(found, wheel, folder / python)
            took = time.monotonic() - started
            print(f"Python {python}: installed and ran, tokens {tokens[python][:16]}, {took:.0f} s")
            sys.stdout.flush()
    if not tokens:
        raise SystemExit("none of these Pythons is on this machine")
    if len(set(tokens.values())) > 1:
        raise SystemExit(f"the tokens differ between Pythons: {tokens}")


def check(python: str, wheel: Path, folder: Path) -> str:
    """Install and run in a new environment in `folder`; the hash of all tokens of the demo."""
    subprocess.run([python, "-m", "venv", folder], check=True)
    pip = [folder / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "install"]
    options = [
        "--quiet",
        "--no-compile",
        "--prefer-binary",
        "--constraint",
        PROJECT / "constraints.txt",
    ]
    subprocess.run([*pip, *options, wheel], check=True)
    gristmill = folder / "bin" / "gristmill"
    demo = [gristmill, "demo", "--quiet", "--workers", "2", "--output", folder / "demo"]
    for command in (
        [gristmill, "--version"],
        demo,
        [gristmill, "verify", "--quiet", folder / "demo"],
    ):
        subprocess.run(command, cwd=folder, check=True, stdin=subprocess.DEVNULL)
    # Each shard's document table carries the hash of its tokens; `verify` has just checked it.
    tables = sorted((folder / "demo" / "tokens").glob("*.parquet"))
    hashes = [pq.read_metadata(table).metadata[b"gristmill.logical_sha256"] for table in tables]
    return hashlib.sha256(b"".join(hashes)).hexdigest()


if __name__ == "__main__":
    main()
