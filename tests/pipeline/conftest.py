"""A finished run over the small made-up corpus, made once for all tests that only look at it."""

from pathlib import Path

import pytest
import small_corpus

from pipeline.recipe_file import load_recipe
from pipeline.run import execute
from pipeline.runners import RunnerOptions


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> small_corpus.Corpus:
    """The corpus: its recipe file and its documents."""
    return small_corpus.make_corpus(tmp_path_factory.mktemp("small") / "corpus")


@pytest.fixture(scope="session")
def small_run(small: small_corpus.Corpus) -> Path:
    """Its run directory, all stages done. Tests that change something copy it first."""
    directory = small.recipe.parents[1] / "run"
    execute(load_recipe(small.recipe), str(directory), options=RunnerOptions(workers=1))
    return directory
