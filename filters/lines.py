"""Transforms of a pass that edit text line by line.

`c4-lines` applies C4's rules for lines as its released code (TensorFlow Datasets, c4_utils.py) and
datatrove's C4QualityFilter do, in their order. A line is stripped and then dropped

1. if a word is longer than 1,000 characters;
2. if, once citations ([1], [], [edit], [citation needed]) are cut, it does not end with a terminal
   mark or ends with three dots. Marks are . ? ! " ' as in datatrove, and so that other scripts have
   a chance: every other sentence end of Unicode, and the closing quotes U+2019, U+201D, U+00BB,
   U+300D and U+300F (the paper says "end quotation mark");
3. if it has fewer than `min_words` words, counted before citations are cut: 3 in datatrove and the
   first version of the paper, 5 in the released code and the final version;
4. if it says "javascript", unless it also says "lorem ipsum";
5. if it has a terms, privacy or cookies phrase, unless it has a { (or says "lorem ipsum").

Lines with "lorem ipsum" or { stay because their page falls, by the rules of the suite `c4`. Words
are those of signals.py. What is left is joined by LF, without white space at either end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pyarrow as pa
from numba import njit

from filters import kernel_blocks as kb
from filters import kernel_text as kt
from filters import kernel_words as kw
from schemas.text import utf8

MIN_WORDS = 3
MAX_WORD_CHARACTERS = 1000

_BLOCK = 60  # bytes of a block of 64 in which a hint can begin
_newlines = kb.class_masks(kb.among(10))
_masks = kb.class_masks(kb.among(0x5B), kb.among(32), *map(kb.letter, "acfijlopsu"))
_EDIT = np.frombuffer(b"edit]", np.uint8)
_NEEDED = np.frombuffer(b"citation needed]", np.uint8)


@kw.inner
def _strip(text, begin, end, kinds, flags):  # type: ignore[no-untyped-def]
    """The span without white space at its ends."""
    while begin < end:
        f, size = kt.class_at(text, begin, kinds, flags)
        if f & kt.WHITESPACE == 0:
            break
        begin += size
    while end > begin:
        at = kt.last_at(text, end)
        if kt.class_at(text, at, kinds, flags)[0] & kt.WHITESPACE == 0:
            break
        end = at
    return begin, end


@kw.inner
def _words(text, begin, end, enough, kinds, flags):  # type: ignore[no-untyped-def]
    """(words of the span, characters of the longest run without white space or unspaced script).

    A span of no more than MAX_WORD_CHARACTERS bytes is read only until it has `enough` words.
    """
    if end - begin > MAX_WORD_CHARACTERS:
        enough = end - begin + 1
    words = chars = longest = 0
    content = False
    after_unit = False
    i = begin
    while i <= end and words < enough:
        size = 1
        f = kt.WHITESPACE
        if i < end:
            f, size = kt.class_at(text, i, kinds, flags)
        if f & (kt.WHITESPACE | kt.UNSPACED):
            unit = f & kt.UNSPACED != 0
            if chars > 0 and (content or not (unit or after_unit)):
                words += 1
            longest = max(longest, chars)
            words += unit
            chars = 0
            content = False
            after_unit = unit
        else:
            chars += 1
            content |= f & kt.CONTENT != 0
        i += size
    return words, longest


@kw.inner
def _citation(text, i, end):  # type: ignore[no-untyped-def]
    """Where the citation that begins at the [ at byte i ends; i if it is none."""
    k = i + 1
    while k < end and 0x30 <= text[k] <= 0x39:
        k += 1
    if k < end and text[k] == 0x5D:
        return k + 1
    for phrase in (_EDIT, _NEEDED):
        if i + 1 + phrase.size <= end:
            same = True
            for j in range(phrase.size):
                if text[i + 1 + j] != phrase[j]:
                    same = False
                    break
            if same:
                return i + 1 + phrase.size
    return i


@kw.inner
def _ends_well(text, begin, end, kinds, flags):  # type: ignore[no-untyped-def]
    """Whether the span ends with a terminal mark and not with three dots."""
    if end <= begin:
        return False
    at = kt.last_at(text, end)
    if text[at] < 0x80:
        b = text[at]
        if b == 0x2E:
            return not (end - begin >= 3 and text[end - 2] == 0x2E and text[end - 3] == 0x2E)
        return b == 0x21 or b == 0x3F or b == 0x22 or b == 0x27
    code, _ = kt.decode(text, at)
    if code in (0xBB, 0x2019, 0x201D, 0x300D, 0x300F):
        return True
    return flags[kinds[code]] & kt.SENTENCE_END != 0


@kw.inner
def _line_end(text, at):  # type: ignore[no-untyped-def]
    """Where the first line feed from `at` on is; there is one behind every document."""
    while True:
        (found,) = _newlines(text, at)
        if found:
            return at + np.int64(kb.lowest(found))
        at += 64


@kw.inner
def _plain(text, begin, end):  # type: ignore[no-untyped-def]
    """Whether the span has no [ and no hint of a phrase."""
    for at in range(begin, end, _BLOCK):
        bracket, blank, a, c, f, i, j, l, o, p, s, u = _masks(text, at)  # noqa: E741
        found = bracket | kw.hints(a, c, f, i, j, l, o, p, s, u, blank)
        if found << np.uint64(64 - min(_BLOCK, end - at)):
            return False
    return True


@njit(nogil=True, cache=True)
def _keep_lines(all_text, offsets, kinds, flags, min_words, out, out_offsets):  # type: ignore[no-untyped-def]
    """Write the lines that stay; out must hold as many bytes as the documents have."""
    longest = 0
    for doc in range(offsets.size - 1):
        longest = max(longest, np.int64(offsets[doc + 1]) - np.int64(offsets[doc]))
    text = np.empty(longest + 3 * kt.PADDING, np.uint8)
    to = 0
    out_offsets[0] = 0
    for doc in range(offsets.size - 1):
        doc_end = kt.copy_document(
            all_text, np.int64(offsets[doc]), np.int64(offsets[doc + 1]), text
        )
        at = np.int64(kt.PADDING)
        doc_to = to
        while at < doc_end:
            stop = _line_end(text, at)
            begin, end = _strip(text, at, stop, kinds, flags)
            at = stop + 1
            # A citation at the end has to be cut before its end can be judged.
            if begin == end or (
                text[end - 1] != 0x5D and not _ends_well(text, begin, end, kinds, flags)
            ):
                continue
            words, longest_word = _words(text, begin, end, min_words, kinds, flags)
            if words < min_words or longest_word > MAX_WORD_CHARACTERS:
                continue
            if text[end - 1] != 0x5D and _plain(text, begin, end):
                if to > doc_to:
                    out[to] = 0x0A
                    to += 1
                for k in range(end - begin):
                    out[to + k] = text[begin + k]
                to += end - begin
                continue
            # Copy it without citations behind what is already there; it only counts if it stays.
            line = to + (to > doc_to)
            new = line
            found = 0
            curly = False
            i = begin
            while i < end:
                b = text[i]
                if b == 0x5B:
                    after = _citation(text, i, end)
                    if after > i:
                        i = after
                        continue
                out[new] = b
                new += 1
                i += 1
                curly |= b == 0x7B
            if not _ends_well(out, line, new, kinds, flags):
                continue
            for k in range(line, new):
                found |= kw.phrase_at(out, k, line, new)
            if found & kw.HAS_LOREM_IPSUM == 0 and (
                found & kw.HAS_JAVASCRIPT or (found & kw.HAS_POLICY and not curly)
            ):
                continue
            if line > to:
                out[to] = 0x0A
            to = new
        begin, to = _strip(out, doc_to, to, kinds, flags)
        if begin > doc_to:
            for k in range(begin, to):
                out[doc_to + k - begin] = out[k]
            to -= begin - doc_to
        out_offsets[doc + 1] = to


def c4_lines(text: pa.StringArray, min_words: int = MIN_WORDS) -> pa.StringArray:
    """C4's rules for lines, see above; an empty text where no line stays."""
    n = len(text)
    if n == 0:
        return pa.array([], pa.string())
    data, offsets = utf8(text)
    kinds, flags = kt.tables()
    out = np.empty(int(offsets[-1]) - int(offsets[0]), np.uint8)
    out_offsets = np.empty(n + 1, np.int32)
    _keep_lines(data, offsets, kinds, flags, min_words, out, out_offsets)
    return pa.StringArray.from_buffers(
        n, pa.py_buffer(out_offsets), pa.py_buffer(out[: out_offsets[-1]].copy())
    )


TRANSFORMS: Mapping[str, Callable[[pa.StringArray], pa.StringArray]] = {"c4-lines": c4_lines}


def warm() -> None:
    """Compile the kernel."""
    c4_lines(pa.array(["One two three."]))
