"""BPE from counts finds the merges that HF tokenizers finds in the raw text, and survives more."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import RecipeError
from schemas.recipe import TrainBPE
from tokenizer.counts import COUNTS, merge_counts
from tokenizer.model import BPEModel, byte_alphabet
from tokenizer.pretokens import PretokenCounter
from tokenizer.split import PATTERNS
from tokenizer.train import train_bpe

tokenizers = pytest.importorskip("tokenizers")


def by_hugging_face(texts: Sequence[str], settings: TrainBPE) -> dict[str, Any]:
    """The `model` part of what HF tokenizers trains on the raw texts."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERNS[settings.pretokenizer]), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=settings.vocab_size,
        min_frequency=settings.min_frequency,
        special_tokens=list(settings.special_tokens),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    model: dict[str, Any] = json.loads(tokenizer.to_str())["model"]
    return model


def by_us(folder: Path, texts: Sequence[str], settings: TrainBPE) -> BPEModel:
    counter = PretokenCounter(settings.pretokenizer)
    counter.add(pa.array(texts, pa.string()))
    counter.write(folder / "counts.arrow")
    return train_bpe(merge_counts([folder / "counts.arrow"]), settings)


def from_counts(counts: dict[bytes, int], **settings: Any) -> BPEModel:
    columns = [pa.array(list(counts), pa.binary()), pa.array(list(counts.values()), pa.int64())]
    batch = pa.RecordBatch.from_arrays(columns, schema=COUNTS)
    return train_bpe([batch], TrainBPE(special_tokens=("<|endoftext|>",), **settings))


def merged(model: BPEModel) -> list[tuple[bytes, bytes]]:
    return [(model.tokens[a], model.tokens[b]) for a, b in model.merges]


def bench(shared_data: Path, name: str, every: int, size: int) -> list[str]:
    import zstandard

    found: list[str] = []
    with open(shared_data / "bench" / name, "rb") as file:
        lines = io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(file), "utf-8")
        for number, line in enumerate(lines):
            if number % every == 0:
                found.append(json.loads(line)["text"])
                size -= len(found[-1].encode())
                if size < 0:
                    break
    return found


@pytest.mark.parametrize(
    ("name", "pretokenizer", "size", "vocab_size"),
    [
        ("multilingual_docs.jsonl.zst", "llama3", 5_000_000, 16_000),
        ("english_docs.jsonl.zst", "gpt2", 1_500_000, 8_000),
    ],
)
def test_same_merges_as_hugging_face_on_real_text(
    shared_data: Path, tmp_path: Path, name: str, pretokenizer: Any, size: int, vocab_size: int
) -> None:
    texts = bench(shared_data, name, 7, size)
    settings = TrainBPE(vocab_size=vocab_size, pretokenizer=pretokenizer)
    ours = by_us(tmp_path, texts, settings).to_json()["model"]
    theirs = by_hugging_face(texts, settings)
    assert len(theirs["merges"]) == vocab_size - 257
    assert ours["merges"] == theirs["merges"]
    assert ours["vocab"] == theirs["vocab"]


@given(
    texts=st.lists(
        st.one_of(
            st.text(alphabet="ab", max_size=40),
            st.text(alphabet="a", max_size=40),
            st.text(alphabet="=- a\n", max_size=40),
            st.text(max_size=20),
        ),
        max_size=8,
    ),
    pretokenizer=st.sampled_from(["llama3", "gpt2"]),
    vocab_size=st.sampled_from([258, 262, 300, 2000]),
    min_frequency=st.sampled_from([1, 2, 3]),
    special_tokens=st.sampled_from([(), ("<|endoftext|>",), ("<s>", "</s>")]),
)
def test_same_merges_as_hugging_face_where_everything_ties_or_overlaps(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], **settings: Any
) -> None:
    """Runs of one letter are where merges overlap and one token comes about in several ways."""
    chosen = TrainBPE(**settings)
    ours = by_us(tmp_path_factory.mktemp("tie"), texts, chosen).to_json()["model"]
    theirs = by_hugging_face(texts, chosen)
    assert (ours["vocab"], ours["merges"]) == (theirs["vocab"], theirs["merges"])


def test_ties_go_to_the_smaller_ids() -> None:
    model = from_counts({b"ba": 5, b"ab": 5, b"ac": 5}, vocab_size=260)
    assert merged(model) == [(b"a", b"b"), (b"a", b"c"), (b"b", b"a")]


