"""Text as all later stages see it: LF line ends and no NUL characters."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.document import Repair
from schemas.text import utf8

_NUL = 0x00
_CR = 0x0D


def normalise(text: pa.StringArray) -> tuple[pa.StringArray, npt.NDArray[np.uint8]]:
    """CRLF and CR become LF, NUL is dropped: (text, Repair mask uint8[n] of what was done).

    Both are single bytes in UTF-8, so one scan over the buffer finds the documents concerned; a
    batch without any comes back as it is, without a copy.
    """
    repairs = np.zeros(len(text), np.uint8)
    data, offsets = utf8(text)
    data = data[offsets[0] : offsets[-1]]
    for byte, repair in ((_NUL, Repair.NUL), (_CR, Repair.NEWLINE)):
        places = np.flatnonzero(data == byte) + offsets[0]
        rows = np.unique(np.searchsorted(offsets, places, side="right") - 1)
        repairs[rows] |= np.uint8(repair)
    if (repairs & Repair.NUL).any():  # first, so that CR NUL LF is one line end
        text = pc.replace_substring(text, "\0", "")
    if (repairs & Repair.NEWLINE).any():
        text = pc.replace_substring(text, "\r\n", "\n")
        text = pc.replace_substring(text, "\r", "\n")
    return text, repairs
