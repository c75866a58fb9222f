"""Counting and BPE training beside HF tokenizers on the same texts, as one JSON object.

    python tests/benchmarks/bench_train.py [--file multilingual] [--megabytes 20] [--vocab 32000]

`--megabytes 0` takes the whole file. Each side runs in a process of its own, which gives its peak
memory; kernels are compiled beforehand. HF tokenizers uses all cores, Gristmill one: give both one
with `taskset -c 0`. `identical` compares vocabularies and merges.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import zstandard

BENCH = Path(__file__).resolve().parents[3] / "shared" / "data" / "bench"
TEXT = pa.schema([("text", pa.string())])


def prepare(name: str, megabytes: float, path: Path) -> int:
    """Write texts as an Arrow file in batches of 1,000; their UTF-8 bytes in all."""
    size, batch = 0, []
    with (
        zstandard.open(BENCH / f"{name}_docs.jsonl.zst", "rb") as raw,
        pa.OSFile(str(path), "wb") as sink,
        pa.ipc.new_file(sink, TEXT) as writer,
    ):
        for line in io.BufferedReader(raw):
            batch.append(json.loads(line)["text"])
            size += len(batch[-1].encode())
            done = bool(megabytes) and size >= megabytes * 1e6
            if done or len(batch) == 1000:
                writer.write_batch(pa.record_batch([batch], schema=TEXT))
                batch = []
            if done:
                return size
        if batch:
            writer.write_batch(pa.record_batch([batch], schema=TEXT))
    return size


def timed(work: Callable[[], Any], into: dict[str, Any], name: str) -> Any:
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    into[f"{name}_wall_seconds"] = round(time.perf_counter() - wall, 2)
    into[f"{name}_cpu_seconds"] = round(time.process_time() - cpu, 2)
    into[f"{name}_peak_rss_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return result


def batches(path: Path) -> list[pa.StringArray]:
    reader = pa.ipc.open_file(pa.memory_map(str(path)))
    return [reader.get_batch(i).column("text") for i in range(reader.num_record_batches)]


def count(path: Path, vocab: int) -> dict[str, Any]:
    from tokenizer import pretokens

    pretokens.warm()
    facts: dict[str, Any] = {}
    counter = pretokens.PretokenCounter("llama3")

    def add() -> None:
        for text in batches(path):
            counter.add(text)

    timed(add, facts, "count")
    facts["pretokens_counted"] = counter.total
    timed(lambda: counter.write(path.with_name("counts.arrow")), facts, "write")
    return facts


def train(path: Path, vocab: int) -> dict[str, Any]:
    from schemas.recipe import TrainBPE
    from tokenizer import train as trainer
    from tokenizer.counts import merge_counts

    trainer.warm()
    facts: dict[str, Any] = {}
    counts = merge_counts([path.with_name("counts.arrow")])
    settings = TrainBPE(vocab_size=vocab)
    model = timed(lambda: trainer.train_bpe(counts, settings), facts, "train")
    model.save(path.with_name("gristmill.json"))
    return facts


def hugging_face(path: Path, vocab: int) -> dict[str, Any]:
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    from tokenizer.split import PATTERNS

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERNS["llama3"]), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    settings = trainers.BpeTrainer(
        vocab_size=vocab,
        min_frequency=2,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    facts: dict[str, Any] = {}
    texts = (text for batch in batches(path) for text in batch.to_pylist())
    timed(lambda: tokenizer.train_from_iterator(texts, settings), facts, "all")
    tokenizer.save(str(path.with_name("hf.json")))
    return facts


SIDES = {"count": count, "train": train, "hugging_face": hugging_face}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--file", default="multilingual", choices=["multilingual", "english"])
    parser.add_argument("--megabytes", type=float, default=20)
    parser.add_argument("--vocab", type=int, default=32_000)
    parser.add_argument("--no-peer", action="store_true", help="leave HF tokenizers out")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--texts", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        print(json.dumps(SIDES[arguments.side](arguments.texts, arguments.vocab)))
        return
    with tempfile.TemporaryDirectory(prefix="gristmill-bench-") as folder:
        path = Path(folder, "texts.arrow")
        size = prepare(arguments.file, arguments.megabytes, path)
        report: dict[str, Any] = {"file": arguments.file, "text_mb": round(size / 1e6, 1)}
        for side in SIDES:
            if side == "hugging_face" and arguments.no_peer:
                continue
            command = [sys.executable, __file__, "--side", side, "--texts", str(path)]
            command += ["--vocab", str(arguments.vocab)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            report[side] = json.loads(done.stdout)
        counting = report["count"]
        counting["mb_per_cpu_second"] = round(size / 1e6 / counting["count_cpu_seconds"], 1)
        if not arguments.no_peer:
            found = [
                json.loads(path.with_name(f"{n}.json").read_text()) for n in ("gristmill", "hf")
            ]
            ours, theirs = (
                (tokenizer["model"]["vocab"], tokenizer["model"]["merges"]) for tokenizer in found
            )
            report["identical"] = ours == theirs
            report["merges"] = len(ours[1])
            spent = sum(
                report[s][f"{n}_wall_seconds"]
                for s, n in (("count", "count"), ("count", "write"), ("train", "train"))
            )
            report["times_faster"] = round(report["hugging_face"]["all_wall_seconds"] / spent, 1)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
