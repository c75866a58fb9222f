"""Signatures against datasketch, words against `re` and `unicodedata`, text hashes against mmh3.

The oracle for signatures is `datasketch.MinHash` itself, fed with the plain-Python shingles that
users are told to use, so that whoever follows the documentation gets the stored values.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import unicodedata
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import mmh3
import numpy as np
import pyarrow as pa
import pytest
import zstandard
from datasketch import MinHash as Datasketch
from hypothesis import given, settings
from hypothesis import strategies as st

from filters import minhash, shingles
from schemas.recipe import MinHash

# Letters with and without marks, unspaced scripts, marks, invisible characters, growing lower case.
ALPHABET = (
    "aB9_ .,-\n\té\u0301ÉİſKȺȾ\u00ad\u200b\u200d中文かが\u3099คนี่हिन्दीالعَرَ한국"
    "\U00020001\U0001d538\ufeff"
)
TEXT = st.one_of(st.text(ALPHABET, max_size=80), st.text(max_size=40))
SETTINGS = (
    MinHash(),
    MinHash(words="regex"),
    MinHash(ngram=1, bands=1, rows=1),
    MinHash(ngram=13, bands=9, rows=13, words="regex"),
)


def reference(text: str, settings: MinHash) -> np.ndarray:
    sketch = Datasketch(
        num_perm=settings.bands * settings.rows,
        scheme="affine64",
        hashfunc=shingles.shingle_hash,
    )
    sketch.update_batch(shingles.shingles(text, settings.ngram, settings.words))
    return sketch.hashvalues


def check(texts: list[str], settings: MinHash) -> None:
    found = minhash.signatures(pa.array(texts, pa.string()), settings)
    assert found.dtype == np.uint64
    for text, row in zip(texts, found, strict=True):
        np.testing.assert_array_equal(row, reference(text, settings), err_msg=repr(text[:200]))


@pytest.mark.parametrize("minhash_settings", SETTINGS)
@settings(max_examples=60)
@given(texts=st.lists(TEXT, max_size=4))
def test_signatures_equal_datasketch_on_any_unicode(
    minhash_settings: MinHash, texts: list[str]
) -> None:
    check(texts, minhash_settings)


BLOCK = minhash.BLOCK


@pytest.mark.parametrize(
    "text",
    [
        "a b c" + " " * 3 * BLOCK,  # the end of the document comes blocks after its last word
        "x" * 5 * BLOCK,
        "x" * (BLOCK - 1) + " " + "y" * (BLOCK + 1) + " z",
        "x " * BLOCK,
        "中" * 2 * BLOCK,
        "a" * (BLOCK - 1) + "中" * 3,  # a code point across the end of a block
        "a" * (BLOCK - 2) + "\U00020001" * 2000,
        "ȺȾ" * BLOCK,
        "Ⱥ " * BLOCK,
        "\u00ad" * BLOCK + "a\u00adb",
        " ".join(f"w{i}" for i in range(5000)),
    ],
)
def test_signatures_do_not_see_block_ends(text: str) -> None:
    check([text], MinHash())
    check([text], MinHash(words="regex", ngram=2, bands=3, rows=3))


@pytest.mark.parametrize("name", ["english_docs", "multilingual_docs"])
def test_signatures_equal_datasketch_on_real_text(shared_data: Path, name: str) -> None:
    path = shared_data / "bench" / f"{name}.jsonl.zst"
    with path.open("rb") as raw, zstandard.ZstdDecompressor().stream_reader(raw) as stream:
        lines = islice(io.TextIOWrapper(stream, "utf-8"), 150)
        texts = [json.loads(line)["text"][:20_000] for line in lines]
    check(texts, MinHash())
    check(texts[:40], MinHash(words="regex", ngram=3))


def test_a_slice_of_a_batch_gives_its_own_signatures() -> None:
    texts = ["zero", "one two three", "", "vier fünf sechs sieben acht neun", "中文"]
    whole = pa.array(texts, pa.string())
    full = minhash.signatures(whole, MinHash())
    hashes = minhash.text_hashes(whole)
    for begin in range(len(texts)):
        for length in range(len(texts) - begin + 1):
            part = whole.slice(begin, length)
            rows = slice(begin, begin + length)
            np.testing.assert_array_equal(minhash.signatures(part, MinHash()), full[rows])
            np.testing.assert_array_equal(minhash.text_hashes(part), hashes[rows])


def test_documents_without_a_word_have_empty_slots() -> None:
    found = minhash.signatures(pa.array(["", " ", "!?", "\u0301", "🙂"]), MinHash())
    assert (found == minhash.EMPTY_SLOT).all()


def test_words_of_gristmill() -> None:
    assert shingles.words_of("Éa NAÏVE co\u00adop snake_case U.S. 3.14") == [
        "ea", "naive", "coop", "snake", "case", "u", "s", "3", "14"
    ]  # fmt: skip
    assert shingles.words_of("İstanbul Ελλάδα ёлка") == ["istanbul", "ελλαδα", "елка"]
    assert shingles.words_of("中文abcか゛คน한국") == ["中", "文", "abc", "か", "ค", "น", "한국"]
    assert shingles.words_of("हिन्दी العَرَبِيَّة") == ["हिन्दी", "العربية"]
    # Composed or not, the words are the same.
    for text in ("Ünïcödé Ἀθῆναι ёй", "ガギグ", "Việt Nam"):
        assert shingles.words_of(unicodedata.normalize("NFD", text)) == shingles.words_of(
            unicodedata.normalize("NFC", text)
        )


def test_regex_words_are_what_the_regular_expression_matches() -> None:
    # Only code points that this Python knows: the table's Unicode version is pinned.
    known = [chr(c) for c in range(0x110000) if unicodedata.category(chr(c)) not in ("Cn", "Cs")]
    table = shingles.word_table("regex")
    word = re.compile(r"\w")
    wrong = [c for c in known if (table[ord(c)] != 0) != (word.match(c) is not None)]
    assert wrong == []


@settings(max_examples=60)
@given(text=st.text(st.characters(categories=["L", "N", "P", "Z", "S"], max_codepoint=0x24F)))
def test_regex_words_of_western_text(text: str) -> None:
    lower = [w.lower().replace("i\u0307", "i") for w in re.findall(r"\w+", text)]
    assert shingles.words_of(text, "regex") == lower


def test_shingles_of_few_words_and_of_none() -> None:
    assert shingles.shingles("One two") == [b"one two"]
    assert shingles.shingles("a b c d e f a b c d e") == [
        b"a b c d e", b"b c d e f", b"c d e f a", b"d e f a b", b"e f a b c", b"f a b c d"
    ]  # fmt: skip
    assert shingles.shingles(" \n") == []


def test_shingle_hash_is_a_fixed_public_function() -> None:
    # A change would orphan every stored signature.
    assert shingles.shingle_hash(b"a") == 0x685FDF50E51FA977  # fmix64(0x61)
    long = "the quick brown fox überlandleitung".encode()
    assert shingles.shingle_hash(long) == 0x609D9A5BB55509BA
    words = {f"w{i} x{j}".encode() for i in range(200) for j in range(200)}
    assert len({shingles.shingle_hash(w) for w in words}) == len(words)


WHITE_SPACE = [chr(c) for c in (*range(9, 14), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B))]
WHITE_SPACE += ["\u2028", "\u2029", "\u202f", "\u205f", "\u3000"]


def exact_form(text: str) -> str:
    return re.sub(f"[{''.join(WHITE_SPACE)}]+", " ", text).strip(" ")


@settings(max_examples=100)
@given(text=st.one_of(st.text(["a", "é", "中", "\u200b", "\u2027", *WHITE_SPACE]), st.text()))
def test_text_hash_is_murmur3_of_the_exact_form(text: str) -> None:
    ((first, second),) = minhash.text_hashes(pa.array([text], pa.string())).tolist()
    form = exact_form(text).encode("utf-8")
    expected = mmh3.hash64(form, seed=0, x64arch=True, signed=False) if form else (0, 0)
    assert (first, second) == expected


def test_text_hash_of_all_lengths() -> None:
    texts = ["x" * n for n in range(1, 70)] + ["é中" * n for n in range(1, 20)]
    found = minhash.text_hashes(pa.array(texts, pa.string())).tolist()
    expected = [list(mmh3.hash64(t.encode(), seed=0, x64arch=True, signed=False)) for t in texts]
    assert found == expected


@dataclass(frozen=True)
class Gold:
    """Real documents and all their pairs with exact Jaccard similarity of at least 0.3."""

    text: pa.StringArray
    left: np.ndarray
    right: np.ndarray
    exact: np.ndarray


@pytest.fixture(scope="module")
def gold(shared_data: Path) -> Gold:
    with gzip.open(shared_data / "neardup" / "docs.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    with gzip.open(shared_data / "neardup" / "pairs.tsv.gz", "rt", encoding="utf-8") as file:
        pairs = [line.rstrip("\n").split("\t") for line in file]
    at = {row["id"]: i for i, row in enumerate(rows)}
    left, right = (np.array([at[p[i]] for p in pairs]) for i in (0, 1))
    text = pa.array([row["text"] for row in rows], pa.string())
    return Gold(text, left, right, np.array([float(p[2]) for p in pairs]))


def test_estimated_similarity_follows_exact_jaccard(gold: Gold) -> None:
    """Over 2,048 slots the error is that of independent trials: our hash adds no bias."""
    found = minhash.signatures(gold.text, MinHash(words="regex", bands=64, rows=32))
    pairs = zip(gold.left, gold.right, strict=True)
    error = np.array([(found[a] == found[b]).mean() for a, b in pairs]) - gold.exact
    variance = np.maximum(gold.exact * (1 - gold.exact), 0.01) / found.shape[1]
    spread = (error / np.sqrt(variance)).std()
    print(f"{len(error)} pairs: mean error {error.mean():+.4f}, spread {spread:.3f} sigma")
    assert abs(error.mean()) < 0.003
    assert 0.7 < spread < 1.2


def test_candidates_follow_the_s_curve(gold: Gold) -> None:
    """A pair of similarity s shares a band with probability 1 - (1 - s**rows) ** bands."""
    settings = MinHash(words="regex")
    hashes = minhash.band_hashes(minhash.signatures(gold.text, settings), settings)
    met = (hashes[gold.left] == hashes[gold.right]).any(axis=1)
    expected = 1 - (1 - gold.exact**settings.rows) ** settings.bands
    for low in np.arange(0.3, 1.0, 0.1):
        chosen = (gold.exact >= low) & (gold.exact < low + 0.1)
        share, curve = met[chosen].mean(), expected[chosen].mean()
        print(f"{low:.1f} to {low + 0.1:.1f}: {chosen.sum():5} pairs, {share:.3f}, {curve:.3f}")
        # Pairs of one cluster are not independent, hence the room beyond binomial noise.
        assert abs(share - curve) < 0.02 + 4 * np.sqrt(curve * (1 - curve) / chosen.sum())
