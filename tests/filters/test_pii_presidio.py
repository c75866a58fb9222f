"""Presidio without its NLP engines, and its whole self when asked for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def python(code: str) -> str:
    """Run code in a fresh interpreter that refuses to open a network connection."""
    guard = (
        "import socket\n"
        "def refuse(*args, **kwargs):\n"
        "    raise AssertionError('network access')\n"
        "socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", guard + code],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_scrubbing_needs_no_nlp_engine_and_no_network() -> None:
    """spaCy costs each worker seconds and 90 MB; tldextract would fetch a list."""
    code = """
import sys
import pyarrow as pa
from filters.pii import Scrubber
print(Scrubber().scrub(pa.array(["a@b.com"])).text.to_pylist())
print([m for m in ("spacy", "tldextract", "phonenumbers", "requests") if m in sys.modules])
"""
    assert python(code) == "['<EMAIL>']\n[]"


@pytest.mark.parametrize(
    "later",
    [
        "from presidio_analyzer import AnalyzerEngine",
        "from presidio_analyzer.predefined_recognizers import IbanRecognizer",
        "import presidio_analyzer.nlp_engine.no_op_nlp_engine",
        "import presidio_analyzer; presidio_analyzer.AnalyzerEngine",
    ],
)
def test_the_rest_of_presidio_imports_as_usual(later: str) -> None:
    code = f"""
import sys
from filters.pii_recognizers import LinearRecognizer
assert "spacy" not in sys.modules
{later}
assert "spacy" in sys.modules
from presidio_analyzer import EntityRecognizer, LocalRecognizer, PatternRecognizer
from presidio_analyzer.predefined_recognizers import EmailRecognizer
import presidio_analyzer.local_recognizer, presidio_analyzer.predefined_recognizers as predefined
assert LocalRecognizer is presidio_analyzer.local_recognizer.LocalRecognizer
assert predefined is sys.modules["presidio_analyzer.predefined_recognizers"]
assert predefined.EmailRecognizer is EmailRecognizer
assert predefined.__spec__.name == predefined.__name__
assert predefined.__spec__.loader.get_source(predefined.__name__)
assert issubclass(LinearRecognizer, LocalRecognizer)
assert issubclass(EmailRecognizer, EntityRecognizer)
assert not any(type(f).__module__.startswith("filters") for f in sys.meta_path)
"""
    python(code)


def test_a_presidio_that_is_there_already_is_used_as_it_is() -> None:
    code = """
import presidio_analyzer
from filters import pii_presidio
from filters.pii_recognizers import LinearRecognizer
assert not pii_presidio.defer_initialiser()
assert issubclass(LinearRecognizer, presidio_analyzer.LocalRecognizer)
"""
    python(code)


def test_our_recognizers_work_in_presidios_engine() -> None:
    code = """
from filters.pii_recognizers import recognizers
from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
from presidio_analyzer.nlp_engine import NoOpNlpEngine
registry = RecognizerRegistry(recognizers=list(recognizers().values()), supported_languages=["en"])
nlp = NoOpNlpEngine(models=[{"lang_code": "en", "model_name": "none"}])
engine = AnalyzerEngine(registry=registry, nlp_engine=nlp, supported_languages=["en"])
text = "Mail a@b.com or call +49 30 1234567 from 81.2.69.142"
found = engine.analyze(text=text, language="en")
print(sorted((r.entity_type, text[r.start : r.end]) for r in found))
"""
    assert python(code) == (
        "[('EMAIL_ADDRESS', 'a@b.com'), ('IP_ADDRESS', '81.2.69.142'), "
        "('PHONE_NUMBER', '+49 30 1234567')]"
    )
