"""SentencePiece from word counts is SentencePiece from the raw text, and loses no character."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import RecipeError
from schemas.recipe import TrainSentencePiece
from tokenizer.counts import merge_counts
from tokenizer.pretokens import PretokenCounter
from tokenizer.train_sentencepiece import options, train_sentencepiece, vocabulary

sentencepiece = pytest.importorskip("sentencepiece")


def settings(**changes: Any) -> TrainSentencePiece:
    return TrainSentencePiece(kind="sentencepiece", **{"vocab_size": 2000, **changes})


def from_counts(folder: Path, texts: Sequence[str], chosen: TrainSentencePiece) -> bytes:
    counter = PretokenCounter("whitespace")
    counter.add(pa.array(texts, pa.string()))
    counter.write(folder / "counts.arrow")
    return train_sentencepiece(merge_counts([folder / "counts.arrow"]), chosen)


def from_text(texts: Sequence[str], chosen: TrainSentencePiece) -> bytes:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(line for text in texts for line in text.split("\n")),
        model_writer=model,
        **options(chosen),
    )
    return model.getvalue()


@pytest.fixture(scope="module")
def texts(shared_data: Path) -> list[str]:
    import zstandard

    with open(shared_data / "bench" / "multilingual_docs.jsonl.zst", "rb") as file:
        lines = io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(file), "utf-8")
        found = [json.loads(next(lines))["text"] for _ in range(400)]
    # The library takes U+2581 for a space, we for what it is; and a tab, which can be in no longer
    # piece, is a piece of its own from raw text, but only a byte's from counts.
    return [text.replace("\u2581", "").replace("\t", " ") for text in found]


@pytest.fixture(scope="module")
def model(texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return from_counts(tmp_path_factory.mktemp("model"), texts, settings(vocab_size=4000))


@pytest.mark.parametrize(
    "changes",
    [
        {"vocab_size": 4000},
        {"vocab_size": 3000, "split_digits": False, "character_coverage": 0.995},
        {"vocab_size": 8000, "byte_fallback": False},
    ],
)
def test_same_pieces_and_scores_as_from_raw_text(
    texts: list[str], tmp_path: Path, changes: dict[str, Any]
) -> None:
    chosen = settings(**changes)
    ours, theirs = from_counts(tmp_path, texts, chosen), from_text(texts, chosen)
    assert vocabulary(ours).split("\n") == vocabulary(theirs).split("\n")
    assert vocabulary(ours).count("\n") == chosen.vocab_size


def test_the_vocabulary_listing_is_the_library_s_own(texts: list[str], tmp_path: Path) -> None:
    lines = tmp_path / "lines.txt"
    lines.write_text("\n".join(texts[:50]), encoding="utf-8")
    chosen = settings(vocab_size=1500)
    sentencepiece.SentencePieceTrainer.train(
        input=str(lines), model_prefix=str(tmp_path / "m"), **options(chosen)
    )
    ours = vocabulary((tmp_path / "m.model").read_bytes())
    assert ours == (tmp_path / "m.vocab").read_text(encoding="utf-8")


def test_training_twice_gives_the_same_bytes(
    texts: list[str], model: bytes, tmp_path: Path
) -> None:
    assert from_counts(tmp_path, texts[::-1], settings(vocab_size=4000)) == model
    assert str(tmp_path).encode() not in model


def test_ids_of_special_pieces(model: bytes) -> None:
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    assert [processor.id_to_piece(i) for i in range(4)] == ["<unk>", "<s>", "</s>", "<0x00>"]
    assert (processor.bos_id(), processor.eos_id(), processor.pad_id()) == (1, 2, -1)


ODD = ["\n", "\t", "  ", "a  b ", "\r\n", "\u00a0", "\u3000", "0123", "e\u0301", "🙂", "<s>"]


@given(parts=st.lists(st.one_of(st.sampled_from(ODD), st.text(max_size=5))))
def test_decoding_gives_the_text_back(model: bytes, parts: list[str]) -> None:
    text = "".join(parts).replace("\u2581", "").replace("\x00", "")
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    assert processor.decode(processor.encode(text)) == text


def test_our_encoder_keeps_even_the_sign_for_a_space(model: bytes, tmp_path: Path) -> None:
    from tokenizer.encode import load_tokenizer

    (tmp_path / "t.model").write_bytes(model)
    loaded = load_tokenizer(tmp_path / "t.model")
    text = "progress \u2581\u2582\u2583 done, a\u2581b  c\n\n"
    ids, _ = loaded.encode(pa.array([text]))
    assert loaded.decode(ids) == text
    assert loaded.eos_id == 2


@pytest.mark.parametrize("corpus", [[], [""], ["\t\n"], ["a"], ["hello world " * 3]])
def test_a_corpus_too_small_for_its_vocabulary(corpus: list[str], tmp_path: Path) -> None:
    found = vocabulary(from_counts(tmp_path, corpus, settings())).count("\n")
    assert 259 < found < 300  # three special pieces, 256 bytes and what there was


def test_more_characters_than_pieces(tmp_path: Path) -> None:
    corpus = ["".join(map(chr, range(0x4E00, 0x5000)))]
    with pytest.raises(RecipeError, match="larger vocab_size or a lower character_coverage"):
        from_counts(tmp_path, corpus, settings(vocab_size=300))


def test_words_longer_than_the_library_can_hold(tmp_path: Path) -> None:
    """It keeps positions in a word in 16 bits and would end the process beyond."""
    found = from_counts(tmp_path, ["ab" * 100_000, "c" * 70_000], settings(vocab_size=300))
    assert "\nabab\t" in vocabulary(found)
