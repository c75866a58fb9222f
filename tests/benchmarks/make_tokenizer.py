"""Train the given 32k byte-level tokenizer that the end-to-end benchmark encodes with.

    python tests/benchmarks/make_tokenizer.py OUT [--megabytes 30] [--vocab-size 32000]

Training is Hugging Face tokenizers' own, on the first documents of the English bench file, with the
Llama-3 pretokenizer; so that the benchmark's tokenizer owes nothing to the code it measures.
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Iterator
from pathlib import Path

import zstandard
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

BENCH = Path(__file__).resolve().parents[3] / "shared" / "data" / "bench"
ENGLISH = BENCH / "english_docs.jsonl.zst"
MULTILINGUAL = BENCH / "multilingual_docs.jsonl.zst"

# The pattern of Llama 3's tokenizer.json.
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def texts(path: Path, limit_bytes: int | None = None) -> Iterator[str]:
    """Texts of a bench file in order, until `limit_bytes` UTF-8 bytes were yielded."""
    seen = 0
    with open(path, "rb") as file:
        reader = zstandard.ZstdDecompressor().stream_reader(file)
        for line in io.TextIOWrapper(reader, encoding="utf-8"):
            text = json.loads(line)["text"]
            yield text
            seen += len(text.encode())
            if limit_bytes is not None and seen >= limit_bytes:
                return


def train(path: Path, *, vocab_size: int, limit_bytes: int | None) -> Tokenizer:
    """A byte-level BPE over one bench file, with `<|endoftext|>` as its only special token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA3), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts(path, limit_bytes), trainer)
    return tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--megabytes", type=int, default=30, help="of text to train on")
    parser.add_argument("--vocab-size", type=int, default=32_000)
    arguments = parser.parse_args()
    trained = train(ENGLISH, vocab_size=arguments.vocab_size, limit_bytes=arguments.megabytes << 20)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    trained.save(str(arguments.out), pretty=False)
    print(f"{arguments.out}: {trained.get_vocab_size()} tokens")


if __name__ == "__main__":
    main()
