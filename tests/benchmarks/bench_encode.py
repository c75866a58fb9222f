"""Encoding speed on one core: MB/s of text, CPU time.

    taskset -c 0 python tests/benchmarks/bench_encode.py [--tokenizer FILE] [--megabytes 60]

Three rows a bench file: the encoder alone, the encode step's path (Arrow text to ids, packed and
written with the document table, sampled against the reference), and Hugging Face tokenizers on the
first megabytes. Without --tokenizer a 32k one is trained from the English file and kept in the
temporary folder.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
from make_tokenizer import ENGLISH, MULTILINGUAL, texts, train

from schemas.document import BATCH_DOCUMENTS, DOCUMENT
from schemas.tokens import ShardInfo
from tokenizer.encode import Tokenizer, load_tokenizer
from tokenizer.encoders import HuggingFace
from tokenizer.shards import ShardWriter

CHECK_EVERY = 1024


def batches(path: Path, limit_bytes: int) -> Iterator[pa.RecordBatch]:
    """Documents of a bench file with text, id and place."""
    found = list(texts(path, limit_bytes))
    for start in range(0, len(found), BATCH_DOCUMENTS):
        rows = [
            {"id": str(n), "text": text, "source": "bench", "path": path.name, "position": n}
            for n, text in enumerate(found[start : start + BATCH_DOCUMENTS], start)
        ]
        yield pa.RecordBatch.from_pylist(rows, schema=DOCUMENT)


def encode_only(tokenizer: Tokenizer, data: list[pa.RecordBatch], folder: Path) -> int:
    return sum(len(tokenizer.encode(batch.column("text"))[0]) for batch in data)


def encode_and_write(tokenizer: Tokenizer, data: list[pa.RecordBatch], folder: Path) -> int:
    info = ShardInfo(
        sequence_length=2048,
        rows_per_batch=1024,
        vocab_size=tokenizer.vocab_size,
        eos_id=tokenizer.eos_id,
    )
    with ShardWriter(folder / "shard.arrow", folder / "shard.documents.parquet", info) as writer:
        row = 0
        for batch in data:
            text = batch.column("text")
            ids, offsets = tokenizer.encode(text)
            for chosen in range(-row % CHECK_EVERY, len(text), CHECK_EVERY):
                tokenizer.check(text.slice(chosen, 1), ids, offsets[chosen : chosen + 2])
            writer.write(batch, ids, offsets)
            row += len(text)
    return writer.tokens


def reference(tokenizer: Tokenizer, data: list[pa.RecordBatch], folder: Path) -> int:
    found = HuggingFace.encode(tokenizer.reference, data[0].column("text").to_pylist())
    return len(found[0])


def measure(
    name: str,
    function: Callable[[Tokenizer, list[pa.RecordBatch], Path], int],
    tokenizer: Tokenizer,
    data: list[pa.RecordBatch],
    repeat: int,
) -> None:
    size = sum(len(t) for b in data for t in b.column("text").cast(pa.binary()).to_pylist())
    best, tokens = float("inf"), 0
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(repeat):
            started = time.process_time()
            tokens = function(tokenizer, data, Path(folder))
            best = min(best, time.process_time() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(
        f"  {name:<28}{size / best / 1e6:8.1f} MB/s {tokens / best / 1e6:7.1f} Mtok/s"
        f"   {size / 1e6:6.1f} MB, peak {peak} MB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokenizer", type=Path)
    parser.add_argument("--megabytes", type=int, default=60, help="of each bench file")
    arguments = parser.parse_args()
    path = arguments.tokenizer
    if path is None:
        path = Path(tempfile.gettempdir()) / "gristmill-bench" / "tokenizer_32k.json"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            train(ENGLISH, vocab_size=32_000, limit_bytes=30 << 20).save(str(path), pretty=False)
    tokenizer = load_tokenizer(path)
    print(f"{path.name}, {tokenizer.vocab_size} tokens, {len(os.sched_getaffinity(0))} CPU(s)")
    for bench in (ENGLISH, MULTILINGUAL):
        data = list(batches(bench, arguments.megabytes << 20))
        print(bench.name)
        measure("encoder", encode_only, tokenizer, data, 3)
        measure("encode, pack, write, sample", encode_and_write, tokenizer, data, 3)
        if isinstance(tokenizer.reference, HuggingFace):
            measure("Hugging Face tokenizers", reference, tokenizer, data[:1], 1)


if __name__ == "__main__":
    main()
