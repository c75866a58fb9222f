"""One pass over a document, 64 bytes at a time: characters, words, lines and sentences.

`scan_document` keeps a mask of bits for each class of characters (kernel_blocks.py), so that most
counts are counts of bits. Where words and lines begin and end is left in a workspace for the
duplicate counts of kernel_repeats.py. Its time is linear in the size of the text, whatever the text
is.

Words. White space ends a word. A code point of an unspaced script (Han, Kana, Thai ...) is a word
of its own; every other word is a *run*. A run of punctuation and symbols only that touches such a
code point is part of the punctuation between words, as the comma in "word," is, and no word.
"""

from __future__ import annotations

import numpy as np

from filters import counts as c
from filters import kernel_blocks as kb
from filters import kernel_text as kt
from filters import kernel_words as kw
from filters import unicode as u

SHORT_LINE = 30  # characters; FineWeb's short_line_length

_BREAK = np.uint16(u.WHITESPACE | u.UNSPACED)
_CONTINUES_END = np.uint16(u.SENTENCE_END | u.CLOSING)

_0, _1, _2, _3, _4 = (np.uint64(k) for k in range(5))
_BLOCK = 60  # bytes that a step owns; it sees four more, as many as the longest stop word has

_masks = kb.class_masks(
    kb.among((9, 13), (28, 32)),  # white space
    kb.among(10),
    kb.among((65, 90), (97, 122)),  # letters
    kb.among((65, 90)),
    kb.among((48, 57)),
    kb.among((33, 126)),  # what is no letter, digit or symbol of these is punctuation
    kb.among(36, 43, (60, 62), 94, 96, 124, 126),  # symbols
    kb.among(33, 46, 63),  # . ! ?
    kb.among(35),
    kb.among(123),
    kb.among((0x80, 0xBF)),  # continuation bytes
    kb.among((0x80, 0xFF)),
    kb.among(32),
    *map(kb.letter, "abcdefhijlnopstuvw"),
)


@kw.inner
def _sentence_tail(text, i, kinds, flags):  # type: ignore[no-untyped-def]
    """(where the run of sentence ends and closing marks at i stops, whether space follows)."""
    while True:
        f, size = kt.class_at(text, i, kinds, flags)
        if f & _CONTINUES_END == 0:
            return i, f & kt.WHITESPACE != 0
        i += size


@kw.inner
def _end_line(text, end, first, last, chars, kinds, flags, row):  # type: ignore[no-untyped-def]
    """Count a line that ends at `end`; [first, last) is the line without white space around."""
    row[c.NONBLANK_LINES] += 1
    row[c.SHORT_LINES] += chars <= SHORT_LINE
    b = text[first]
    if b == 0x2D or (b == 0xE2 and text[first + 1] == 0x80 and text[first + 2] == 0xA2):
        row[c.BULLET_LINES] += 1
    if last - first >= 3:
        x, y, z = text[last - 3], text[last - 2], text[last - 1]
        if (x == 0x2E and y == 0x2E and z == 0x2E) or (x == 0xE2 and y == 0x80 and z == 0xA6):
            row[c.ELLIPSIS_LINES] += 1
    if kt.class_at(text, kt.last_at(text, end), kinds, flags)[0] & kt.SENTENCE_END:
        row[c.TERMINAL_LINES] += 1


@kw.inner
def _wide(text, at, left, kinds, flags):  # type: ignore[no-untyped-def]
    """Masks of the non-ASCII characters whose bytes are `left`, and how many are U+2026.

    Of spaces and of unspaced code points all bytes, of the others the first.
    """
    letters = marks = numbers = punctuation = symbols = upper = spaces = ends = _0
    unit_bytes = unit_last = _0
    ellipses = 0
    while left:
        k = kb.lowest(left)
        code, size = kt.decode(text, at + np.int64(k))
        f = np.uint64(flags[kinds[code]])
        whole = ((_1 << np.uint64(size)) - _1) << k
        left &= ~whole
        letters |= (f & _1) << k
        marks |= ((f >> _1) & _1) << k
        numbers |= ((f >> _2) & _1) << k
        upper |= ((f >> np.uint64(6)) & _1) << k
        if f & np.uint64(u.UNSPACED):
            unit_bytes |= whole
            unit_last |= _1 << (k + np.uint64(size) - _1)
        elif f & np.uint64(u.PUNCTUATION):
            punctuation |= _1 << k
            ellipses += code == 0x2026
            if f & np.uint64(u.SENTENCE_END):
                ends |= _1 << k
        elif f & np.uint64(u.SYMBOL):
            symbols |= _1 << k
        elif f & np.uint64(u.WHITESPACE):
            spaces |= whole
    return (
        letters, marks, numbers, punctuation, symbols, upper, spaces, ends, unit_bytes, unit_last,
        ellipses,
    )  # fmt: skip


