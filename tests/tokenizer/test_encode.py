"""Encoding against Hugging Face tokenizers and sentencepiece, loaded here on their own."""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import sentencepiece
import tokenizers
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers

from schemas.errors import InputError, IntegrityError, RecipeError
from tokenizer.convert import to_tokenizer_json
from tokenizer.encode import PIECE_BYTES, Tokenizer, cut, load_tokenizer
from tokenizer.encoders import Fast, FastPieces, HuggingFace, SentencePiece

ROOT = Path(__file__).resolve().parents[2]
BENCH = ROOT.parent / "shared" / "data" / "bench"
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CORPUS = [
    "The quick brown fox jumps over the lazy dog; don't they all?\n\n",
    "Die Sonne schien, da sie keine andere Wahl hatte, auf nichts Neues.\n",
    "def f(x):\n    return {'a': [1, 2, 345]}  # comment\n",
    "天地玄黄，宇宙洪荒。日月盈昃，辰宿列张。寒来暑往，秋收冬藏。\n",
    "한글은 아름답다. ภาษาไทยไม่มีวรรค 🙂🙂 aaaa   bbbb\t\tcccc\n",
    *(f"{chr(97 + n % 26)}{n * n} {chr(110 + n % 9) * 3}{hex(n)[2:]} " * 3 for n in range(150)),
]
ODD = [
    "",
    " ",
    "\n",
    "<|endoftext|>",
    "a<|endoftext|>b <|endoftext|>",
    "<s> </s> <unk> <0x0A> <0x41>",
    "\u2581 \u2581\u2581a\u2581 \u2581",
    "a" * 5000,
    "汉" * 3000,
    " " * 3000 + "x",
    "\n" * 3000,
    "e\u0301\u0301\u200b\ufeff \U0001f468\u200d\U0001f469",
]
# Any text that can reach the encoder: valid Unicode without NUL.
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=200)
MIXED = st.lists(
    st.sampled_from(["the ", "  ", "\n", "12", "汉字", "<|endoftext|>", "'s", "\u2581", "é", "\t"]),
    max_size=60,
).map("".join)


def bench(name: str, count: int) -> Iterator[str]:
    """Every tenth text of a bench file."""
    path = BENCH / name
    if not path.exists():
        pytest.skip(f"the bench file {name} is not there")
    with open(path, "rb") as file:
        reader = zstandard.ZstdDecompressor().stream_reader(file)
        for line in islice(io.TextIOWrapper(reader, encoding="utf-8"), 0, count * 10, 10):
            yield json.loads(line)["text"]


@pytest.fixture(scope="module")
def json_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tokenizers.Tokenizer(models.BPE())
    found.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA3), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    found.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<|endoftext|>", "<s>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    found.train_from_iterator(CORPUS, trainer)
    # A file as people have them: truncation and padding switched on must not reach documents.
    found.enable_truncation(16)
    found.enable_padding(length=32)
    path = tmp_path_factory.mktemp("json") / "tokenizer.json"
    found.save(str(path))
    return path


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_model(tmp_path_factory.mktemp("model"))


def train_model(folder: Path, **changes: object) -> Path:
    settings = {
        "model_type": "bpe",
        "vocab_size": 500,
        "byte_fallback": True,
        "split_digits": True,
        "character_coverage": 0.9995,
        "normalization_rule_name": "identity",
        "add_dummy_prefix": False,
        "remove_extra_whitespaces": False,
        "minloglevel": 2,
        "num_threads": 1,
    }
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter("".join(CORPUS).splitlines()),
        model_prefix=str(folder / "pieces"),
        **(settings | changes),
    )
    return folder / "pieces.model"


@pytest.fixture(scope="module")
def byte_level(json_path: Path) -> Tokenizer:
    return load_tokenizer(json_path)


@pytest.fixture(scope="module")
def pieces(model_path: Path) -> Tokenizer:
    return load_tokenizer(model_path)


