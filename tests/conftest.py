"""What all tests share: Hypothesis settings, and the real data beside the project."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

PROJECT = Path(__file__).resolve().parents[1]

# The first example compiles kernels, hence no deadline; the same examples in every run, so that a
# failure is one that the change at hand has caused.
settings.register_profile("gristmill", deadline=None, derandomize=True, max_examples=100)
settings.load_profile("gristmill")


@pytest.fixture(scope="session")
def project() -> Path:
    """The root of the source tree."""
    return PROJECT


@pytest.fixture(scope="session")
def demo_corpus() -> Path:
    """The corpus that ships with Gristmill, about 2 MB of compressed files in seven folders."""
    return PROJECT / "pipeline" / "demo" / "corpus"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Labelled sets and benchmark corpora, which are not part of the project."""
    folder = PROJECT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs the data sets in ../shared/data, which are not part of the project")
    return folder
