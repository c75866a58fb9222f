"""What Gristmill knows about code points, pinned to one Unicode version.

`unicodedata` differs from one Python to the next, so the kernels read a committed table
(code_points.npz, made by filters/unicode_table.py). Every function returns the same read-only
array each time, indexed by code point; hand it to kernels as an argument, since a global array
would be copied into the compiled code.

    flags = classes()
    if flags[code] & (LETTER | NUMBER): ...
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from filters.unicode_table import (
    CLOSING,
    CODE_POINTS,
    CONTROL,
    DIGIT,
    LETTER,
    MARK,
    NUMBER,
    PATH,
    PUNCTUATION,
    SENTENCE_END,
    SYMBOL,
    UNSPACED,
    UPPERCASE,
    VERSION,
    WHITESPACE,
)

__all__ = [
    "CLOSING",
    "CODE_POINTS",
    "CONTROL",
    "DIGIT",
    "LETTER",
    "MARK",
    "NUMBER",
    "PUNCTUATION",
    "SENTENCE_END",
    "SYMBOL",
    "UNSPACED",
    "UPPERCASE",
    "VERSION",
    "WHITESPACE",
    "base_letters",
    "classes",
    "folded",
    "lowercase",
]


def _table(name: str) -> npt.NDArray[np.int32]:
    with np.load(PATH, allow_pickle=False) as table:
        if str(table["version"]) != VERSION:
            raise ValueError(f"{PATH.name} has Unicode {table['version']}, expected {VERSION}")
        array: npt.NDArray[np.int32] = table[name].astype(np.int32)
    return array


def _mapping(name: str) -> npt.NDArray[np.int32]:
    return np.arange(CODE_POINTS, dtype=np.int32) + _table(name)


def _frozen(array: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    array.setflags(write=False)
    return array


@lru_cache(maxsize=1)
def classes() -> npt.NDArray[np.uint16]:
    """uint16[0x110000]: the OR of the class flags of each code point; 0 where it has none."""
    flags = _table("flags").astype(np.uint16)
    flags.setflags(write=False)
    return flags


@lru_cache(maxsize=1)
def lowercase() -> npt.NDArray[np.int32]:
    """int32[0x110000]: simple lower-case mapping, one code point to one; identity elsewhere."""
    return _frozen(_mapping("lower"))


@lru_cache(maxsize=1)
def base_letters() -> npt.NDArray[np.int32]:
    """int32[0x110000]: precomposed letters without their marks (é -> e), identity elsewhere.

    This is the first code point of the canonical decomposition where only marks follow it; Hangul
    syllables stay whole. Marks that stand alone have the class MARK and map to themselves.
    """
    return _frozen(_mapping("base"))


@lru_cache(maxsize=1)
def folded() -> npt.NDArray[np.int32]:
    """int32[0x110000]: lower case, then without marks: É -> e. Folding twice changes nothing."""
    return _frozen(lowercase()[base_letters()[lowercase()]])
