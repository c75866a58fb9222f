"""Labels and scores against fastText itself, on its own models and on ones trained here."""

from __future__ import annotations

import gzip
import io
import json
import random
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import fasttext_pybind
import numpy as np
import pyarrow as pa
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from filters import language
from filters.fasttext_model import FastTextModel, MalformedModel, UnsupportedModel
from filters.language import LanguageIdentifier, model_path
from schemas.errors import RecipeError
from schemas.text import utf8

TRAINS = hasattr(fasttext_pybind, "train")
needs_training = pytest.mark.skipif(
    not TRAINS, reason="the installed fasttext_pybind (fasttext-predict) cannot train"
)
MAX_BYTES = 1024


def load(path: str) -> Any:
    library = fasttext_pybind.fasttext()
    library.loadModel(path)
    return library


@pytest.fixture(scope="module")
def packaged() -> tuple[FastTextModel, Any]:
    return FastTextModel(model_path("lid.176")), load(model_path("lid.176"))


def differences(model: FastTextModel, library: Any, texts: Sequence[str]) -> list[str]:
    """Texts with letters whose label or score (at 4 decimals) differs from fastText's.

    A difference of one in the last decimal counts only if the exact values are not neighbours:
    fastText may be built with fused multiply-add.
    """
    data, offsets = utf8(pa.array(texts, pa.string()))
    labels, scores = model.predict(data, offsets[:-1], offsets[1:])
    found = []
    for text, label, score in zip(texts, labels.tolist(), scores.tolist(), strict=True):
        if label < 0 and not any(character.isalpha() for character in text):
            continue
        line = text.replace("\n", " ") + "\n"
        expected = (library.predict(line, 1, 0.0, "strict") or [(0.0, "")])[0]
        if (model.labels[label] if label >= 0 else "") != expected[1]:
            found.append(text)
        elif label >= 0 and round(score, 4) != round(expected[0], 4):
            if abs(score - expected[0]) > 1e-6:
                found.append(text)
    return found


def heads(path: Path) -> Iterator[str]:
    """The first bytes of each text of a JSONL file."""
    with path.open("rb") as raw:
        gz = path.suffix == ".gz"
        stream: Any = (
            gzip.GzipFile(fileobj=raw) if gz else zstandard.ZstdDecompressor().stream_reader(raw)
        )
        for line in io.TextIOWrapper(stream, "utf-8"):
            yield json.loads(line)["text"].encode()[:MAX_BYTES].decode(errors="ignore")


@pytest.mark.parametrize(
    ("name", "step", "count"),
    [
        ("langid/lingua_sentences.jsonl.gz", 13, 3000),
        ("langid/udhr_paragraphs.jsonl.gz", 7, 2000),
        ("bench/english_docs.jsonl.zst", 1, 300),
        ("bench/multilingual_docs.jsonl.zst", 1, 600),
    ],
)
def test_real_texts_get_the_same_labels_and_scores(
    packaged: tuple[FastTextModel, Any], shared_data: Path, name: str, step: int, count: int
) -> None:
    texts = []
    for place, text in enumerate(heads(shared_data / name)):
        if place % step == 0:
            texts.append(text)
        if len(texts) == count:
            break
    assert len(texts) == count
    assert differences(*packaged, texts) == []


SPECIAL = [
    "</s>",
    "__label__en",
    "__label__",
    "__label__xx",
    "<",
    ">",
    "_",
    "\0",
    "\v",
    "\x85",
    "é",
]


@settings(max_examples=100)
@given(
    rows=st.lists(
        st.lists(
            st.one_of(
                st.sampled_from([*SPECIAL, "the", "und", "это", "\u3000", " ", "\n"]),
                st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
            ),
            max_size=12,
        ).map("".join),
        min_size=1,
        max_size=8,
    ),
    separator=st.sampled_from(["", " "]),
)
def test_any_text_gets_the_same_label_and_score(
    packaged: tuple[FastTextModel, Any], rows: list[str], separator: str
) -> None:
    assert differences(*packaged, [separator.join(row) for row in rows]) == []


def test_the_line_ends_at_its_mark_and_labels_are_no_words(
    packaged: tuple[FastTextModel, Any],
) -> None:
    german, english = "Das ist ein gewöhnlicher Satz", "and this is an ordinary sentence"
    texts = [
        f"{german} </s> {english * 9}",
        f"__label__en __label__unknown {german}",
        f"__label_ {german} __label__",
        "</s> a",
        "x" * 5000,
        "的" * 3000,
        " ".join("word" for _ in range(2000)),
    ]
    assert differences(*packaged, texts) == []
    model, _ = packaged
    data, offsets = utf8(pa.array([texts[0], german, texts[1]]))
    labels, scores = model.predict(data, offsets[:-1], offsets[1:])
    assert labels[0] == labels[1] == labels[2] and scores[0] == scores[1] == scores[2]


ALPHABETS = ("abcdefgh", "ghijklmnop", "абвгдежз", "的一是不了人我在有他", "éèàüöñßåø")


def sentences(count: int, seed: int, many_labels: bool = False) -> list[tuple[str, str]]:
    """(label, text), with words over the alphabet of the label and some of the others."""
    choose = random.Random(seed)
    found = []
    for _ in range(count):
        # Unequal frequencies make an unbalanced tree.
        kind = min(choose.randrange(len(ALPHABETS)), choose.randrange(len(ALPHABETS)))
        words = [
            "".join(choose.choices(ALPHABETS[choose.choice([kind, kind, k])], k=2))
            for k in choose.choices(range(len(ALPHABETS)), k=choose.randint(1, 12))
        ]
        label = f"__label__l{words[0] if many_labels else kind}"
        found.append((label, " ".join(words)))
    return found


