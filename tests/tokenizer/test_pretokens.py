"""Pretokens are those of the published regexes as HF tokenizers applies them, counts are exact."""

from __future__ import annotations

import io
import json
import random
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import IntegrityError
from schemas.recipe import GivenTokenizer, TrainBPE, TrainSentencePiece
from tokenizer.codepoints import BLANK, LETTER, NEWLINE, NUMBER, SPACE, classes
from tokenizer.counts import COUNTS, FAN_IN, merge_counts, read_counts, write_counts
from tokenizer.pretokens import PretokenCounter, pretokenizer_of
from tokenizer.split import MAX_WORD_BYTES, PATTERNS, split

tokenizers = pytest.importorskip("tokenizers")

# What the alternatives of the regexes turn on, and neighbours that nearly do.
PARTS = [
    *"aZ09 '\t\n\r-.,_",
    "'s", "'S", "'ſ", "'ll", "'Re", "'VE", "'d", "''", "\r\n", "  ", " \n ",
    "é", "e\u0301", "ß", "Ж", "א", "漢", "カ", "ー", "ไ", "ท\u0e31", "한", "ǅ",
    "٣", "½", "Ⅷ", "〇", "²",
    "\x00", "\x1c", "\x85", "\u00a0", "\u00ad", "\u180e", "\u200b", "\u2028", "\u3000", "\ufeff",
    "。", "—", "🙂", "👨‍👩‍👧", "\U0001f1e9", "\U00010400", "\U0010ffff", "▁",
]  # fmt: skip
LETTERS = str.maketrans("0123456789", "abcdefghij")
texts = st.one_of(st.text(), st.lists(st.sampled_from(PARTS)).map("".join))


def oracle(pattern: str) -> tokenizers.pre_tokenizers.PreTokenizer:
    return tokenizers.pre_tokenizers.Split(tokenizers.Regex(pattern), behavior="isolated")


def expected(pretokenizer: str, text: str) -> list[str]:
    return [piece for piece, _ in oracle(PATTERNS[pretokenizer]).pre_tokenize_str(text)]


def words(text: str) -> list[str]:
    """SentencePiece's words, as far as they can be part of a piece."""
    return re.findall(r" *[^ \n\t▁]+| +", text)


def sample(shared_data: Path, name: str, size: int) -> list[str]:
    """Every fifth document of a bench file, `size` characters in all."""
    import zstandard

    found: list[str] = []
    with open(shared_data / "bench" / name, "rb") as file:
        lines = io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(file), "utf-8")
        for number, line in enumerate(lines):
            if number % 5 == 0:
                found.append(json.loads(line)["text"])
                size -= len(found[-1])
                if size < 0:
                    break
    return found


def count_file(path: Path, pretokenizer: str, *batches: list[str]) -> Path:
    counter = PretokenCounter(pretokenizer)
    for batch in batches:
        counter.add(pa.array(batch, pa.string()))
    counter.write(path)
    return path


def as_dict(table: pa.Table) -> dict[bytes, int]:
    return dict(zip(table["pretoken"].to_pylist(), table["count"].to_pylist(), strict=True))


@pytest.mark.parametrize(
    ("regex", "kinds"),
    [(r"\p{L}", [LETTER]), (r"\p{N}", [NUMBER]), (r"\s", [SPACE, NEWLINE, BLANK])],
)
def test_code_point_table_agrees_on_every_code_point(regex: str, kinds: list[int]) -> None:
    points = [p for p in range(0x110000) if not 0xD800 <= p < 0xE000]
    split_off = tokenizers.pre_tokenizers.Split(
        tokenizers.Regex(f"(?:{regex})+"), behavior="removed", invert=True
    )
    pieces = split_off.pre_tokenize_str("".join(map(chr, points)))
    found = {ord(c) for piece, _ in pieces for c in piece}
    assert found == set(np.flatnonzero(np.isin(classes(), kinds)).tolist()) - set(
        range(0xD800, 0xE000)
    )


