"""Texts as kernels see them."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa


def utf8(
    text: pa.StringArray,
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
    """The UTF-8 buffer and the n + 1 offsets into it of an array, which may be a slice; no copies.

    Text k is `data[offsets[k] : offsets[k + 1]]`; offsets[0] need not be 0. Both are read-only
    whatever Arrow thinks of its buffers: Numba would compile a kernel once more for arrays that
    can be written. Raises TypeError for other layouts, large_string among them.
    """
    if text.type != pa.string():
        raise TypeError(f"expected a string array with 32-bit offsets, got {text.type}")
    if len(text) == 0:
        data, offsets = np.empty(0, np.uint8), np.zeros(1, np.int32)
    else:
        _, offset_buffer, data_buffer = text.buffers()
        every = np.frombuffer(offset_buffer, np.int32)
        offsets = every[text.offset : text.offset + len(text) + 1]
        data = np.frombuffer(data_buffer or b"", np.uint8)
    data.flags.writeable = False
    offsets.flags.writeable = False
    return data, offsets


def text_bytes(text: pa.StringArray) -> npt.NDArray[np.int64]:
    """UTF-8 length of each text, int64[n]."""
    return np.diff(utf8(text)[1]).astype(np.int64)