def train(folder: Path, *, quantise: bool, many_labels: bool = False, **options: Any) -> str:
    """Path of a small model; one with many labels has its output quantised, too."""
    data = folder / "train.txt"
    rows = sentences(1500 if many_labels else 600, 1, many_labels)
    data.write_text("".join(f"{label} {text}\n" for label, text in rows), "utf-8")
    settings = fasttext_pybind.args()
    values = {
        "input": str(data),
        "output": "",
        "model": fasttext_pybind.model_name.supervised,
        "minCount": 1,
        "thread": 12,  # fewer leave a part of the matrix as it was in memory
        "epoch": 5,
        "lr": 0.5,
        "verbose": 0,
        "lrUpdateRate": 100,
        "bucket": 1000 if options["maxn"] > 0 or options["wordNgrams"] > 1 else 0,
    } | options
    for name, value in values.items():
        setattr(settings, name, value)
    library = fasttext_pybind.fasttext()
    fasttext_pybind.train(library, settings)
    path = folder / ("model.ftz" if quantise else "model.bin")
    if quantise:
        # (input, qout, cutoff, retrain, epoch, lr, thread, verbose, dsub, qnorm)
        cutoff, qnorm, dsub = 400, options["dim"] % 2 == 0, 2 if options["dim"] % 2 == 0 else 3
        library.quantize(str(data), many_labels, cutoff, False, 1, 0.1, 1, 0, dsub, qnorm)
    library.saveModel(str(path))
    return str(path)


@needs_training
@pytest.mark.parametrize("loss", ["softmax", "hs", "ova", "ns"])
@pytest.mark.parametrize(
    ("quantise", "dim", "minn", "maxn", "ngrams"),
    [
        (False, 10, 2, 4, 1),
        (False, 33, 0, 0, 2),
        (False, 12, 0, 0, 1),
        (False, 5, 1, 3, 3),
        (True, 16, 2, 4, 1),
        (True, 7, 1, 2, 2),
    ],
)
def test_trained_models_get_the_same_labels_and_scores(
    tmp_path: Path, loss: str, quantise: bool, dim: int, minn: int, maxn: int, ngrams: int
) -> None:
    path = train(
        tmp_path,
        quantise=quantise,
        loss=getattr(fasttext_pybind.loss_name, loss),
        dim=dim,
        minn=minn,
        maxn=maxn,
        wordNgrams=ngrams,
    )
    model = FastTextModel(path)
    texts = [text for _, text in sentences(300, 2)] + ["zzz", "", "1", "a </s> b", "q " * 999]
    assert differences(model, load(path), texts) == []
    data, offsets = utf8(pa.array(texts))
    labels, _ = model.predict(data, offsets[:-1], offsets[1:])
    assert len(set(labels.tolist())) > 2  # it has learnt something


@needs_training
@pytest.mark.parametrize("loss", ["softmax", "hs"])
@pytest.mark.parametrize("dim", [7, 16])
def test_quantised_outputs_give_the_same_labels_and_scores(
    tmp_path: Path, loss: str, dim: int
) -> None:
    path = train(
        tmp_path,
        quantise=True,
        many_labels=True,
        loss=getattr(fasttext_pybind.loss_name, loss),
        dim=dim,
        minn=1,
        maxn=2,
        wordNgrams=1,
    )
    model = FastTextModel(path)
    assert len(model.labels) >= 256  # fewer cannot be quantised
    assert differences(model, load(path), [text for _, text in sentences(300, 2)]) == []


@needs_training
def test_what_is_no_model_is_told_and_other_models_go_to_the_library(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = train(
        tmp_path,
        quantise=False,
        loss=fasttext_pybind.loss_name.softmax,
        dim=10,
        minn=2,
        maxn=3,
        wordNgrams=1,
    )
    whole = Path(path).read_bytes()
    rows = pa.array([None, *(text for _, text in sentences(50, 3)), "a\nb\0c", "12"])[1:]
    expected = LanguageIdentifier(path, max_bytes=20).identify(rows)

    # Version 11 differs only in that character n-grams did not exist.
    old = tmp_path / "old.bin"
    old.write_bytes(whole[:4] + struct.pack("<i", 11) + whole[8:])
    with pytest.raises(UnsupportedModel, match="version 11"):
        FastTextModel(str(old))
    found, scores = LanguageIdentifier(str(old), max_bytes=20).identify(rows)
    assert "version 11" in caplog.text
    assert found[-1].as_py() is None and scores[-1].as_py() is None
    library = load(str(old))
    for row, label, score in zip(
        rows.to_pylist(), found.to_pylist(), scores.to_pylist(), strict=True
    ):
        if label is not None:
            line = row.encode()[:20].decode(errors="ignore").replace("\n", " ").replace("\0", " ")
            ((value, name),) = library.predict(line + "\n", 1, 0.0, "strict")
            assert (label, score) == (language.bcp47(name), np.float32(round(value, 4)))

    # The same model through the library and through ours.
    language._loaded[path] = language._Library(path)
    try:
        for one, other in zip(
            LanguageIdentifier(path, max_bytes=20).identify(rows), expected, strict=True
        ):
            assert one.equals(other)
    finally:
        del language._loaded[path]

    broken = tmp_path / "broken.bin"
    for size in (2, 8, 50, 90, 200, len(whole) // 2, len(whole) - 1):
        broken.write_bytes(whole[:size])
        with pytest.raises(MalformedModel):
            FastTextModel(str(broken))
        with pytest.raises(RecipeError, match="not a fastText model"):
            LanguageIdentifier(str(broken))
