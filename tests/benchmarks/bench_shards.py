"""Reading speed of a token shard, warm, beside numpy.memmap over the same tokens.

    taskset -c 0 python tests/benchmarks/bench_shards.py [--mtokens 50] [--length 2048]

Rows are read in order and in a seeded random order; each figure is the best of five.
Opening is measured over many small shards.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from schemas.document import DOCUMENT
from schemas.tokens import ShardInfo
from tokenizer.shards import ShardWriter, open_shard

VOCABULARY = 32_000
SMALL_SHARDS = 200
DOCUMENT_TOKENS = 800


def write(path: Path, tokens: np.ndarray, length: int) -> None:
    """One shard of these tokens, cut into documents of DOCUMENT_TOKENS."""
    info = ShardInfo(
        sequence_length=length,
        rows_per_batch=1024,
        vocab_size=VOCABULARY,
        eos_id=0,
        end_document=False,
    )
    with ShardWriter(path, path.with_suffix(".documents.parquet"), info) as writer:
        for start in range(0, len(tokens), 1000 * DOCUMENT_TOKENS):
            part = tokens[start : start + 1000 * DOCUMENT_TOKENS]
            offsets = np.append(np.arange(0, len(part), DOCUMENT_TOKENS), len(part))
            rows = [
                {"id": str(n), "text": "", "source": "bench", "path": "", "position": n}
                for n in range(len(offsets) - 1)
            ]
            writer.write(pa.RecordBatch.from_pylist(rows, schema=DOCUMENT), part, offsets)


def best(functions: dict[str, Callable[[], object]], repeat: int = 5) -> dict[str, float]:
    """The least seconds of each, taken in turns so that a busy machine slows all alike."""
    seconds: dict[str, float] = {}
    for _ in range(repeat):
        for name, function in functions.items():
            started = time.perf_counter()
            function()
            taken = time.perf_counter() - started
            seconds[name] = min(taken, seconds.get(name, taken))
    return seconds


def read(row: Callable[[int], np.ndarray], order: list[int]) -> int:
    """The sum of each row's largest id: touches every byte, at little cost of its own."""
    total = 0
    for number in order:
        total += int(row(number).max())
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mtokens", type=int, default=50)
    parser.add_argument("--length", type=int, default=2048)
    arguments = parser.parse_args()
    length = arguments.length
    rows = arguments.mtokens * 1_000_000 // length
    random = np.random.default_rng(0)
    tokens = random.integers(0, VOCABULARY, rows * length, dtype=np.uint32)
    with tempfile.TemporaryDirectory(prefix="gristmill-") as folder:
        path = Path(folder) / "shard.arrow"
        write(path, tokens, length)
        tokens.astype(np.uint16).tofile(Path(folder) / "tokens.bin")
        memmap = np.memmap(Path(folder) / "tokens.bin", dtype=np.uint16, mode="r")
        shard = open_shard(path)
        readers: dict[str, Callable[[int], np.ndarray]] = {
            "numpy.memmap": lambda row: memmap[row * length : (row + 1) * length],
            "token shard": shard.row,
        }
        in_order = list(range(rows))
        shuffled = random.permutation(rows).tolist()
        expected = int(tokens.reshape(rows, length).max(axis=1).sum())
        assert all(read(row, in_order) == expected for row in readers.values())
        sequential = best({name: partial(read, row, in_order) for name, row in readers.items()})
        at_random = best({name: partial(read, row, shuffled) for name, row in readers.items()})
        for name in readers:
            print(
                f"{name:<14}{len(tokens) / sequential[name] / 1e6:8.0f} Mtok/s in order"
                f"{rows / at_random[name] / 1e3:8.0f}k rows/s at random"
            )
        small = Path(folder) / "small.arrow"
        write(small, tokens[: 100 * length], length)
        seconds = best(
            {
                "small": lambda: [open_shard(small) for _ in range(SMALL_SHARDS)],
                "this": lambda: open_shard(path),
            }
        )
        print(f"opening: {seconds['small'] / SMALL_SHARDS * 1e3:.2f} ms a small shard, ", end="")
        print(f"{seconds['this'] * 1e3:.2f} ms this one")


if __name__ == "__main__":
    main()
