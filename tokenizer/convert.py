"""A SentencePiece BPE model as a tokenizer.json, so that the fast encoder can run it.

SentencePiece merges the adjacent pair whose joined piece has the highest score, leftmost first. A
tokenizer.json lists merges as pairs; every way to split a piece into two pieces becomes a merge,
in the order of the pieces' scores.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator
from typing import Any

SPACE = "\u2581"  # stands for a space in pieces
_BPE = 2
_NORMAL, _UNKNOWN, _USER_DEFINED, _UNUSED = 1, 2, 4, 5  # piece types


def to_tokenizer_json(model: bytes) -> str | None:
    """The definition that equals this SentencePiece model, None if there is none.

    Only BPE with byte fallback and without normalisation, dummy prefix, user-defined or unused
    pieces can be said exactly. Raises ValueError or LookupError if the bytes are no model.
    """
    # Field numbers are those of sentencepiece_model.proto. The library's own generated module
    # refuses to load beside the older protobuf runtime that Beam needs.
    pieces: list[tuple[str, float, int]] = []
    trainer: dict[int, Any] = {}
    normalizer: dict[int, Any] = {}
    for number, value in _fields(model):
        if number == 1:
            fields = dict(_fields(value))
            (score,) = struct.unpack("<f", fields.get(2, bytes(4)))
            pieces.append((bytes(fields[1]).decode(), score, fields.get(3, _NORMAL)))
        elif number == 2:
            trainer = dict(_fields(value))
        elif number == 3:
            normalizer = dict(_fields(value))
    if (
        trainer.get(3) != _BPE
        or not trainer.get(35, False)  # byte_fallback
        or trainer.get(24, False)  # treat_whitespace_as_suffix
        or normalizer.get(2, b"")  # precompiled_charsmap
        or normalizer.get(3, True)  # add_dummy_prefix
        or normalizer.get(4, True)  # remove_extra_whitespaces
        or not normalizer.get(5, True)  # escape_whitespaces
        or any(kind in (_USER_DEFINED, _UNUSED) for _, _, kind in pieces)
    ):
        return None
    vocabulary = {piece: number for number, (piece, _, _) in enumerate(pieces)}
    normal = {piece: score for piece, score, kind in pieces if kind == _NORMAL}
    if any(character not in normal for piece in normal for character in piece):
        return None
    merges = [
        (-score, vocabulary[piece], cut, [piece[:cut], piece[cut:]])
        for piece, score in normal.items()
        for cut in range(1, len(piece))
        if piece[:cut] in normal and piece[cut:] in normal
    ]
    # An equal score goes to the leftmost pair; a tokenizer.json cannot say that of two pieces.
    scores = [normal[p] for p in {left + right for *_, (left, right) in merges}]
    if len(set(scores)) != len(scores):
        return None
    unknown = next(piece for piece, _, kind in pieces if kind == _UNKNOWN)
    definition: dict[str, Any] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": SPACE},
        "pre_tokenizer": _words(normal),
        "post_processor": None,
        "decoder": None,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": unknown,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "vocab": vocabulary,
            "merges": [pair for *_, pair in sorted(merges)],
        },
    }
    return json.dumps(definition, ensure_ascii=False)


def _words(pieces: Iterable[str]) -> dict[str, Any] | None:
    """A split into words that no piece crosses, hence without effect on ids: words are cached."""
    if any(SPACE in piece.lstrip(SPACE) or "\n" in piece for piece in pieces):
        return None
    pattern = f"\n|{SPACE}*[^{SPACE}\n]+|{SPACE}+"
    return {
        "type": "Split",
        "pattern": {"Regex": pattern},
        "behavior": "Isolated",
        "invert": False,
    }


def _fields(message: bytes | memoryview) -> Iterator[tuple[int, Any]]:
    """Field numbers and values of a protobuf message: integers, or the bytes of other types."""
    view = memoryview(message)
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = view[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(view):
        number, kind = divmod(varint(), 8)
        if kind == 0:
            yield number, varint()
            continue
        size = {1: 8, 2: -1, 5: 4}[kind]
        if size < 0:
            size = varint()
        yield number, view[at : at + size]
        at += size