@pytest.mark.parametrize("pretokenizer", PATTERNS)
@given(batch=st.lists(texts, max_size=4))
def test_split_equals_regex_on_any_text(pretokenizer: str, batch: list[str]) -> None:
    assert split(pa.array(batch, pa.string()), pretokenizer).to_pylist() == [
        expected(pretokenizer, text) for text in batch
    ]


@pytest.mark.parametrize("pretokenizer", PATTERNS)
def test_split_equals_regex_on_every_short_text(pretokenizer: str) -> None:
    """All strings of up to five characters over one of each kind, apostrophe included."""
    kinds = "s1 \t\n-'"
    level = [""]
    batch: list[str] = []
    for _ in range(5):
        level = [text + c for text in level for c in kinds]
        batch += level
    ours = split(pa.array(batch), pretokenizer).to_pylist()
    pieces = oracle(PATTERNS[pretokenizer])
    for text, found in zip(batch, ours, strict=True):
        assert found == [piece for piece, _ in pieces.pre_tokenize_str(text)]


@pytest.mark.parametrize("pretokenizer", PATTERNS)
@pytest.mark.parametrize("name", ["english_docs.jsonl.zst", "multilingual_docs.jsonl.zst"])
def test_split_equals_regex_on_real_text(shared_data: Path, name: str, pretokenizer: str) -> None:
    batch = sample(shared_data, name, 1_000_000)
    pieces = oracle(PATTERNS[pretokenizer])
    for text, found in zip(batch, split(pa.array(batch), pretokenizer).to_pylist(), strict=True):
        assert found == [piece for piece, _ in pieces.pre_tokenize_str(text)]


@given(batch=st.lists(texts, max_size=4))
def test_words_are_those_of_sentencepiece(batch: list[str]) -> None:
    ours = split(pa.array(batch, pa.string()), "whitespace").to_pylist()
    assert ours == [words(text) for text in batch]


def test_long_words_are_cut_between_characters() -> None:
    text = "x" + "漢" * MAX_WORD_BYTES
    (found,) = split(pa.array([text]), "whitespace").to_pylist()
    assert "".join(found) == text
    assert len(found) == 3
    assert max(len(word.encode()) for word in found) <= MAX_WORD_BYTES + 2


def test_counts_equal_a_plain_counter(shared_data: Path, tmp_path: Path) -> None:
    import regex

    batch = sample(shared_data, "multilingual_docs.jsonl.zst", 2_000_000)
    for pretokenizer, pattern in PATTERNS.items():
        find = regex.compile(pattern).findall
        plain = Counter(piece.encode() for text in batch for piece in find(text))
        path = count_file(tmp_path / pretokenizer, pretokenizer, batch[:100], batch[100:])
        assert as_dict(read_counts([path])) == plain


@given(batch=st.lists(texts, max_size=6), start=st.integers(0, 3), n=st.integers(0, 6))
def test_slices_count_only_their_own_rows(batch: list[str], start: int, n: int) -> None:
    whole = pa.array(["before", *batch], pa.string())
    counter = PretokenCounter("llama3")
    counter.add(whole.slice(start, n))
    rows = whole.slice(start, n).to_pylist()
    plain = Counter(p for text in rows for p in expected("llama3", text))
    assert counter.total == sum(plain.values())
    found = {k.decode(): v for b in counter._sorted() for k, v in as_dict(pa.table(b)).items()}
    assert found == plain


