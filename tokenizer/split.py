"""Where pretokens end: the Llama-3 and GPT-2 regexes and SentencePiece's word rule as kernels.

The regexes, as HF tokenizers' `Split(Regex(...), "isolated")` applies them to a whole document:

    llama3  (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}
            | ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+
    gpt2    's|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+

Both match every character of any text, so pretokens are the text cut in pieces, and what cuts it is
nearly a finite automaton over code-point classes: `_rules` has it as a table of states. Two things
need a look ahead and are done apart: a contraction after an apostrophe, and two or more white-space
characters in a row, the last of which may belong to what follows. No code point is read more than
three times.
"""

from __future__ import annotations

from functools import cache

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numpy import uint64 as U

from schemas.text import utf8
from tokenizer.codepoints import (
    APOSTROPHE,
    BLANK,
    LETTER,
    NEWLINE,
    NUMBER,
    OTHER,
    SPACE,
    classes,
)

LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
PATTERNS = {"llama3": LLAMA3_PATTERN, "gpt2": GPT2_PATTERN}

# SentencePiece holds positions in a word in 16 bits; longer words are cut.
MAX_WORD_BYTES = 16_384

LLAMA3, GPT2, WHITESPACE = range(3)
RULES = {"llama3": LLAMA3, "gpt2": GPT2, "whitespace": WHITESPACE}

# What the pretoken so far is: nothing, letters, one to three numbers, one other character that may
# still be the prefix of letters, others, newlines after others, one blank, one other space,
# newlines.
_START, _L, _N1, _N2, _N3, _O1, _O2, _ON, _B, _S, _NL = range(11)
_CUT, _SLOW = 16, 32  # the pretoken ends before this code point; look ahead


@cache
def _rules(rule: int) -> npt.NDArray[np.uint8]:
    """uint8[state * 8 + class]: next state, with _CUT or _SLOW."""
    llama = rule == LLAMA3
    first = {
        OTHER: _O1 if llama else _O2, LETTER: _L, NUMBER: _N1, SPACE: _S, NEWLINE: _NL, BLANK: _B,
    }  # fmt: skip
    table = np.full((11, 8), _SLOW, dtype=np.uint8)
    for state in range(11):
        for kind, following in first.items():
            table[state, kind] = following | (_CUT if state != _START else 0)
    for state in (_B, _S, _NL):
        table[state, [SPACE, NEWLINE, BLANK]] = _SLOW
    table[_L, LETTER] = table[_B, LETTER] = _L
    table[_O2, [OTHER, APOSTROPHE]] = table[_B, [OTHER, APOSTROPHE]] = _O2
    if llama:
        table[_N1, NUMBER], table[_N2, NUMBER] = _N2, _N3
        table[[_O1, _S], LETTER] = _L
        table[_O1, [OTHER, APOSTROPHE]] = _O2
        table[[_O1, _O2, _ON], NEWLINE] = _ON
        table[_NL, NEWLINE] = _NL
    else:
        table[_N1, NUMBER] = table[_B, NUMBER] = _N1
    table.flags.writeable = False
    return table.reshape(-1)


@numba.njit(nogil=True, cache=True)
def _kind(buffer, i, table):  # type: ignore[no-untyped-def]
    """Class of the code point at i of valid UTF-8, and its length in bytes.

    Indices are uint64 in these kernels: signed ones make Numba test for negative indices.
    """
    b = np.uint64(buffer[i])
    if b < U(0x80):
        return table[b], U(1)
    tail = np.uint64(buffer[i + U(1)]) & U(0x3F)
    if b < U(0xE0):
        return table[(b & U(0x1F)) << U(6) | tail], U(2)
    tail = tail << U(6) | (np.uint64(buffer[i + U(2)]) & U(0x3F))
    if b < U(0xF0):
        return table[(b & U(0x0F)) << U(12) | tail], U(3)
    tail = tail << U(6) | (np.uint64(buffer[i + U(3)]) & U(0x3F))
    return table[(b & U(0x07)) << U(18) | tail], U(4)


@numba.njit(nogil=True, cache=True)
def _contraction(buffer, i, end, fold):  # type: ignore[no-untyped-def]
    """End of 's, 't, 're, 've, 'm, 'll or 'd at the apostrophe i, or i if there is none.

    With `fold` case is ignored as Unicode does: U+017F, the long s, is an s too.
    """
    if i + U(1) >= end:
        return i
    bit = np.uint8(0x20) if fold else np.uint8(0)
    a = buffer[i + U(1)] | bit
    if a == 0x73 or a == 0x74 or a == 0x6D or a == 0x64:  # s t m d
        return i + U(2)
    if i + U(2) >= end:
        return i
    b = buffer[i + U(2)]
    if fold and buffer[i + U(1)] == 0xC5 and b == 0xBF:
        return i + U(3)
    b |= bit
    if ((a == 0x72 or a == 0x76) and b == 0x65) or (a == 0x6C and b == 0x6C):  # re ve ll
        return i + U(3)
    return i


