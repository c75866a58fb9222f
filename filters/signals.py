"""Signals: the numbers that rules look at, one column each, computed for every document.

All signals here are counts (int64), or one count divided by another (float64, correctly rounded, so
the same on every machine). Nothing divided by nothing is 0. A null means that the signal has no
meaning for the document; a rule lets it pass.

Terms. *Words*: runs without white space; in scripts without spaces (Han, Kana, Thai, Lao, Khmer,
Myanmar) each code point is a word, and punctuation next to it is none. *Symbol words* have no
letter, mark or number. *Lines* are separated by LF; a *blank* line has white space only, an *empty*
one nothing. *Paragraphs* are separated by empty lines. A *sentence* is a part of a line with a
letter, mark or number in it, up to a run of sentence ends and closing marks (after . ! ? only if
white space follows) or the end of the line. Characters are code points.

Sources: "Gopher" is Rae et al. 2021 (arXiv 2112.11446), A1.1; "C4" Raffel et al. 2020 (JMLR 21) and
its released code; "FineWeb" Penedo et al. 2024 (arXiv 2406.17557); details that the papers leave
open follow datatrove's released filters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from filters import counts as c
from filters import kernel_repeats, kernel_scan, kernel_text
from schemas.text import utf8

Counts = npt.NDArray[np.int64]
Unit = Literal["bytes", "characters", "words", "lines", "paragraphs", "sentences", "count", "ratio"]


@dataclass(frozen=True, kw_only=True)
class SignalSpec:
    """What a signal is: for the documentation, and to compute it from counts."""

    name: str
    dtype: pa.DataType
    unit: Unit
    definition: str
    source: str
    count: int  # column of the counts, or of the numerator
    divisor: int | None = None  # column of the denominator
    less: int | None = None  # column that is taken from the denominator


def _count(name: str, unit: Unit, column: int, definition: str, source: str = "") -> SignalSpec:
    return SignalSpec(
        name=name, dtype=pa.int64(), unit=unit, definition=definition, source=source, count=column
    )


def _ratio(
    name: str, count: int, divisor: int, definition: str, source: str = "", less: int | None = None
) -> SignalSpec:
    return SignalSpec(
        name=name,
        dtype=pa.float64(),
        unit="ratio",
        definition=definition,
        source=source,
        count=count,
        divisor=divisor,
        less=less,
    )


_TOP = (c.TOP_2GRAM_CHARACTERS, c.TOP_3GRAM_CHARACTERS, c.TOP_4GRAM_CHARACTERS)

SIGNALS: tuple[SignalSpec, ...] = (
    _count("bytes", "bytes", c.BYTES, "UTF-8 bytes of the text"),
    _count("characters", "characters", c.CHARACTERS, "code points"),
    _count("words", "words", c.WORDS, "words"),
    _count("nonsymbol_words", "words", c.NONSYMBOL_WORDS, "words less symbol words", "Gopher"),
    _count("sentences", "sentences", c.SENTENCES, "sentences", "C4"),
    _count("lines", "lines", c.LINES, "lines, empty ones too; the last may lack its LF"),
    _count("nonblank_lines", "lines", c.NONBLANK_LINES, "lines that are not blank"),
    _count("paragraphs", "paragraphs", c.PARAGRAPHS, "paragraphs"),
    _ratio(
        "mean_word_length",
        c.NONSYMBOL_WORD_CHARACTERS,
        c.NONSYMBOL_WORDS,
        "characters per word that is no symbol word, attached punctuation included; null where "
        "more than half of the words are code points of unspaced scripts",
        "Gopher",
    ),
    _ratio(
        "unspaced_word_fraction",
        c.UNSPACED_WORDS,
        c.WORDS,
        "share of words that are code points of unspaced scripts",
    ),
    _ratio(
        "alphabetic_word_fraction",
        c.ALPHABETIC_WORDS,
        c.WORDS,
        "share of words with at least one letter",
        "Gopher",
    ),
    _ratio("letter_fraction", c.LETTERS, c.CHARACTERS, "share of letters in characters"),
    _ratio("digit_fraction", c.NUMBERS, c.CHARACTERS, "share of numbers (N*) in characters"),
    _ratio("punctuation_fraction", c.PUNCTUATION, c.CHARACTERS, "share of punctuation (P*)"),
    _ratio("symbol_fraction", c.SYMBOLS, c.CHARACTERS, "share of symbols (S*) in characters"),
    _ratio("uppercase_fraction", c.UPPERCASE, c.CHARACTERS, "share of upper and title case"),
    _ratio("whitespace_fraction", c.WHITESPACE, c.CHARACTERS, "share of white space"),
    _ratio("hash_word_ratio", c.HASHES, c.WORDS, "# per word", "Gopher"),
    _ratio("ellipsis_word_ratio", c.ELLIPSES, c.WORDS, "'...' and U+2026 per word", "Gopher"),
    _ratio("newline_word_ratio", c.NEWLINES, c.WORDS, "LF per word", "FineWeb"),
    _count(
        "stop_words",
        "count",
        c.DISTINCT_STOP_WORDS,
        "how many of Gopher's eight English stop words occur (a word less the punctuation around "
        "it, in any case); null for documents in another language",
        "Gopher",
    ),
    _ratio(
        "stop_word_fraction",
        c.STOP_WORDS,
        c.WORDS,
        "share of those stop words in words; null for documents in another language",
        "Gopher",
    ),
    _ratio(
        "bullet_line_fraction",
        c.BULLET_LINES,
        c.LINES,
        "share of lines whose first character after white space is - or U+2022",
        "Gopher",
    ),
    _ratio(
        "ellipsis_line_fraction",
        c.ELLIPSIS_LINES,
        c.LINES,
        "share of lines that end in '...' or U+2026 before white space",
        "Gopher",
    ),
    _ratio(
        "terminal_line_fraction",
        c.TERMINAL_LINES,
        c.NONBLANK_LINES,
        "share of lines, blank ones left out, whose last character ends a sentence",
        "FineWeb",
    ),
    _ratio(
        "short_line_fraction",
        c.SHORT_LINES,
        c.NONBLANK_LINES,
        f"share of lines, blank ones left out, of at most {kernel_scan.SHORT_LINE} characters",
        "FineWeb",
    ),
    _count("javascript_lines", "lines", c.JAVASCRIPT_LINES, "lines with 'javascript'", "C4"),
    _count(
        "policy_lines", "lines", c.POLICY_LINES, "lines with a terms or cookies phrase", "C4 code"
    ),
    _count("lorem_ipsum_lines", "lines", c.LOREM_IPSUM_LINES, "lines with 'lorem ipsum'", "C4"),
    _count("curly_brackets", "count", c.CURLY_BRACKETS, "occurrences of {", "C4"),
    _ratio(
        "duplicate_line_fraction",
        c.DUPLICATE_LINES,
        c.NONEMPTY_LINES,
        "share of lines, empty ones left out, that stood in the document before",
        "Gopher",
    ),
    _ratio(
        "duplicate_line_character_fraction",
        c.DUPLICATE_LINE_CHARACTERS,
        c.CHARACTERS,
        "characters of those lines per character of the text",
        "Gopher",
    ),
    _ratio(
        "duplicate_nonblank_line_character_fraction",
        c.DUPLICATE_NONBLANK_LINE_CHARACTERS,
        c.CHARACTERS,
        "the same without blank lines, per character other than LF",
        "FineWeb",
        less=c.NEWLINES,
    ),
    _ratio(
        "duplicate_paragraph_fraction",
        c.DUPLICATE_PARAGRAPHS,
        c.PARAGRAPHS,
        "share of paragraphs that stood in the document before",
        "Gopher",
    ),
    _ratio(
        "duplicate_paragraph_character_fraction",
        c.DUPLICATE_PARAGRAPH_CHARACTERS,
        c.CHARACTERS,
        "characters of those paragraphs per character of the text",
        "Gopher",
    ),
    *(
        _ratio(
            f"top_{n}gram_character_fraction",
            _TOP[n - 2],
            c.CHARACTERS,
            f"occurrences times length of the most frequent (first of several) word {n}-gram, its "
            "words joined by spaces where its script has them, per character of the text",
            "Gopher",
        )
        for n in (2, 3, 4)
    ),
    *(
        _ratio(
            f"duplicate_{n}gram_character_fraction",
            c.DUPLICATE_5GRAM_CHARACTERS + n - 5,
            c.CHARACTERS,
            f"characters, spaces left out, of word {n}-grams that stood in the document before, "
            "counted from left to right without overlap, per character of the text",
            "Gopher",
        )
        for n in range(5, 11)
    ),
)

BY_NAME: Mapping[str, SignalSpec] = {spec.name: spec for spec in SIGNALS}
_ENGLISH_ONLY = frozenset({"stop_words", "stop_word_fraction"})


def signal_schema(names: Sequence[str]) -> pa.Schema:
    """Schema of the named signals, in the order of SIGNALS."""
    wanted = set(names)
    unknown = wanted - BY_NAME.keys()
    if unknown:
        raise KeyError(f"unknown signals {sorted(unknown)}; known are {sorted(BY_NAME)}")
    return pa.schema([pa.field(s.name, s.dtype) for s in SIGNALS if s.name in wanted])


def count(text: pa.StringArray, *, ngrams: bool = True) -> Counts:
    """Counts int64[n, counts.COLUMNS] of n documents; n-gram columns stay 0 without `ngrams`."""
    n = len(text)
    out = np.zeros((n, c.COLUMNS), np.int64)
    if n:
        data, offsets = utf8(text)
        kernel_repeats.measure(data, offsets, *kernel_text.tables(), ngrams, out)
    return out


def compute_signals(
    text: pa.StringArray, language: pa.StringArray | None, names: Sequence[str]
) -> pa.RecordBatch:
    """The named signals of each document, as columns in the order of SIGNALS.

    language: BCP-47 tags, null where unknown, or None; the stop words are English, so that their
    signals are null for documents known to be in another language. N-grams cost more than
    half of the time and are counted only if a signal needs them.
    """
    schema = signal_schema(names)
    specs = [BY_NAME[name] for name in schema.names]
    counts = count(text, ngrams=any(s.count >= c.FIRST_NGRAM_COLUMN for s in specs))
    foreign = _foreign(language)
    columns = []
    for spec in specs:
        null = None
        if spec.name == "mean_word_length":
            null = 2 * counts[:, c.UNSPACED_WORDS] > counts[:, c.WORDS]
        elif spec.name in _ENGLISH_ONLY:
            null = foreign
        columns.append(pa.array(_value(spec, counts), spec.dtype, mask=null))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def warm() -> None:
    """Compile the kernels."""
    compute_signals(pa.array(["a b\n\na b"]), None, [s.name for s in SIGNALS])


def _value(spec: SignalSpec, counts: Counts) -> npt.NDArray[np.int64] | npt.NDArray[np.float64]:
    numerator = counts[:, spec.count]
    if spec.divisor is None:
        return numerator
    denominator = counts[:, spec.divisor]
    if spec.less is not None:
        denominator = denominator - counts[:, spec.less]
    ratio: npt.NDArray[np.float64] = np.where(
        denominator == 0, 0.0, numerator / np.maximum(denominator, 1)
    )
    return ratio


def _foreign(language: pa.StringArray | None) -> npt.NDArray[np.bool_] | None:
    """Which documents are known to be in another language than English."""
    if language is None:
        return None
    english = pc.or_(pc.equal(language, "en"), pc.starts_with(language, "en-"))
    foreign: npt.NDArray[np.bool_] = (
        pc.fill_null(pc.invert(english), False).to_numpy(zero_copy_only=False).astype(np.bool_)
    )
    return foreign
