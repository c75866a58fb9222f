"""The README is true: its commands run in the order they stand in, and its output is real."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

# These install, or start the tests; `make run` is replaced by what it runs after installing.
NOT_RUN = ("make test", ". .venv/bin/activate")


@dataclass(frozen=True)
class Block:
    language: str
    text: str


def blocks(project: Path) -> list[Block]:
    text = (project / "README.md").read_text(encoding="utf-8")
    found = re.findall(r"^```(\w+)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    return [Block(language, body) for language, body in found]


def make_run(project: Path) -> str:
    """The command that `make run` ends with."""
    command = ["make", "--no-print-directory", "--dry-run", "--always-make", "run"]
    # Within `make test`, these would make it a part of that.
    free = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFL"))}
    done = subprocess.run(
        command, cwd=project, env=free, check=True, capture_output=True, text=True
    )
    return done.stdout.strip().splitlines()[-1].removeprefix(".venv/bin/")


@pytest.fixture(scope="module")
def outputs(project: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each command of the README printed, run one after the other in an empty folder."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "bin").mkdir()
    command = folder / "bin" / "gristmill"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m pipeline "$@"\n')
    command.chmod(0o755)
    environment = os.environ | {
        "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(project),
        "COLUMNS": "100",
    }
    printed = {}
    for block in blocks(project):
        if block.language == "yaml":
            name = block.text.partition("\n")[0].removeprefix("# ")
            (folder / name).write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            printed[block.text] = run([sys.executable, "-c", block.text], folder, environment)
        elif block.language == "sh":
            for line in block.text.splitlines():
                if line not in NOT_RUN:
                    shell = make_run(project) if line == "make run" else line
                    printed[line] = run(["sh", "-c", shell], folder, environment)
    return printed


def run(command: list[str], folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def test_commands_of_the_readme_run(outputs: dict[str, str]) -> None:
    assert {"make run", "gristmill inspect out/demo", "gristmill verify out/demo"} <= set(outputs)


def test_output_in_the_readme_is_what_the_demo_prints(
    outputs: dict[str, str], project: Path
) -> None:
    """Line by line, but for lines left out (`...`) and the widths of columns."""
    (excerpt,) = [block.text for block in blocks(project) if "Funnel" in block.text]
    printed = [" ".join(line.split()) for line in outputs["make run"].splitlines()]
    shown = [" ".join(line.split()) for line in excerpt.splitlines()]
    assert [line for line in shown if line not in ("...", *printed)] == []
