"""Words and phrases that the scan looks for: stop words and C4's phrases.

Both are ASCII and found in either case. A phrase is looked for where its last word begins, and only
where `hints` says that this may be.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

# For functions that only kernels call: without the wrappers for other callers they compile a fifth
# faster.
inner = njit(nogil=True, cache=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)

# Gopher (Rae et al. 2021, A1.1) names these eight; compared as lower-case ASCII.
STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
LOREM_IPSUM = b"lorem ipsum"
JAVASCRIPT = b"javascript"
# C4's released code (and datatrove's).
POLICY_PHRASES = (
    b"terms of use",
    b"privacy policy",
    b"cookie policy",
    b"uses cookies",
    b"use of cookies",
    b"use cookies",
)

HAS_LOREM_IPSUM = 1
HAS_JAVASCRIPT = 2
HAS_POLICY = 4


def _phrase(phrase: bytes) -> npt.NDArray[np.uint8]:
    return np.frombuffer(phrase, np.uint8)


_LOREM = _phrase(LOREM_IPSUM)
_JAVASCRIPT = _phrase(JAVASCRIPT)
_TERMS, _PRIVACY, _COOKIE_POLICY, _USES_COOKIES, _USE_OF_COOKIES, _USE_COOKIES = map(
    _phrase, POLICY_PHRASES
)


def _perfect_hash() -> tuple[int, npt.NDArray[np.uint64]]:
    """A multiplier that gives each stop word its own place among 16; places hold word | bit << 32.

    A word is its bytes as a little-endian number.
    """
    words = [int.from_bytes(w.encode(), "little") for w in STOP_WORDS]
    multiplier = 0x9E3779B1
    while len({(w * multiplier & 0xFFFFFFFF) >> 28 for w in words}) < len(words):
        multiplier = (multiplier * 0x2C1B3C6D + 2) & 0xFFFFFFFF | 1
    places = np.zeros(16, np.uint64)
    for k, w in enumerate(words):
        places[(w * multiplier & 0xFFFFFFFF) >> 28] = w | 1 << (32 + k)
    return multiplier, places


_MULTIPLIER, _STOP_PLACES = _perfect_hash()
_LOW = np.uint64(0xFFFFFFFF)


@inner
def contains_at(text, at, begin, end, phrase):  # type: ignore[no-untyped-def]
    """Whether the lower-case ASCII phrase stands at byte `at`, in either case, within bounds."""
    if at < begin or at + phrase.size > end:
        return False
    for k in range(phrase.size):
        byte = text[at + k]
        if 65 <= byte <= 90:
            byte += 32
        if byte != phrase[k]:
            return False
    return True


@inner
def phrase_at(text, i, begin, end):  # type: ignore[no-untyped-def]
    """HAS_* bits of the phrases within [begin, end) whose last word begins at byte i."""
    if i + 3 > end:
        return 0
    first = text[i] | 0x20
    second = text[i + 1] | 0x20
    if first == 0x70 and second == 0x6F:  # policy
        if contains_at(text, i - 8, begin, end, _PRIVACY) or contains_at(
            text, i - 7, begin, end, _COOKIE_POLICY
        ):
            return HAS_POLICY
    elif first == 0x63 and second == 0x6F:  # cookies
        if (
            contains_at(text, i - 4, begin, end, _USE_COOKIES)
            or contains_at(text, i - 5, begin, end, _USES_COOKIES)
            or contains_at(text, i - 7, begin, end, _USE_OF_COOKIES)
        ):
            return HAS_POLICY
    elif first == 0x75 and second == 0x73:  # use
        if contains_at(text, i - 9, begin, end, _TERMS):
            return HAS_POLICY
    elif first == 0x69 and second == 0x70:  # ipsum
        if contains_at(text, i - 6, begin, end, _LOREM):
            return HAS_LOREM_IPSUM
    elif first == 0x6A and second == 0x61 and contains_at(text, i, begin, end, _JAVASCRIPT):
        return HAS_JAVASCRIPT
    return 0


@inner
def stop_bit(key):  # type: ignore[no-untyped-def]
    """1 << index of the stop word with these bytes, or 0."""
    place = _STOP_PLACES[((key * np.uint64(_MULTIPLIER)) & _LOW) >> np.uint64(28)]
    return (place >> np.uint64(32)) * np.uint64(place & _LOW == key)


@inner
def hints(a, c, f, i, j, l, o, p, s, u, blank):  # type: ignore[no-untyped-def]  # noqa: E741
    """Bits where the last word of a phrase may begin, from the masks of letters and of spaces.

    For "use", which is frequent, it is the f of "terms of use", two bytes before.
    """
    one, two = np.uint64(1), np.uint64(2)
    return (
        (j & (a >> one))
        | (p & (o >> one) & (l >> two))
        | (c & (o >> one) & (o >> two))
        | (i & (p >> one) & (s >> two))
        | (f & (blank >> one) & (u >> two))
    )
