"""Makes code_points.npz, the table behind filters/unicode.py.

    python -m filters.unicode_table

Only an interpreter whose `unicodedata` has the pinned version may write it (Python 3.13 has 15.1),
so that the table says the same on every Python that runs Gristmill. Needs nothing but NumPy.
"""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import numpy.typing as npt

VERSION = "15.1.0"
CODE_POINTS = 0x110000
PATH = Path(__file__).with_name("code_points.npz")

# Bit flags of a code point. A code point may have several, or none (unassigned, private use).
LETTER = 1 << 0  # general category L*
MARK = 1 << 1  # M*
NUMBER = 1 << 2  # N*
PUNCTUATION = 1 << 3  # P*
SYMBOL = 1 << 4  # S*
WHITESPACE = 1 << 5  # what str.isspace() says: White_Space and U+001C..U+001F
UPPERCASE = 1 << 6  # Lu and Lt
UNSPACED = 1 << 7  # letter, mark or number of a script written without spaces between words
SENTENCE_END = 1 << 8  # ends a sentence
CLOSING = 1 << 9  # may stand between a sentence's end and the next: Pe, Pi, Pf and straight quotes
CONTROL = 1 << 10  # Cc and Cf, white space excepted
DIGIT = 1 << 11  # Nd

# Beginnings of the character names of the unspaced scripts; `unicodedata` knows no scripts.
_UNSPACED_NAMES = (
    "CJK UNIFIED IDEOGRAPH",
    "CJK COMPATIBILITY IDEOGRAPH",
    "IDEOGRAPHIC ITERATION MARK",
    "VERTICAL IDEOGRAPHIC ITERATION MARK",
    "IDEOGRAPHIC CLOSING MARK",
    "IDEOGRAPHIC NUMBER ZERO",
    "HANGZHOU NUMERAL",
    "OLD CHINESE ITERATION MARK",
    "VIETNAMESE ALTERNATE READING MARK",
    "HIRAGANA ",
    "HENTAIGANA ",
    "KATAKANA ",
    "KATAKANA-HIRAGANA ",
    "HALFWIDTH KATAKANA",
    "THAI ",
    "LAO ",
    "KHMER ",
    "MYANMAR ",
)

# The property Sentence_Terminal (Unicode 15.1, PropList.txt; not in `unicodedata`) without the
# one-dot leader, and with the Khmer signs that FineWeb's list of terminal punctuation has too.
_SENTENCE_ENDS = """
21 2E 3F 589 61D-61F 6D4 700-702 7F9 837 839 83D-83E 964-965 104A-104B 1362 1367-1368 166E
1735-1736 17D4-17D6 17D9-17DA 1803 1809 1944-1945 1AA8-1AAB 1B5A-1B5B 1B5E-1B5F 1B7D-1B7E
1C3B-1C3C 1C7E-1C7F 203C-203D 2047-2049 2E2E 2E3C 2E53-2E54 3002 A4FF A60E-A60F A6F3 A6F7
A876-A877 A8CE-A8CF A92F A9C8-A9C9 AA5D-AA5F AAF0-AAF1 ABEB FE52 FE56-FE57 FF01 FF0E FF1F FF61
10A56-10A57 10F55-10F59 10F86-10F89 11047-11048 110BE-110C1 11141-11143 111C5-111C6 111CD
111DE-111DF 11238-11239 1123B-1123C 112A9 1144B-1144C 115C2-115C3 115C9-115D7 11641-11642
1173C-1173E 11944 11946 11A42-11A43 11A9B-11A9C 11C41-11C42 11EF7-11EF8 11F43-11F44 16A6E-16A6F
16AF5 16B37-16B38 16B44 16E98 1BC9F 1DA88
"""

_MAJOR = {"L": LETTER, "M": MARK, "N": NUMBER, "P": PUNCTUATION, "S": SYMBOL}
_MINOR = {
    "Lu": UPPERCASE,
    "Lt": UPPERCASE,
    "Nd": DIGIT,
    "Pe": CLOSING,
    "Pi": CLOSING,
    "Pf": CLOSING,
}


def sentence_ends() -> frozenset[int]:
    """The code points of SENTENCE_END."""
    found: set[int] = set()
    for item in _SENTENCE_ENDS.split():
        first, _, last = item.partition("-")
        found.update(range(int(first, 16), int(last or first, 16) + 1))
    return frozenset(found)


def _flags(char: str) -> int:
    category = unicodedata.category(char)
    flags = _MAJOR.get(category[0], 0) | _MINOR.get(category, 0)
    if char.isspace():
        flags |= WHITESPACE
    elif category in ("Cc", "Cf"):
        flags |= CONTROL
    if char in "\"'":
        flags |= CLOSING
    if flags & (LETTER | MARK | NUMBER) and unicodedata.name(char, "").startswith(_UNSPACED_NAMES):
        flags |= UNSPACED
    return flags


def _lower(char: str) -> int:
    """Simple lower case: one code point to one (U+0130 is the only one with a longer full form)."""
    return ord(char.lower()[0])


def _base(char: str) -> int:
    """The first code point of the canonical decomposition if only marks follow, else `char`."""
    decomposed = unicodedata.normalize("NFD", char)
    marks_follow = all(unicodedata.category(c)[0] == "M" for c in decomposed[1:])
    return ord(decomposed[0]) if marks_follow else ord(char)


def build() -> dict[str, npt.NDArray[np.generic]]:
    """Flags, and the lower-case and base-letter mappings as differences to the code point."""
    flags = np.zeros(CODE_POINTS, np.uint16)
    lower = np.zeros(CODE_POINTS, np.int32)
    base = np.zeros(CODE_POINTS, np.int32)
    for code in range(CODE_POINTS):
        if 0xD800 <= code < 0xE000:  # surrogates do not occur in UTF-8
            continue
        char = chr(code)
        flags[code] = _flags(char)
        lower[code] = _lower(char) - code
        base[code] = _base(char) - code
    flags[sorted(sentence_ends())] |= SENTENCE_END
    return {"version": np.array(VERSION), "flags": flags, "lower": lower, "base": base}


def main() -> None:
    """Write the table next to this file."""
    if unicodedata.unidata_version != VERSION:
        found = unicodedata.unidata_version
        raise SystemExit(f"needs a Python with Unicode {VERSION}, this one has {found}")
    np.savez_compressed(PATH, allow_pickle=False, **build())


if __name__ == "__main__":
    main()
