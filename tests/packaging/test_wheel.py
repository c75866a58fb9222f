"""What is built is what is needed: wheel and sdist, installed where the source tree is not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path

import pytest

PACKAGES = ("filters", "pipeline", "schemas", "tokenizer")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, project: Path) -> dict[str, Path]:
    """The sdist of the source tree, and the wheel built from that sdist."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), "."]
    subprocess.run(command, cwd=project, check=True, capture_output=True, text=True)
    (wheel,) = folder.glob("*.whl")
    (sdist,) = folder.glob("*.tar.gz")
    return {"wheel": wheel, "sdist": sdist}


@pytest.fixture(scope="module")
def clean_environment(
    tmp_path_factory: pytest.TempPathFactory, built: dict[str, Path]
) -> dict[str, str]:
    """Variables of an environment that holds the wheel, and sees the dependencies installed here.

    The dependencies come by a path file, so that the source tree, where it is installed in place,
    does not come with them: Python does not read path files of folders added by a path file.
    """
    folder = tmp_path_factory.mktemp("clean")
    venv.create(folder, with_pip=False, symlinks=True)
    paths = {"base": str(folder), "platbase": str(folder)}
    site = Path(sysconfig.get_path("purelib", "posix_prefix", paths))
    python = folder / "bin" / "python"
    here = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site / "dependencies.pth").write_text("".join(f"{path}\n" for path in sorted(here)))
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python)]
    command += ["install", "--quiet", "--no-deps", "--no-index", str(built["wheel"])]
    subprocess.run(command, check=True, capture_output=True, text=True)
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return kept | {"PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"}


def run(environment: dict[str, str], folder: Path, *command: str) -> str:
    # The program is looked up in the path of this process, not in that of `env`.
    done = subprocess.run(
        ["/usr/bin/env", *command], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def source_files(project: Path) -> Iterator[str]:
    for package in PACKAGES:
        for path in (project / package).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path.relative_to(project).as_posix()


def test_wheel_is_pure_and_holds_our_packages_only(built: dict[str, Path]) -> None:
    assert built["wheel"].name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(built["wheel"]) as wheel:
        tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)


def test_wheel_holds_every_file_of_the_packages(built: dict[str, Path], project: Path) -> None:
    """Tables, recipes and the demo corpus are data that code opens by path."""
    expected = set(source_files(project))
    with zipfile.ZipFile(built["wheel"]) as wheel:
        names = set(wheel.namelist())
    assert not expected - names
    assert {"pipeline/recipes/demo.yaml", "pipeline/demo/corpus/web/handbook.warc.gz"} <= names


def test_sdist_holds_tests_and_what_they_need(built: dict[str, Path]) -> None:
    with tarfile.open(built["sdist"]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    needed = {"tests/conftest.py", "tests/packaging/test_wheel.py", "Makefile", "constraints.txt"}
    assert needed | {"README.md", "LICENSE", "pipeline/demo/NOTICE.md"} <= names
    assert not {name for name in names if name.startswith((".venv", "out/"))}


def test_command_of_the_wheel_runs(clean_environment: dict[str, str], tmp_path: Path) -> None:
    assert run(clean_environment, tmp_path, "gristmill", "--version") == "gristmill 0.1.0\n"
    listed = run(clean_environment, tmp_path, "gristmill", "recipes", "list", "--json")
    assert "demo" in [json.loads(line).get("name") for line in listed.splitlines()]
    assert run(clean_environment, tmp_path, "python", "-m", "pipeline", "--version") == (
        "gristmill 0.1.0\n"
    )


def test_wheel_imports_from_itself(clean_environment: dict[str, str], tmp_path: Path) -> None:
    """Otherwise the tests here would be about the source tree."""
    code = f"import {', '.join(PACKAGES)}, sys; print(pipeline.__file__); print(sys.prefix)"
    file, prefix = run(clean_environment, tmp_path, "python", "-c", code).splitlines()
    assert file.startswith(prefix)


def test_wheel_reads_its_corpus(clean_environment: dict[str, str], tmp_path: Path) -> None:
    """`make test-pythons` takes it through all stages; that compiles all kernels anew."""
    code = (
        "from pipeline.read import plan_inputs, read_slice\n"
        "from pipeline.recipe_file import load_recipe\n"
        "recipe = load_recipe('demo')\n"
        "for one in plan_inputs(recipe):\n"
        "    batches = list(read_slice(one, recipe))\n"
        "    print(one.source, sum(batch.documents.num_rows for batch in batches))\n"
    )
    read: dict[str, int] = {}
    for line in run(clean_environment, tmp_path, "python", "-c", code).splitlines():
        source, documents = line.split()
        read[source] = read.get(source, 0) + int(documents)
    sources = ["code", "declarations", "help", "jargon", "letters", "office", "tables", "web"]
    assert sorted(read) == sources
    assert min(read.values()) > 0


def test_nobody_else_provides_our_top_level_names() -> None:
    """The names are generic: another folder `filters` would shadow ours, or ours it."""
    clashes = {
        f"{distribution.name}: {path}"
        for distribution in distributions()
        if distribution.name != "gristmill"
        for path in distribution.files or ()
        if path.parts[0].removesuffix(".py") in PACKAGES
    }
    assert not clashes