def hugging_face(path: Path) -> Callable[[str], list[int]]:
    """Reference ids of a text, special tokens in it being text."""
    oracle = tokenizers.Tokenizer.from_file(str(path))
    oracle.no_truncation()
    oracle.no_padding()
    oracle.encode_special_tokens = True
    return lambda text: oracle.encode(text, add_special_tokens=False).ids


def sequences(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    ids, offsets = tokenizer.encode(pa.array(texts, pa.string()))
    assert ids.dtype == np.uint32
    assert offsets.dtype == np.int64
    assert (offsets[0], offsets[-1], len(offsets)) == (0, len(ids), len(texts) + 1)
    return [ids[a:b].tolist() for a, b in pairwise(offsets)]


def test_the_fast_encoder_is_used(byte_level: Tokenizer, pieces: Tokenizer) -> None:
    assert isinstance(byte_level.encoder, Fast)
    assert isinstance(pieces.encoder, FastPieces)


def test_odd_texts_have_the_reference_ids(json_path: Path, byte_level: Tokenizer) -> None:
    oracle = hugging_face(json_path)
    assert sequences(byte_level, ODD) == [oracle(text) for text in ODD]


@settings(max_examples=100, deadline=None)
@given(text=TEXT | MIXED)
def test_any_text_has_the_reference_ids_and_comes_back(
    json_path: Path, byte_level: Tokenizer, text: str
) -> None:
    (ids,) = sequences(byte_level, [text])
    assert ids == hugging_face(json_path)(text)
    assert byte_level.decode(ids) == text


@settings(max_examples=100, deadline=None)
@given(text=TEXT | MIXED)
def test_any_text_has_sentencepiece_ids_and_comes_back(
    model_path: Path, pieces: Tokenizer, text: str
) -> None:
    (ids,) = sequences(pieces, [text])
    assert pieces.decode(ids) == text
    if "\u2581" not in text:
        oracle = sentencepiece.SentencePieceProcessor(model_file=str(model_path))
        assert ids == oracle.encode(text)


@pytest.mark.parametrize("name", ["english_docs.jsonl.zst", "multilingual_docs.jsonl.zst"])
def test_real_documents(
    name: str, json_path: Path, model_path: Path, byte_level: Tokenizer, pieces: Tokenizer
) -> None:
    texts = list(bench(name, 300))
    oracle = hugging_face(json_path)
    found = sequences(byte_level, texts)
    assert found == [oracle(text) for text in texts]
    assert byte_level.decode_batch(found) == texts
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(model_path))
    found = sequences(pieces, texts)
    plain = [number for number, text in enumerate(texts) if "\u2581" not in text]
    assert [found[n] for n in plain] == [theirs.encode(texts[n]) for n in plain]
    assert pieces.decode_batch(found) == texts


def test_names_of_special_tokens_in_texts_are_text(byte_level: Tokenizer) -> None:
    (ids,) = sequences(byte_level, ["a<|endoftext|>b<s>"])
    assert byte_level.eos_id not in ids
    assert byte_level.bos_id not in ids
    assert byte_level.decode(ids) == "a<|endoftext|>b<s>"
    assert byte_level.decode([byte_level.eos_id]) == "<|endoftext|>"


def test_other_added_tokens_still_match_as_in_the_reference(
    json_path: Path, tmp_path: Path
) -> None:
    changed = tokenizers.Tokenizer.from_file(str(json_path))
    changed.add_tokens(["quick brown", tokenizers.AddedToken("\t\t", normalized=False)])
    path = tmp_path / "tokenizer.json"
    changed.save(str(path))
    texts = [*CORPUS, *ODD]
    oracle = hugging_face(path)
    assert sequences(load_tokenizer(path), texts) == [oracle(text) for text in texts]


