"""Code-point classes that the pretokenizers' regexes are made of, from a pinned table."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import numpy as np
import numpy.typing as npt

# \s is SPACE, NEWLINE (CR and LF only) and BLANK (U+0020 only); APOSTROPHE is U+0027 only.
OTHER, LETTER, NUMBER, SPACE, NEWLINE, BLANK, APOSTROPHE = range(7)

_CODES = {"L": LETTER, "N": NUMBER, "S": SPACE}


@cache
def classes() -> npt.NDArray[np.uint8]:
    """Class of each code point: uint8[0x110000], read-only."""
    table = np.zeros(0x110000, dtype=np.uint8)
    for line in files("tokenizer").joinpath("codepoints.txt").read_text("ascii").splitlines():
        if not line.startswith("#"):
            code, _, span = line.partition(" ")
            first, _, last = span.partition("..")
            table[int(first, 16) : int(last or first, 16) + 1] = _CODES[code]
    table[[0x0A, 0x0D]] = NEWLINE
    table[[0x20, 0x27]] = BLANK, APOSTROPHE
    table.flags.writeable = False
    return table
