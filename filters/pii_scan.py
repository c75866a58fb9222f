"""The cue scan: one pass over a batch's UTF-8 bytes that finds where personal data can be.

A candidate is a place, a kind and a byte range that a recognizer then looks at in its context. The
scan sees everything that a recognizer accepts (no false negatives beyond the recognizers' own) and
little else. It starts work only at '@' and at the first digit of a group of digits, looks a bounded
number of bytes ahead, and is linear in the text whatever it contains.

One compiled kernel and no regular-expression library beneath it: Hyperscan on cues of the same kind
is slower (tests/benchmarks/bench_pii.py measures both), since it hands every match to Python, and
a second engine would have to be kept equal.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

# Bits of `kinds`; the order is also that of the recipe's entity names.
EMAIL, PHONE, IP, CARD, IBAN = 1, 2, 4, 8, 16

# SWIFT IBAN registry: total length by country.
IBAN_LENGTHS = {
    **{"AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22},
    **{"BI": 27, "BR": 29, "BY": 28, "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DJ": 27},
    **{"DK": 18, "DO": 28, "EE": 20, "EG": 29, "ES": 24, "FI": 18, "FK": 18, "FO": 18, "FR": 27},
    **{"GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28, "HN": 28, "HR": 21, "HU": 28},
    **{"IE": 22, "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28},
    **{"LC": 32, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "LY": 25, "MC": 27, "MD": 24, "ME": 22},
    **{"MK": 19, "MN": 20, "MR": 27, "MT": 31, "MU": 30, "NI": 28, "NL": 18, "NO": 15, "OM": 23},
    **{"PK": 24, "PL": 28, "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22, "RU": 33, "SA": 24},
    **{"SC": 31, "SD": 18, "SE": 24, "SI": 19, "SK": 24, "SM": 27, "SO": 23, "ST": 25, "SV": 28},
    **{"TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20, "YE": 30},
}

# Byte classes, as bits.
_DIGIT, _UPPER, _LOWER, _HEX, _GAP, _ATOM, _AT = 1, 2, 4, 8, 16, 32, 64


def _classes() -> npt.NDArray[np.uint8]:
    table = np.zeros(256, np.uint8)
    for characters, bit in (
        (b"0123456789", _DIGIT | _HEX | _ATOM),
        (b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", _UPPER | _ATOM),
        (b"abcdefghijklmnopqrstuvwxyz", _LOWER | _ATOM),
        (b"ABCDEFabcdef", _HEX),
        (b" -./()", _GAP),
        (b"._%+'&=~-", _ATOM),
        (bytes(range(128, 256)), _ATOM),
        (b"@", _AT),
    ):
        for byte in characters:
            table[byte] |= bit
    return table


def _iban_table() -> npt.NDArray[np.uint8]:
    table = np.zeros(26 * 26, np.uint8)
    for country, length in IBAN_LENGTHS.items():
        table[(ord(country[0]) - 65) * 26 + ord(country[1]) - 65] = length
    return table


_CLASS = _classes()
_IBAN = _iban_table()


class Candidates(NamedTuple):
    """Parallel arrays, ordered by place; offsets are bytes in the scanned buffer."""

    document: npt.NDArray[np.int64]
    kind: npt.NDArray[np.uint8]  # one of the bits above
    start: npt.NDArray[np.int64]
    end: npt.NDArray[np.int64]


@njit(nogil=True, cache=True)
def _digits_ahead(data, i, stop, classes):  # type: ignore[no-untyped-def]
    """Digits from i on, over gaps of at most three separators (NBSP too); -> (count, end)."""
    count, end, gap = 0, i, 0
    while i < stop:
        c = classes[data[i]]
        if c & 1:
            count += 1
            gap = 0
            end = i + 1
        elif c & 16 and gap < 3:
            gap += 1
        elif data[i] == 0xC2 and i + 1 < stop and data[i + 1] == 0xA0 and gap < 3:
            gap += 1
            i += 1
        else:
            break
        i += 1
    return count, end


@njit(nogil=True, cache=True)
def _inside_number(data, i, lo, classes):  # type: ignore[no-untyped-def]
    """Whether the digit at i goes on with a decimal, date, path or identifier before it."""
    if i == lo:
        return False
    before = data[i - 1]
    further = data[i - 2] if i - 2 >= lo else 32
    if before == 45 or before == 46:  # - .
        # "1-" and "1." before a North American number; else only "." behind a word
        return further != 49 and (before == 45 or classes[further] & 1 != 0)
    if before == 47 or before == 58 or before == 44:  # / : ,
        return classes[further] & 1 != 0 or (before == 47 and classes[further] & 6 != 0)
    return before in (35, 36, 42, 61, 64, 92, 95)  # # $ * = @ \ _


@njit(nogil=True, cache=True)
def _scan(data, offsets, kinds, classes, iban, documents, found, starts, ends):  # type: ignore[no-untyped-def]
    """Fill the four output arrays; -> number of candidates, which may exceed their length."""
    room = len(documents)
    n = 0
    for d in range(len(offsets) - 1):
        lo, hi = offsets[d], offsets[d + 1]
        i = lo
        while i < hi:
            c = classes[data[i]]
            if c & 65 == 0:
                i += 1
                continue
            if c & 64:
                if kinds & 1 and i > lo and i + 1 < hi:
                    # 0-9A-Za-z_ or a letter beyond ASCII before, a letter or digit after
                    if classes[data[i - 1]] & 32 and (
                        classes[data[i + 1]] & 7 or data[i + 1] >= 128
                    ):
                        a, b = i, i + 1
                        while a > lo and i - a < 128 and classes[data[a - 1]] & 32:
                            a -= 1
                        dots = 0
                        while b < hi and b - i < 255 and classes[data[b]] & 32:
                            dots += data[b] == 46
                            b += 1
                        if dots:
                            if n < room:
                                documents[n], found[n], starts[n], ends[n] = d, 1, a, b
                            n += 1
                i += 1
                continue
            # The first digit of a group; j ends it.
            j = i + 1
            while j < hi and classes[data[j]] & 1:
                j += 1
            length = j - i
            stop = min(hi, i + 48)
            before = data[i - 1] if i > lo else 32
            first = data[i]
            after = data[j] if j < hi else 32
            if classes[before] & 6:
                # IBAN: two capitals, not part of a word, directly before two digits.
                if kinds & 16 and length >= 2 and classes[before] & 2 and i - 2 >= lo:
                    if classes[data[i - 2]] & 2 and (i - 3 < lo or not classes[data[i - 3]] & 7):
                        want = iban[(data[i - 2] - 65) * 26 + before - 65]
                        have, k = 2, i
                        while want and have < want and k < hi:
                            if classes[data[k]] & 3:
                                have += 1
                                k += 1
                            elif (
                                (data[k] == 32 or data[k] == 45)
                                and k + 1 < hi
                                and classes[data[k + 1]] & 3
                            ):
                                k += 1
                            else:
                                break
                        if want and have == want:
                            if n < room:
                                documents[n], found[n], starts[n], ends[n] = d, 16, i - 2, k
                            n += 1
                i = j
                continue
            if kinds & 4:
                k = 0
                if after == 46 and length <= 3 and before != 46:
                    # Four groups of one to three digits with dots between.
                    k, groups, run = j, 1, 0
                    while k < stop:
                        if data[k] == 46 and groups < 4 and (run > 0 or groups == 1):
                            groups += 1
                            run = 0
                        elif classes[data[k]] & 1 and run < 3:
                            run += 1
                        else:
                            break
                        k += 1
                    if groups < 4 or run == 0:
                        k = 0
                elif (first == 50 or first == 51) and before != 58 and i + 5 < hi:
                    # Global unicast is 2000::/3: a first group of four with a leading 2 or 3.
                    if (
                        data[i + 4] == 58
                        and classes[data[i + 1]] & 8
                        and classes[data[i + 2]] & 8
                        and classes[data[i + 3]] & 8
                    ):
                        k, colons = i, 0
                        while k < stop and (classes[data[k]] & 8 or data[k] == 58 or data[k] == 46):
                            colons += data[k] == 58
                            k += 1
                        if colons < 2:
                            k = 0
                if k:
                    if n < room:
                        documents[n], found[n], starts[n], ends[n] = d, 4, i, k
                    n += 1
            if kinds & 8 and (50 <= first <= 54 or (first == 49 and length == 15)):
                if 13 <= length <= 19 or (
                    (length == 4 or length == 6) and (after == 32 or after == 45)
                ):
                    have, k = length, j
                    while k < stop:
                        if classes[data[k]] & 1:
                            have += 1
                            k += 1
                        elif (
                            (data[k] == 32 or data[k] == 45)
                            and k + 1 < stop
                            and classes[data[k + 1]] & 1
                        ):
                            k += 1
                        else:
                            break
                    if have >= 13:
                        if n < room:
                            documents[n], found[n], starts[n], ends[n] = d, 8, i, k
                        n += 1
            if kinds & 2:
                a, k = i, 0
                gap = classes[after] & 16 or after == 0xC2
                if before == 43 and (i - 2 < lo or not classes[data[i - 2]] & 7):
                    # '+' and a country code
                    count, k = _digits_ahead(data, i, stop, classes)
                    a = i - 1
                    if count < 8 or first == 48:
                        k = 0
                elif _inside_number(data, i, lo, classes):
                    k = 0
                elif first == 48:
                    # trunk or international prefix, or a contiguous national number
                    if length >= 2 and ((length <= 6 and gap) or 10 <= length <= 12):
                        count, k = _digits_ahead(data, i, stop, classes)
                        if count < 9:
                            k = 0
                elif length == 3 and gap:
                    # 3-3-4 as in North America, 3-4-4 as Chinese mobile numbers
                    b = j
                    while b < stop and b - j < 3 and classes[data[b]] & 16:
                        b += 1
                    e = b
                    while e < stop and e - b < 5 and classes[data[e]] & 1:
                        e += 1
                    if e - b == 3 or (e - b == 4 and first == 49):
                        f = e + 1
                        while f < stop and f - e < 6 and classes[data[f]] & 1:
                            f += 1
                        if f - e == 5 and classes[data[e]] & 16:
                            k = f
                elif (length == 11 and first == 49) or (length == 10 and first > 49):
                    k = j
                if k == 0 and 2 <= length <= 4 and gap and first > 48:
                    # any groups directly behind a word or a colon
                    w = i - 1
                    while w > lo and i - w < 4 and (data[w] == 32 or data[w] == 40):
                        w -= 1
                    if (
                        w >= lo
                        and w < i
                        and (classes[data[w]] & 6 or data[w] in (46, 58) or data[w] >= 128)
                    ):
                        count, k = _digits_ahead(data, i, stop, classes)
                        if count < 7:  # where a number ends, the recognizer knows
                            k = 0
                if k:
                    if n < room:
                        documents[n], found[n], starts[n], ends[n] = d, 2, a, k
                    n += 1
            i = j
    return n


def scan(data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64], kinds: int) -> Candidates:
    """Find candidates of the wanted kinds in documents data[offsets[i]:offsets[i + 1]].

    `data` is valid UTF-8, `offsets` int64[n + 1] in bytes, `kinds` a sum of the bits above.
    """
    # Arrow's buffers are read-only, which is a type of its own to Numba: compile for that one only.
    data = data.view()
    data.flags.writeable = False
    room = max(64, int(offsets[-1] - offsets[0]) // 256)
    while True:
        candidates = Candidates(
            np.empty(room, np.int64),
            np.empty(room, np.uint8),
            np.empty(room, np.int64),
            np.empty(room, np.int64),
        )
        count = int(_scan(data, offsets, kinds, _CLASS, _IBAN, *candidates))
        if count <= room:
            return Candidates(
                candidates.document[:count],
                candidates.kind[:count],
                candidates.start[:count],
                candidates.end[:count],
            )
        room = count


def warm() -> None:
    """Compile the kernels."""
    scan(np.zeros(1, np.uint8), np.array([0, 1], np.int64), EMAIL)