def test_slices_and_batches_do_not_matter(byte_level: Tokenizer) -> None:
    texts = [*ODD, *CORPUS]
    whole = sequences(byte_level, texts)
    array = pa.array(["not this", *texts, "nor this"]).slice(1, len(texts))
    ids, offsets = byte_level.encode(array)
    assert [ids[a:b].tolist() for a, b in pairwise(offsets)] == whole
    assert [sequences(byte_level, [text])[0] for text in texts] == whole
    assert sequences(byte_level, []) == []


@settings(max_examples=50, deadline=None)
@given(texts=st.lists(MIXED | st.just("x" * 70) | TEXT, max_size=8), limit=st.integers(8, 64))
def test_pieces_join_to_the_text(texts: list[str], limit: int) -> None:
    text = "".join(texts)
    found = list(cut(pa.py_buffer(text.encode()), limit))
    assert "".join(found) == text
    assert all(len(piece.encode()) <= limit for piece in found)


@pytest.mark.parametrize("limit", [500, 1000])
def test_cuts_between_words_do_not_change_ids(
    json_path: Path, pieces: Tokenizer, model_path: Path, limit: int
) -> None:
    words = random.Random(1)
    text = "".join(
        words.choice(
            ["fox", "Sonne", " jumps", " jumps", "\n", "\n\n", "; ", "  x", " 12", "don't", " \n"]
        )
        for _ in range(3000)
    )
    found = list(cut(pa.py_buffer(text.encode()), limit))
    assert len(found) > 5
    assert all(piece[0] in " \n" or before[-1] == "\n" for before, piece in pairwise(found))
    for oracle in (
        hugging_face(json_path),
        sentencepiece.SentencePieceProcessor(model_file=str(model_path)).encode,
    ):
        assert [i for piece in found for i in oracle(piece)] == oracle(text)


