"""The claimed Python versions and the pinned requirements are what the files say they are."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, packages_distributions, requires, version
from pathlib import Path
from typing import Any

import pytest
from interpreters import interpreter
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PYTHONS = ("3.10", "3.11", "3.12", "3.13")
COMPILE = """
import pathlib, sys
for folder in sys.argv[1:]:
    for path in pathlib.Path(folder).rglob("*.py"):
        compile(path.read_bytes(), str(path), "exec")
print("%d.%d" % sys.version_info[:2])
"""


@pytest.fixture(scope="module")
def metadata(project: Path) -> dict[str, Any]:
    return tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def pins(project: Path) -> list[Requirement]:
    lines = (project / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if not line.lstrip().startswith("#")]


@pytest.mark.parametrize("python", PYTHONS)
def test_code_compiles_on_every_claimed_python(python: str, project: Path) -> None:
    """Syntax only; `make test-pythons` installs and runs the wheel on each."""
    found = interpreter(python)
    if found is None:
        pytest.skip(f"no Python {python} on this machine")
    folders = [str(project / name) for name in ("filters", "pipeline", "schemas", "tokenizer")]
    done = subprocess.run([found, "-c", COMPILE, *folders], capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == (python, "")


def test_claimed_pythons_agree(metadata: dict[str, Any]) -> None:
    claimed = SpecifierSet(metadata["requires-python"])
    listed = [
        line.rpartition(" ")[2]
        for line in metadata["classifiers"]
        if re.search(r"Python :: 3\.", line)
    ]
    assert tuple(listed) == PYTHONS
    assert all(claimed.contains(f"{python}.0") for python in PYTHONS)
    assert not claimed.contains("3.9.18")
    assert not claimed.contains("3.14.0")


def test_constraints_are_name_and_version_only(pins: list[Requirement], project: Path) -> None:
    text = (project / "constraints.txt").read_text(encoding="utf-8")
    assert not re.search(r"://|--|@|\.whl", text)
    for pin in pins:
        assert [specifier.operator for specifier in pin.specifier] == ["=="], str(pin)


@pytest.mark.parametrize("python", PYTHONS)
def test_every_direct_requirement_is_pinned_once(
    python: str, pins: list[Requirement], metadata: dict[str, Any]
) -> None:
    """On each Python, and within the range that pyproject.toml asks for."""
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.1",
        "sys_platform": "linux",
        "platform_python_implementation": "CPython",
        "implementation_name": "cpython",
        "platform_machine": "x86_64",
    }
    pinned: dict[str, list[str]] = {}
    for pin in pins:
        if pin.marker is None or pin.marker.evaluate(environment):
            (specifier,) = pin.specifier
            pinned.setdefault(canonicalize_name(pin.name), []).append(specifier.version)
    assert {name: versions for name, versions in pinned.items() if len(versions) > 1} == {}
    extras = [line for lines in metadata["optional-dependencies"].values() for line in lines]
    for requirement in map(Requirement, metadata["dependencies"] + extras):
        if requirement.marker is not None and not requirement.marker.evaluate(environment):
            continue
        (chosen,) = pinned[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(chosen), (str(requirement), chosen)


def test_everything_installed_for_gristmill_is_pinned(
    pins: list[Requirement], metadata: dict[str, Any]
) -> None:
    """Dependencies of dependencies too: two installations a month apart are the same."""
    names = {canonicalize_name(pin.name) for pin in pins}
    todo = [*metadata["dependencies"], *metadata["optional-dependencies"]["dev"]]
    seen: set[str] = set()
    while todo:
        requirement = Requirement(todo.pop())
        name = canonicalize_name(requirement.name)
        extras = requirement.extras or {""}
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version(name)
        except PackageNotFoundError:
            continue
        for extra in extras:
            if f"{name}[{extra}]" not in seen:
                seen.add(f"{name}[{extra}]")
                for line in requires(name) or ():
                    child = Requirement(line)
                    if child.marker is None or child.marker.evaluate({"extra": extra}):
                        child.marker = None
                        todo.append(str(child))
    assert len(seen) > len(metadata["dependencies"])
    assert not {one.partition("[")[0] for one in seen} - names


def imported(folders: list[Path]) -> set[str]:
    """Top-level names of all imports in the Python files of these folders."""
    names = set()
    for path in (path for folder in folders for path in folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.partition(".")[0])
    return names


def test_everything_imported_is_declared(metadata: dict[str, Any], project: Path) -> None:
    """Not merely there because something else needs it today."""
    providers = packages_distributions()
    ours = [project / name for name in ("schemas", "filters", "tokenizer", "pipeline")]
    tests = [path for path in (project / "tests").iterdir() if path.name != "benchmarks"]
    declared = set(metadata["dependencies"])
    for folders, more in ((ours, []), (tests, metadata["optional-dependencies"]["dev"])):
        declared |= set(more)
        names = {canonicalize_name(Requirement(line).name) for line in declared}
        names |= {
            "gristmill",
            "pydantic-core",
        }  # pydantic is tied to one core
        undeclared = {
            name
            for name in imported(folders)
            if name in providers and not names & {canonicalize_name(n) for n in providers[name]}
        }
        assert not undeclared