@numba.njit(nogil=True, cache=True)
def _spaces(buffer, i, end, table, newlines):  # type: ignore[no-untyped-def]
    """End of the pretoken at i, the first of a run of white space that no other rule took.

    With `newlines` (\\s*[\\r\\n]+ comes first) it ends after the run's last CR or LF, if any.
    Otherwise the run's last character is left to what follows, unless it is the only one.
    """
    start, last, after_newline = i, i, i
    while True:
        if i >= end:
            last = end
            break
        kind, length = _kind(buffer, i, table)
        if kind < SPACE or kind == APOSTROPHE:
            break
        last = i
        i += length
        if kind == NEWLINE:
            after_newline = i
    if newlines and after_newline > start:
        return after_newline
    return last if last > start else i


@numba.njit(nogil=True, cache=True)
def _word_end(buffer, i, end):  # type: ignore[no-untyped-def]
    """End of SentencePiece's word at i, and whether it is one.

    A word is a run of spaces, then everything up to the next space. Newlines end a sentence; a tab,
    or U+2581 (its sign for a space) in the text itself, can be in no piece. These separate words
    and are in none.
    """
    start = i
    spaces = True
    while i < end:
        b = buffer[i]
        if b == 0x20:
            if not spaces:
                return i, True
        else:
            length = U(1)
            if b == 0xE2 and buffer[i + U(1)] == 0x96 and buffer[i + U(2)] == 0x81:
                length = U(3)
            if b == 0x0A or b == 0x09 or length == U(3):
                return (i + length, False) if i == start else (i, True)
            spaces = False
        i += U(1)
        # 0b10xxxxxx continues a code point
        if i - start >= U(MAX_WORD_BYTES) and (i >= end or (buffer[i] & 0xC0) != 0x80):
            break
    return i, True


@numba.njit(nogil=True, cache=True)
def find_ends(buffer, i, end, table, rules, rule, ends, n):  # type: ignore[no-untyped-def]
    """Ends of the pretokens of one text, or of as many as there is room for.

    buffer: uint8[bytes], valid UTF-8; i, end: uint64, the text; table: classes(); rules:
    rule_table(rule). Writes to ends: int64, from n on. Each pretoken begins where the one before
    ends; what ends at -e is no pretoken but a separator that ends at e. Returns where the last one
    ended, and the new n.
    """
    room = ends.size - 2
    if rule == WHITESPACE:
        while i < end and n < room:
            i, counts = _word_end(buffer, i, end)
            ends[n] = i if counts else -np.int64(i)
            n += 1
        return i, n
    start = i
    state = np.uint8(_START)
    while i < end and n < room:
        kind, length = _kind(buffer, i, table)
        rule_found = rules[U(state) << U(3) | U(kind)]
        if rule_found < _SLOW:
            cut = rule_found >> 4
            ends[n] = i
            n += np.int64(cut)
            start = i if cut else start
            state = rule_found & np.uint8(15)
            i += length
            continue
        if kind == APOSTROPHE:
            if i > start:
                ends[n] = i
                n += 1
            start = i
            i = _contraction(buffer, i, end, rule == LLAMA3)
            if i == start:  # a character like others
                state = np.uint8(_O1 if rule == LLAMA3 else _O2)
                i += U(1)
                continue
        else:
            i = _spaces(buffer, start, end, table, rule == LLAMA3)
        ends[n] = i
        n += 1
        start = i
        state = np.uint8(_START)
    if i >= end and start < end and n < ends.size:
        ends[n] = end
        n += 1
        start = end
    return start, n


def rule_table(rule: int) -> npt.NDArray[np.uint8]:
    """What `find_ends` needs for a rule of RULES."""
    return _rules(GPT2 if rule == WHITESPACE else rule)


def split(text: pa.StringArray, pretokenizer: str) -> pa.ListArray:
    """Pretokens of each text, as list<string>; for looking and for tests, not for counting."""
    rule = RULES[pretokenizer]
    buffer, offsets = utf8(text)
    pretokens: list[str] = []
    bounds = [0]
    for first, end in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        ends = np.empty(end - first + 2, dtype=np.int64)
        _, n = find_ends(buffer, U(first), U(end), classes(), rule_table(rule), rule, ends, 0)
        for bound in ends[:n].tolist():
            if bound > 0:
                pretokens.append(buffer[first:bound].tobytes().decode())
            first = abs(bound)
        bounds.append(len(pretokens))
    return pa.ListArray.from_arrays(pa.array(bounds, pa.int32()), pa.array(pretokens, pa.string()))
