"""A trained byte-level BPE tokenizer, and its tokenizer.json."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from tokenizer.split import PATTERNS


@cache
def byte_alphabet() -> tuple[str, ...]:
    """The character that stands for each byte in vocabularies (GPT-2's bytes_to_unicode).

    Printable Latin-1 bytes stand for themselves, the others for U+0100 on, in order.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    rest = iter(range(0x100, 0x200))
    return tuple(chr(b if b in printable else next(rest)) for b in range(256))


@dataclass(frozen=True, kw_only=True)
class BPEModel:
    """Special tokens first, then the 256 bytes by their character, then merges in order."""

    pretokenizer: str  # "llama3" or "gpt2"
    special_tokens: tuple[str, ...]
    tokens: tuple[bytes, ...]  # by id; special tokens as their UTF-8
    merges: tuple[tuple[int, int], ...]  # pairs of ids, most urgent first

    @property
    def vocab_size(self) -> int:
        return len(self.tokens)

    def vocabulary(self) -> dict[str, int]:
        """Token, as written in tokenizer.json, to id."""
        alphabet = byte_alphabet()
        first = len(self.special_tokens)
        found = {token: i for i, token in enumerate(self.special_tokens)}
        for i, token in enumerate(self.tokens[first:], first):
            found["".join([alphabet[b] for b in token])] = i
        return found

    def to_json(self) -> Mapping[str, Any]:
        """The content of tokenizer.json, as HF tokenizers, transformers and fastokens read it."""
        vocabulary = self.vocabulary()
        names = list(vocabulary)
        byte_level = {
            "type": "ByteLevel",
            "add_prefix_space": False,
            "trim_offsets": True,
            "use_regex": False,
        }
        return {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [
                {
                    "id": i,
                    "content": token,
                    "single_word": False,
                    "lstrip": False,
                    "rstrip": False,
                    "normalized": False,
                    "special": True,
                }
                for i, token in enumerate(self.special_tokens)
            ],
            "normalizer": None,
            "pre_tokenizer": {
                "type": "Sequence",
                "pretokenizers": [
                    {
                        "type": "Split",
                        "pattern": {"Regex": PATTERNS[self.pretokenizer]},
                        "behavior": "Isolated",
                        "invert": False,
                    },
                    byte_level,
                ],
            },
            "post_processor": None,
            "decoder": byte_level,
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": None,
                "continuing_subword_prefix": None,
                "end_of_word_suffix": None,
                "fuse_unk": False,
                "byte_fallback": False,
                "ignore_merges": False,
                "vocab": vocabulary,
                "merges": [[names[a], names[b]] for a, b in self.merges],
            },
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write tokenizer.json; the same model always makes the same bytes."""
        with open(path, "w", encoding="utf-8", newline="\n") as file:
            json.dump(self.to_json(), file, ensure_ascii=False, indent=1)
            file.write("\n")