@pytest.mark.parametrize("unit", ["a", "汉"])
def test_long_documents_are_bounded_and_come_back(byte_level: Tokenizer, unit: str) -> None:
    size = PIECE_BYTES + PIECE_BYTES // 4
    text = unit * (size // len(unit.encode()))
    ids, offsets = byte_level.encode(pa.array(["before", text, "after"]))
    assert byte_level.decode(ids[offsets[1] : offsets[2]]) == text
    assert byte_level.decode(ids[offsets[2] : offsets[3]]) == "after"


def test_an_encoder_that_disagrees_stops_the_run(byte_level: Tokenizer) -> None:
    text = pa.array(["one", "two words", "汉字"])
    ids, offsets = byte_level.encode(text)
    assert byte_level.check(text, ids, offsets) == 3
    wrong = ids.copy()
    wrong[offsets[1]] += 1
    with pytest.raises(IntegrityError, match="disagree from token 0 of a document of 9 bytes"):
        byte_level.check(text, wrong, offsets)
    with pytest.raises(IntegrityError, match="disagree"):
        byte_level.check(text.slice(1, 1), ids, offsets[:2])


def test_what_the_fast_encoder_cannot_load_goes_to_the_reference(tmp_path: Path) -> None:
    found = tokenizers.Tokenizer(
        models.WordPiece({"[UNK]": 0, "[EOS]": 1, "fox": 2, "##es": 3}, unk_token="[UNK]")
    )
    found.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    found.add_special_tokens(["[EOS]"])
    path = tmp_path / "tokenizer.json"
    found.save(str(path))
    loaded = load_tokenizer(path)
    assert isinstance(loaded.encoder, HuggingFace)
    assert loaded.encoder is loaded.reference
    assert sequences(loaded, ["foxes fox", ""]) == [[2, 3, 2], []]
    assert loaded.check(pa.array(["foxes"]), np.array([7]), np.array([0, 1])) == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"add_dummy_prefix": True},
        {"remove_extra_whitespaces": True},
        {"normalization_rule_name": "nmt_nfkc"},
        {"byte_fallback": False, "vocab_size": 300},
        {"model_type": "unigram", "vocab_size": 365},
        {"user_defined_symbols": ["<sep>"]},
    ],
)
def test_models_that_cannot_be_converted_are_run_by_their_library(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    path = train_model(tmp_path, **changes)
    assert to_tokenizer_json(path.read_bytes()) is None
    loaded = load_tokenizer(path)
    assert isinstance(loaded.encoder, SentencePiece)
    texts = [t for t in [*ODD, *CORPUS] if "\u2581" not in t]
    oracle = sentencepiece.SentencePieceProcessor(model_file=str(path))
    assert sequences(loaded, texts) == [oracle.encode(text) for text in texts]


def test_facts_of_a_tokenizer(json_path: Path, byte_level: Tokenizer, pieces: Tokenizer) -> None:
    assert byte_level.vocab_size == 600
    assert (byte_level.eos_id, byte_level.bos_id) == (0, 1)
    assert byte_level.name == "tokenizer.json"
    assert load_tokenizer(json_path, end_of_document="<s>").eos_id == 1
    assert pieces.vocab_size == 500
    assert (pieces.eos_id, pieces.bos_id) == (2, 1)


def test_a_plain_added_token_can_end_documents_and_is_then_text(
    json_path: Path, tmp_path: Path
) -> None:
    changed = tokenizers.Tokenizer.from_file(str(json_path))
    changed.add_tokens(["<eod>"])
    path = tmp_path / "tokenizer.json"
    changed.save(str(path))
    loaded = load_tokenizer(path, end_of_document="<eod>")
    (ids,) = sequences(loaded, ["a<eod>b"])
    assert loaded.eos_id == changed.token_to_id("<eod>")
    assert loaded.eos_id not in ids
    assert loaded.decode(ids) == "a<eod>b"
    with pytest.raises(RecipeError, match="no special token 'a'"):
        load_tokenizer(path, end_of_document="a")  # an ordinary token of texts


def test_an_end_token_that_is_not_there_is_an_error(json_path: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"no special token '<\|no\|>'.*<\|endoftext\|>, <s>"):
        load_tokenizer(json_path, end_of_document="<|no|>")
    bare = tmp_path / "bare.json"
    tokenizers.Tokenizer(models.BPE({"a": 0}, [])).save(str(bare))
    with pytest.raises(RecipeError, match="no special tokens"):
        load_tokenizer(bare)


@pytest.mark.parametrize("data", [b"", b"{}", b'{"model": 1}', b"\x00\x01 no model"])
def test_a_file_that_is_no_tokenizer_is_an_error(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    with pytest.raises(InputError, match="file"):
        load_tokenizer(path)
    with pytest.raises(InputError, match="cannot open"):
        load_tokenizer(tmp_path / "absent")


def test_encoding_starts_no_threads(json_path: Path) -> None:
    if not os.path.isdir("/proc/self/task"):
        pytest.skip("needs /proc to count threads")
    script = (
        "import os, sys, pyarrow as pa\n"
        "from tokenizer.encode import load_tokenizer\n"
        "before = len(os.listdir('/proc/self/task'))\n"
        "tokenizer = load_tokenizer(sys.argv[1])\n"
        "text = pa.array(['some words and more words ' * 5000] * 50)\n"
        "ids, offsets = tokenizer.encode(text)\n"
        "tokenizer.check(text.slice(0, 1).take([0]), ids, offsets[:2])\n"
        "print(len(os.listdir('/proc/self/task')) - before)\n"
    )
    environment = {k: v for k, v in os.environ.items() if "THREADS" not in k}
    done = subprocess.run(
        [sys.executable, "-c", script, str(json_path)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "0"


def test_a_tokenizer_is_frozen(byte_level: Tokenizer) -> None:
    with pytest.raises(AttributeError):
        byte_level.eos_id = 3  # type: ignore[misc]
    assert replace(byte_level, eos_id=3).eos_id == 3