def test_counts_beyond_32_bits() -> None:
    """As signed 32-bit numbers these would be negative, and about 5 instead of 2**33 + 5."""
    model = from_counts({b"xy": 1 << 31, b"zw": (1 << 33) + 5, b"ab": 1000}, vocab_size=260)
    assert merged(model) == [(b"z", b"w"), (b"x", b"y"), (b"a", b"b")]


def test_pair_counts_beyond_32_bits_by_addition() -> None:
    words = {f"xy{c}".encode(): 1 << 30 for c in "abcdef"} | {b"zw": 3 << 30}
    model = from_counts(words, vocab_size=259)
    assert merged(model) == [(b"x", b"y"), (b"z", b"w")]


def test_every_byte_is_in_the_vocabulary_whatever_the_corpus() -> None:
    for counts in ({}, {b"a": 3}, {b"hello": 9}):
        model = from_counts(counts, vocab_size=1000)
        assert model.tokens[0] == b"<|endoftext|>"
        assert sorted(model.tokens[1:257]) == [bytes([b]) for b in range(256)]


def test_a_corpus_too_small_for_its_vocabulary() -> None:
    model = from_counts({b"hello": 9, b"world": 1}, vocab_size=5000)
    # "world" is rarer than min_frequency
    assert merged(model) == [(b"e", b"l"), (b"h", b"el"), (b"l", b"o"), (b"hel", b"lo")]
    assert model.vocab_size == 261


def test_long_pretokens() -> None:
    """A megabyte without a split: one word, merged down to a few tokens."""
    model = from_counts({b"ab" * 500_000: 1, b"c": 1}, vocab_size=300, min_frequency=2)
    assert model.tokens[257:261] == (b"ab", b"abab", b"abababab", b"ab" * 8)


def test_special_tokens_cannot_come_out_of_text() -> None:
    """The vocabulary has each name once, so no merge may make a special token's name."""
    counts = pa.RecordBatch.from_arrays([pa.array([b"stop"], pa.binary()), [9]], schema=COUNTS)
    model = train_bpe([counts], TrainBPE(vocab_size=300, special_tokens=("stop", "st", "\u4e00")))
    assert b"stop" not in model.tokens[3:]
    assert b"st" not in model.tokens[3:]
    assert model.vocabulary()["stop"] == 0


@pytest.mark.parametrize(
    ("special", "message"),
    [
        (("a",), "'a' already stands for a byte"),
        (("<s>", "<s>"), "expected distinct"),
        (("",), "non-empty"),
        (tuple(f"<{i}>" for i in range(50)), "make it at least 306"),
    ],
)
def test_impossible_special_tokens(special: tuple[str, ...], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        train_bpe([], TrainBPE(vocab_size=300, special_tokens=special))


def test_the_byte_alphabet_is_that_of_hugging_face() -> None:
    assert sorted(byte_alphabet()) == sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    encoded = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    ((characters, _),) = encoded.pre_tokenize_str("é 漢\n")
    assert characters == "".join(byte_alphabet()[b] for b in "é 漢\n".encode())


def test_the_saved_tokenizer_loads_everywhere_and_loses_nothing(tmp_path: Path) -> None:
    from tokenizer.encode import load_tokenizer

    texts = [
        "Hello, world!  Hello\tagain.\n\n  \r\n",
        "漢字と漢字 🙂🙂 \x00 \u0301",
        "<|endoftext|>",
    ]
    model = by_us(tmp_path, texts * 5, TrainBPE(vocab_size=320))
    for name in ("a.json", "b.json"):
        model.save(tmp_path / name)
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "a.json"))
    loaded = load_tokenizer(tmp_path / "a.json")
    assert loaded.encoder is not loaded.reference  # the fast encoder has taken it
    assert (loaded.vocab_size, loaded.eos_id) == (model.vocab_size, 0)
    assert theirs.get_vocab() == model.vocabulary()
    ids, offsets = loaded.encode(pa.array(texts))
    for i, text in enumerate(texts):
        assert loaded.decode(ids[offsets[i] : offsets[i + 1]]) == text
        if text != "<|endoftext|>":
            assert theirs.encode(text).ids == ids[offsets[i] : offsets[i + 1]].tolist()
            assert theirs.decode(theirs.encode(text).ids) == text
    assert theirs.encode("<|endoftext|>").ids == [0]
    assert not np.any(ids == 0)  # text is never a special token