def test_result_does_not_depend_on_memory_order_or_cuts(tmp_path: Path) -> None:
    """Same texts: with many spilled runs, in other batches, in another order: the same bytes."""
    random.seed(7)
    batch = ["".join(random.choices(PARTS, k=200)) for _ in range(2000)]
    whole = count_file(tmp_path / "whole", "gpt2", batch).read_bytes()
    spilling = PretokenCounter("gpt2", memory_bytes=3 << 20)
    for first in range(0, len(batch), 300):
        spilling.add(pa.array(batch[first : first + 300][::-1]))
    distinct = "".join(f" w{i:06d}" for i in range(150_000)).translate(LETTERS)
    spilling.add(pa.array([distinct]))
    spilling.add(pa.array([distinct]))
    assert len(spilling._runs) > 2
    spilling.write(tmp_path / "spilled")
    together = count_file(tmp_path / "together", "gpt2", [distinct], batch, [distinct])
    assert (tmp_path / "spilled").read_bytes() == together.read_bytes()
    parts = [count_file(tmp_path / f"{i}", "gpt2", batch[i::7]) for i in range(7)]
    write_counts(tmp_path / "merged", merge_counts(parts))
    assert (tmp_path / "merged").read_bytes() == whole


def test_a_counter_starts_anew_after_writing(tmp_path: Path) -> None:
    counter = PretokenCounter("llama3")
    for name, text in (("a", "one two"), ("b", "three")):
        counter.add(pa.array([text]))
        counter.write(tmp_path / name)
    assert as_dict(read_counts([tmp_path / "b"])) == {b"three": 1}


def test_merging_more_files_than_are_open_at_once(tmp_path: Path) -> None:
    rows = [(f"{i % 50:03d}".encode(), 1 << 40) for i in range(3 * FAN_IN)]
    for i, (pretoken, count) in enumerate(rows):
        columns = [pa.array([pretoken], pa.binary()), [count]]
        write_counts(tmp_path / f"{i}", [pa.RecordBatch.from_arrays(columns, schema=COUNTS)])
    merged = read_counts([tmp_path / f"{i}" for i in range(len(rows))])
    plain: Counter[bytes] = Counter()
    for pretoken, count in rows:
        plain[pretoken] += count
    assert as_dict(merged) == plain
    assert merged["pretoken"].to_pylist() == sorted(plain)


def test_files_without_counts_are_refused(tmp_path: Path) -> None:
    (tmp_path / "junk").write_bytes(b"junk" * 100)
    with pytest.raises(IntegrityError, match="junk: not a file of pretoken counts"):
        list(merge_counts([tmp_path / "junk"]))
    schema = pa.schema([("x", pa.int64())])
    with pa.OSFile(str(tmp_path / "other"), "wb") as sink, pa.ipc.new_file(sink, schema):
        pass
    with pytest.raises(IntegrityError, match="expected pretoken counts with columns pretoken"):
        list(merge_counts([tmp_path / "other"]))


def test_an_empty_corpus_makes_an_empty_file(tmp_path: Path) -> None:
    path = count_file(tmp_path / "empty", "llama3", [], [""])
    assert read_counts([path]).num_rows == 0
    assert read_counts([]).schema == COUNTS


def test_what_is_counted_for_which_tokenizer() -> None:
    assert pretokenizer_of(TrainBPE(pretokenizer="gpt2")) == "gpt2"
    assert pretokenizer_of(TrainSentencePiece(kind="sentencepiece")) == "whitespace"
    assert pretokenizer_of(GivenTokenizer(kind="given", path="t.json")) is None
    with pytest.raises(ValueError, match="expected a pretokenizer of llama3, gpt2, whitespace"):
        PretokenCounter("llama2")
    with pytest.raises(TypeError, match="expected a string array"):
        PretokenCounter("llama3").add(pa.array([b"x"]))


def test_warming_compiles_all_that_counting_needs() -> None:
    from tokenizer import pretokens

    pretokens.warm()
    kernels = (pretokens._count, pretokens._rehash)
    before = [len(kernel.signatures) for kernel in kernels]
    for pretokenizer in ("llama3", "gpt2", "whitespace"):
        counter = PretokenCounter(pretokenizer)
        whole = pa.array(["", " ".join(map(str, range(100_000))), None, "x"], pa.string())
        counter.add(whole.slice(1, 1))
        counter.add(pa.array([], pa.string()))
        counter.add(pa.array([""]))
    assert [len(kernel.signatures) for kernel in kernels] == before == [1, 1]
