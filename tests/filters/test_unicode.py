"""The code-point table against `unicodedata` and the regex library's script properties."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest

from filters import unicode as u
from filters import unicode_table

regex = pytest.importorskip("regex")
FLAGS = u.classes()
ASSIGNED = [
    code
    for code in range(u.CODE_POINTS)
    if not 0xD800 <= code < 0xE000 and unicodedata.category(chr(code)) not in ("Cn", "Co")
]
CATEGORIES = {
    "L": u.LETTER,
    "M": u.MARK,
    "N": u.NUMBER,
    "P": u.PUNCTUATION,
    "S": u.SYMBOL,
}


def same_table() -> bool:
    return unicodedata.unidata_version == u.VERSION


def test_classes_are_unicode_data() -> None:
    """Equal on the pinned version; elsewhere categories are stable but for a few corrections."""
    wrong = []
    for code in ASSIGNED:
        category = unicodedata.category(chr(code))
        expected = CATEGORIES.get(category[0], 0)
        known = int(FLAGS[code]) & sum(CATEGORIES.values())
        upper = bool(FLAGS[code] & u.UPPERCASE) == (category in ("Lu", "Lt"))
        digit = bool(FLAGS[code] & u.DIGIT) == (category == "Nd")
        space = bool(FLAGS[code] & u.WHITESPACE) == chr(code).isspace()
        if not (known == expected and upper and digit and space):
            wrong.append(code)
    newer = [code for code in wrong if FLAGS[code] == 0]  # assigned after the pinned version
    assert len(wrong) - len(newer) <= (0 if same_table() else 10)
    if unicodedata.unidata_version < u.VERSION:
        assert newer == []


def test_letters_marks_and_numbers_of_the_pinned_version() -> None:
    assert int(np.count_nonzero(FLAGS & (u.LETTER | u.MARK | u.NUMBER))) == 141_007


@pytest.mark.skipif(not same_table(), reason="needs the Python whose Unicode version is pinned")
def test_committed_table_is_what_the_script_makes() -> None:
    table = unicode_table.build()
    assert np.array_equal(table["flags"], u.classes())
    codes = np.arange(u.CODE_POINTS)
    assert np.array_equal(table["lower"] + codes, u.lowercase())
    assert np.array_equal(table["base"] + codes, u.base_letters())


def test_unspaced_scripts() -> None:
    """Letters, marks and numbers of six scripts, as the regex library has their Script property."""
    script = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]")
    word = u.LETTER | u.MARK | u.NUMBER
    ours = {code for code in ASSIGNED if FLAGS[code] & u.UNSPACED}
    theirs = {code for code in ASSIGNED if script.match(chr(code)) and FLAGS[code] & word}
    # Marks of length and voicing that the two syllabaries share, and the closing mark, are Common
    # for the library since more than one script uses them.
    shared = {0x3006, 0x30FC, 0xFF70, 0xFF9E, 0xFF9F}
    assert ours - theirs <= shared
    assert theirs - ours == set()


def test_sentence_ends() -> None:
    """The property Sentence_Terminal, which the regex library has in a newer version."""
    terminal = regex.compile(r"\p{Sentence_Terminal}")
    theirs = {code for code in ASSIGNED if terminal.match(chr(code))}
    ours = {code for code in ASSIGNED if FLAGS[code] & u.SENTENCE_END}
    assert {hex(code) for code in ours - theirs} == {"0x17d6", "0x17d9", "0x17da"}
    newer = {0x1B4E, 0x1B4F, 0x1B7F, 0x2024, 0x2CF9, 0x2CFA, 0x2CFB, 0x2E60, 0x2E61}
    newer |= {0xFE12, 0xFE15, 0xFE16, 0x113D4, 0x113D5, 0x16D6E, 0x16D6F}
    assert theirs - ours <= newer
    for char in ".!?。！？｡؟।॥።":
        assert FLAGS[ord(char)] & u.SENTENCE_END


def test_lower_case() -> None:
    lower = u.lowercase()
    different = [
        code
        for code in ASSIGNED
        if chr(lower[code]) != chr(code).lower() and FLAGS[code] and chr(code) != "\u0130"
    ]
    assert len(different) <= (0 if same_table() else 5)
    assert lower[0x130] == ord("i")


def test_base_letters() -> None:
    base = u.base_letters()
    for char, expected in {"é": "e", "Å": "A", "ṩ": "s", "が": "か", "한": "한", "ß": "ß"}.items():
        assert chr(base[ord(char)]) == expected
    for code in ASSIGNED[::7]:
        decomposed = unicodedata.normalize("NFD", chr(code))
        if FLAGS[code] and all(unicodedata.category(c)[0] == "M" for c in decomposed[1:]):
            assert chr(base[code]) == decomposed[0]


def test_folding_twice_is_folding_once() -> None:
    folded = u.folded()
    assert np.array_equal(folded[folded], folded)
    assert "".join(chr(folded[ord(c)]) for c in "ÉCOLE Ünïcode") == "ecole unicode"


def test_arrays_are_shared_and_read_only() -> None:
    for table in (u.classes, u.lowercase, u.base_letters, u.folded):
        assert table() is table()
        assert table().shape == (u.CODE_POINTS,)
        assert not table().flags.writeable
