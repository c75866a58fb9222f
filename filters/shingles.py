r"""What documents are compared by: words, shingles of words, and the public hash of a shingle.

This module is the definition, in plain Python; `filters.minhash` computes the same in one native
pass. With it anybody can rebuild our signatures with datasketch 2.0 or newer::

    MinHash(num_perm=112, scheme="affine64", hashfunc=shingle_hash)
    m.update_batch(shingles(text))

Words (`words="gristmill"`). Text is cut at everything but letters, numbers and marks. Letters are
lower-cased one by one (simple mapping) and lose their diacritics: a letter counts as the base of
its canonical decomposition, a combining mark of the blocks in `STRIPPED` is skipped, and so are
invisible format characters inside words (soft hyphen, joiners, directional marks). Vowel signs of
Indic scripts stay: there they are letters. In unspaced scripts (Han, Kana, Thai, Lao, Khmer,
Myanmar) every code point is a word.

Words (`words="regex"`). The runs that Python's `\w+` matches, each code point lower-cased by the
simple mapping.

Shingle. n consecutive words joined by one space, in UTF-8; a document of fewer than n words, but at
least one, has a single shingle of all its words. The shingles of a document are a set.

Hash of a shingle w_1 ... w_k:  sum over i of H(w_i) * P ** (k - i)  mod 2 ** 64, P =
0x9E3779B97F4A7C15. It rolls: the next shingle costs one step for any n. H takes the bytes of a word
eight at a time, as little-endian integers c (the last one filled up with zeros): h = fmix64(h ^ c)
from h = 0, with the 64-bit finalizer of MurmurHash3 (Appleby, public domain).
"""

from __future__ import annotations

from functools import cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from filters import unicode

WordRule = Literal["gristmill", "regex"]

MASK = (1 << 64) - 1
FMIX_1 = 0xFF51AFD7ED558CCD
FMIX_2 = 0xC4CEB9FE1A85EC53
SHINGLE_BASE = 0x9E3779B97F4A7C15

# Entries of a word table that are no letter.
SEPARATOR = 0  # the kernels rely on this being 0
IGNORED = 1
UNSPACED = 1 << 31  # flag beside the code point: a word of its own

# Blocks whose combining marks (general categories Mn and Me) are diacritics or variation selectors.
STRIPPED = (
    (0x0300, 0x036F),  # combining diacritical marks
    (0x0483, 0x0489),  # Cyrillic titlo and number signs
    (0x0591, 0x05C7),  # Hebrew points and accents
    (0x0610, 0x061A),  # Arabic signs
    (0x064B, 0x065F),  # Arabic vowel marks
    (0x0670, 0x0670),
    (0x06D6, 0x06ED),  # Koranic annotation
    (0x0711, 0x0711),  # Syriac
    (0x0730, 0x074A),
    (0x08CA, 0x08FF),  # Arabic extended
    (0x1AB0, 0x1AFF),
    (0x1DC0, 0x1DFF),
    (0x20D0, 0x20FF),
    (0x302A, 0x302F),  # ideographic tone marks
    (0x3099, 0x309A),  # kana voicing
    (0xFE00, 0xFE0F),  # variation selectors
    (0xFE20, 0xFE2F),
    (0xE0100, 0xE01EF),
)
# Format characters that may stand inside a word; U+200B separates, so it is not among them.
INVISIBLE = (
    (0x00AD, 0x00AD),
    (0x061C, 0x061C),
    (0x180E, 0x180E),
    (0x200C, 0x200F),
    (0x202A, 0x202E),
    (0x2060, 0x2064),
    (0x2066, 0x206F),
    (0xFEFF, 0xFEFF),
)


def _in(ranges: tuple[tuple[int, int], ...]) -> npt.NDArray[np.bool_]:
    mask = np.zeros(0x110000, np.bool_)
    for first, last in ranges:
        mask[first : last + 1] = True
    return mask


@cache
def word_table(words: WordRule) -> npt.NDArray[np.uint32]:
    """uint32[0x110000]: for each code point SEPARATOR, IGNORED, or the code point that it counts
    as, with the flag UNSPACED where it is a word of its own."""
    flags = unicode.classes()
    letter = (flags & unicode.LETTER) != 0
    word = (flags & (unicode.LETTER | unicode.NUMBER | unicode.MARK)) != 0
    if words == "regex":
        table = unicode.lowercase().astype(np.uint32)
        word &= (flags & unicode.MARK) == 0
        word[ord("_")] = True
    else:
        stripped = _in(STRIPPED) & ((flags & unicode.MARK) != 0)
        # Of marks, only the mark itself: a composed Indic vowel sign is not its first half.
        table = np.where(letter, unicode.folded(), unicode.lowercase()).astype(np.uint32)
        table[(flags & unicode.UNSPACED) != 0] |= np.uint32(UNSPACED)
    table[~word] = SEPARATOR
    if words == "gristmill":
        table[stripped | _in(INVISIBLE)] = IGNORED
    table.flags.writeable = False
    return table


def words_of(text: str, words: WordRule = "gristmill") -> list[str]:
    """The normalised words of a text, in order."""
    table = word_table(words)
    found: list[str] = []
    letters: list[str] = []
    for char in text:
        entry = int(table[ord(char)])
        if entry == IGNORED:
            continue
        if (entry == SEPARATOR or entry & UNSPACED) and letters:
            found.append("".join(letters))
            letters = []
        if entry & UNSPACED:
            found.append(chr(entry ^ UNSPACED))
        elif entry != SEPARATOR:
            letters.append(chr(entry))
    if letters:
        found.append("".join(letters))
    return found


def shingles(text: str, ngram: int = 5, words: WordRule = "gristmill") -> list[bytes]:
    """The shingles of a text in order of first occurrence; empty if the text has no word."""
    cut = words_of(text, words)
    if not cut:
        return []
    grams = (" ".join(cut[i : i + ngram]) for i in range(max(1, len(cut) - ngram + 1)))
    return [gram.encode() for gram in dict.fromkeys(grams)]


def shingle_hash(shingle: bytes) -> int:
    """The public 64-bit hash of a shingle; usable as datasketch's `hashfunc`."""
    total = 0
    for word in shingle.split(b" "):
        total = (total * SHINGLE_BASE + _word_hash(word)) & MASK
    return total


def _word_hash(word: bytes) -> int:
    value = 0
    for i in range(0, len(word), 8):
        value = _fmix64(value ^ int.from_bytes(word[i : i + 8], "little"))
    return value


def _fmix64(value: int) -> int:
    value ^= value >> 33
    value = (value * FMIX_1) & MASK
    value ^= value >> 33
    value = (value * FMIX_2) & MASK
    return value ^ (value >> 33)