@kw.inner
def _stop_word(text, i, kinds, flags):  # type: ignore[no-untyped-def]
    """Bit of the stop word at byte i that other characters than letters touch.

    0 if the word it is in has more letters, marks or numbers than these.
    """
    end = i
    key = _0
    while 97 <= (text[end] | 0x20) <= 122:
        key |= np.uint64(text[end] | 0x20) << np.uint64(8 * (end - i))
        end += 1
    while True:
        at = kt.last_at(text, i)
        f, _ = kt.class_at(text, at, kinds, flags)
        if f & _BREAK:
            break
        if f & kt.CONTENT:
            return _0
        i = at
    while True:
        f, size = kt.class_at(text, end, kinds, flags)
        if f & _BREAK:
            return kw.stop_bit(key)
        if f & kt.CONTENT:
            return _0
        end += size


@kw.inner
def scan_document(text, end, kinds, flags, row, begins, ends, lines, keep_words):  # type: ignore[no-untyped-def]
    """Count the document in bytes [kt.PADDING, end) of `text` into `row`.

    Returns (words in the workspace, lines, first and end byte of the text without white space
    around it, the first of them -1 if there is nothing). begins, ends: int32[], the bytes of each
    word, left empty unless `keep_words`; a run that is no word has the end 0. lines: int32[3,
    capacity]; begin, end and 2 * characters + (1 if it is blank) of each line that is not empty.
    """
    letters = numbers = punctuation = symbols = uppercase = spaces = newlines = hashes = curly = 0
    ellipses = sentences = continuation = 0
    runs = units = nonsymbol = run_chars = alphabetic = stop_words = 0
    the = be = to = of = and_ = that = have = with_ = others = _0  # where stop words were seen
    n_begins = n_ends = n_lines = 0
    open_run = open_content = open_letter = open_unit = open_alnum = _0  # at the step's begin
    open_begin = kt.PADDING
    line_begin = dots_end = end_seen = kt.PADDING
    line_skipped = 0  # continuation bytes before the line
    first = doc_first = -1  # begin of the first word or symbol of the line, of the document
    last = kt.PADDING  # end of the last one so far
    pending = False  # content since the last end of a sentence
    phrases = 0  # those in the line so far
    p = kt.PADDING
    while p <= end:  # the line feed at `end` ends the last line
        (
            space, newline, letter, upper, number, graphic, symbol, stop, hash_, bracket, follow,
            high, blank, a, b, c_, d, e, f, h, i, j, l_, n, o, p_, s, t, u_, v, w,
        ) = _masks(text, p)  # fmt: skip
        size = min(_BLOCK, end + 1 - p)
        own = (_1 << np.uint64(size)) - _1
        alnum = letter | number
        punct = graphic & ~(alnum | symbol)
        content = alnum
        unit_bytes = unit_last = _0
        if high & own:
            while text[p + size] & 0xC0 == 0x80:
                size -= 1
            own = (_1 << np.uint64(size)) - _1
            (
                wide_letters, wide_marks, wide_numbers, wide_punct, wide_symbols, wide_upper,
                wide_spaces, wide_ends, unit_bytes, unit_last, wide_ellipses,
            ) = _wide(text, p, high & own, kinds, flags)  # fmt: skip
            letter |= wide_letters
            number |= wide_numbers
            punct |= wide_punct
            symbol |= wide_symbols
            upper |= wide_upper
            space |= wide_spaces
            stop |= wide_ends
            ellipses += wide_ellipses
            content |= wide_letters | wide_marks | wide_numbers
            skipped = kb.ones(follow & own)
            spaces -= kb.ones(wide_spaces & follow)
        else:
            skipped = 0
        letter &= own
        content &= own
        last_bit = np.uint64(size - 1)
        letters += kb.ones(letter)
        numbers += kb.ones(number & own)
        punctuation += kb.ones(punct & own)
        symbols += kb.ones(symbol & own)
        uppercase += kb.ones(upper & own)
        spaces += kb.ones(space & own)
        newlines += kb.ones(newline & own)
        hashes += kb.ones(hash_ & own)
        curly += kb.ones(bracket & own)

        # Runs. Adding a bit to a run of ones carries into the bit after it: that bit says which
        # runs have a letter, or content, wherever in the run it is.
        run = ~(space | unit_bytes) & own
        shifted = (run << _1) | open_run
        begin_bits = run & ~shifted
        end_bits = shifted & ~run & own
        carried = run + (content & run) + open_content
        with_content = carried & ~run & own
        open_content = (carried >> last_bit) >> _1
        carried = run + (letter & run) + open_letter
        alphabetic += kb.ones(carried & ~run & own)
        open_letter = (carried >> last_bit) >> _1
        open_run = run >> last_bit
        runs += kb.ones(end_bits)
        nonsymbol += kb.ones(with_content)
        run_chars += kb.ones(run & ~follow)
        unit_ends = ((unit_last << _1) | open_unit) & own
        if unit_bytes:
            units += kb.ones(unit_bytes & ~follow)
            alphabetic += kb.ones(unit_bytes & letter)
        open_unit = unit_last >> last_bit
        before = n_ends
        if keep_words:
            bits = begin_bits | (unit_bytes & ~follow)
            while bits:
                begins[n_begins] = p + np.int64(kb.lowest(bits))
                bits &= bits - _1
                n_begins += 1
            bits = end_bits | unit_ends
            while bits:
                ends[n_ends] = p + np.int64(kb.lowest(bits))
                bits &= bits - _1
                n_ends += 1
        bits = end_bits & ~with_content
        while bits:  # runs of symbols
            k = kb.lowest(bits)
            bits &= bits - _1
            below = (_1 << k) - _1
            begin = p + kb.highest(begin_bits & below) if begin_bits & below else open_begin
            run_chars -= kt.characters(text, begin, p + np.int64(k))
            if units and (
                (unit_bytes >> k) & _1
                or kt.class_at(text, kt.last_at(text, begin), kinds, flags)[0] & kt.UNSPACED
            ):
                runs -= 1
                if keep_words:
                    ends[before + kb.ones((end_bits | unit_ends) & below)] = 0
        if begin_bits:
            open_begin = p + kb.highest(begin_bits)

        # Stop words between white space; then those that touch punctuation.
        e1, h1, o1, a1 = e >> _1, h >> _1, o >> _1, a >> _1
        is_be, is_to, is_of = b & e1, t & o1, o & (f >> _1)
        is_the, is_and = t & h1 & (e >> _2), a & (n >> _1) & (d >> _2)
        is_that, is_have = t & h1 & (a >> _2) & (t >> _3), h & a1 & (v >> _2) & (e >> _3)
        is_with = w & (i >> _1) & (t >> _2) & (h >> _3)
        alone = begin_bits & (space >> _2)
        be |= is_be & alone
        to |= is_to & alone
        of |= is_of & alone
        found = (is_be | is_to | is_of) & alone
        alone = begin_bits & (space >> _3)
        the |= is_the & alone
        and_ |= is_and & alone
        found |= (is_the | is_and) & alone
        alone = begin_bits & (space >> _4)
        that |= is_that & alone
        have |= is_have & alone
        with_ |= is_with & alone
        found |= (is_that | is_have | is_with) & alone
        stop_words += kb.ones(found)
        bits = (
            (
                ((is_be | is_to | is_of) & ~(alnum >> _2))
                | ((is_the | is_and) & ~(alnum >> _3))
                | ((is_that | is_have | is_with) & ~(alnum >> _4))
            )
            & ~(found | (alnum << _1) | open_alnum)
            & own
        )
        open_alnum = (alnum >> last_bit) & _1
        while bits:
            bit = _stop_word(text, p + np.int64(kb.lowest(bits)), kinds, flags)
            bits &= bits - _1
            stop_words += bit != 0
            others |= bit

        # Ends of lines and sentences, and where a phrase may be, from left to right.
        hints = kw.hints(a, c_, f, i, j, l_, o, p_, s, u_, blank)
        rest = ~space & own
        bits = (newline | stop | hints) & own
        while bits:
            k = kb.lowest(bits)
            bit = _1 << k
            bits &= bits - _1
            at = p + np.int64(k)
            if stop & bit:
                cut = True
                if text[at] < 0x80:
                    cut = False
                    if at >= end_seen:
                        end_seen, cut = _sentence_tail(text, at + 1, kinds, flags)
                    if at >= dots_end and text[at] == 46:
                        if text[at + 1] == 46 and text[at + 2] == 46:
                            ellipses += 1
                            dots_end = at + 3
                if cut:
                    below = bit - _1
                    sentences += pending or content & below != 0
                    pending = False
                    content &= ~below
            elif newline & bit:
                below = bit - _1
                nonblank = rest & below
                rest &= ~below
                if nonblank:
                    if first < 0:
                        first = p + np.int64(kb.lowest(nonblank))
                    last = p + kb.highest(nonblank) + 1
                now_skipped = continuation + kb.ones(follow & below)
                if at > line_begin:
                    chars = (at - line_begin) - (now_skipped - line_skipped)
                    lines[0, n_lines] = line_begin
                    lines[1, n_lines] = at
                    lines[2, n_lines] = 2 * chars + (first < 0)
                    n_lines += 1
                    if first >= 0:
                        if doc_first < 0:
                            doc_first = first
                        _end_line(text, at, first, last, chars, kinds, flags, row)
                        sentences += pending or content & below != 0
                        pending = False
                        content &= ~below
                        if phrases:
                            row[c.LOREM_IPSUM_LINES] += phrases & kw.HAS_LOREM_IPSUM != 0
                            row[c.JAVASCRIPT_LINES] += phrases & kw.HAS_JAVASCRIPT != 0
                            row[c.POLICY_LINES] += phrases & kw.HAS_POLICY != 0
                            phrases = 0
                        first = -1
                if at < end:
                    line_begin = at + 1
                    line_skipped = now_skipped
            else:
                where = at + 2 if text[at] | 0x20 == 0x66 else at
                phrases |= kw.phrase_at(text, where, kt.PADDING, end)
        pending = pending or content != 0
        if rest:
            if first < 0:
                first = p + np.int64(kb.lowest(rest))
            last = p + kb.highest(rest) + 1
        continuation += skipped
        p += size

    row[c.BYTES] = end - kt.PADDING
    row[c.CHARACTERS] = end - kt.PADDING - continuation
    row[c.LETTERS] = letters
    row[c.NUMBERS] = numbers
    row[c.PUNCTUATION] = punctuation
    row[c.SYMBOLS] = symbols
    row[c.UPPERCASE] = uppercase
    row[c.WHITESPACE] = spaces - 1
    row[c.NEWLINES] = newlines - 1
    row[c.HASHES] = hashes
    row[c.CURLY_BRACKETS] = curly
    row[c.ELLIPSES] = ellipses
    row[c.WORDS] = runs + units
    row[c.UNSPACED_WORDS] = units
    row[c.NONSYMBOL_WORDS] = nonsymbol + units
    row[c.NONSYMBOL_WORD_CHARACTERS] = run_chars + units
    row[c.ALPHABETIC_WORDS] = alphabetic
    row[c.STOP_WORDS] = stop_words
    direct = (
        np.uint64(the != 0) | np.uint64(be != 0) << _1 | np.uint64(to != 0) << _2
        | np.uint64(of != 0) << _3 | np.uint64(and_ != 0) << _4
        | np.uint64(that != 0) << np.uint64(5) | np.uint64(have != 0) << np.uint64(6)
        | np.uint64(with_ != 0) << np.uint64(7)
    )  # fmt: skip
    row[c.DISTINCT_STOP_WORDS] = kb.ones(direct | others)
    row[c.SENTENCES] = sentences
    row[c.LINES] = newlines - 1 + (end > line_begin)
    row[c.NONEMPTY_LINES] = n_lines
    return n_begins, n_lines, doc_first, last
