"""Reading, normalising and language identification: MB of text a second of CPU time, as JSON.

    taskset -c 0 python tests/benchmarks/bench_read.py [--repeat N]

Beside each reader stands what the plain way costs in the same run on the same machine: one
json.loads-like call a line and a list of texts, into the same Arrow type. Trust ratios.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import pyarrow as pa
import zstandard

from filters.language import LanguageIdentifier
from filters.normalise import normalise
from pipeline.read import plan_inputs, read_slices
from schemas.recipe import Recipe

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
ONE_TASK = {"min_tasks": 1, "task_bytes": 1 << 30}


def batches(path: Path, **planning: int) -> Iterator[pa.RecordBatch]:
    recipe = Recipe.model_validate(
        {
            "name": "bench",
            "sources": [{"name": "s", "paths": [str(path)]}],
            "planning": {**ONE_TASK, **planning},
        }
    )
    for batch in read_slices(plan_inputs(recipe), recipe):
        yield batch.documents


def read(path: Path, **planning: int) -> int:
    return sum(batch.column("text").nbytes for batch in batches(path, **planning))


def read_plainly(path: Path) -> int:
    size, rest = 0, b""
    with open(path, "rb") as file:
        for piece in zstandard.ZstdDecompressor().read_to_iter(file, write_size=1 << 20):
            *lines, rest = (rest + piece).split(b"\n")
            size += pa.array([orjson.loads(line)["text"] for line in lines], pa.string()).nbytes
    return size


def decompress(path: Path) -> int:
    with open(path, "rb") as file:
        return sum(map(len, zstandard.ZstdDecompressor().read_to_iter(file, write_size=1 << 20)))


def speed(work: Callable[[], int], repeat: int) -> float:
    """Best of `repeat` runs, in MB a second of this process's CPU time."""
    best = 0.0
    for _ in range(repeat):
        start = time.process_time()
        size = work()
        best = max(best, size / (time.process_time() - start) / 1e6)
    return round(best, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=3)
    repeat = parser.parse_args().repeat
    result: dict[str, dict[str, float]] = {}
    for name in ("english", "multilingual"):
        path = DATA / "bench" / f"{name}_docs.jsonl.zst"
        texts = [batch.column("text") for batch in batches(path)]
        some = texts[:6]
        size, identifier = sum(text.nbytes for text in some), LanguageIdentifier()

        def over(
            work: Callable[[pa.StringArray], object], texts: list = some, size: int = size
        ) -> int:
            for text in texts:
                work(text)
            return size

        result[name] = {
            "jsonl.zst": speed(lambda path=path: read(path), repeat),
            "jsonl.zst plainly (orjson)": speed(lambda path=path: read_plainly(path), repeat),
            "zstd alone": speed(lambda path=path: decompress(path), repeat),
            "normalise": speed(lambda over=over: over(normalise), repeat),
            "language (first 1024 bytes)": speed(
                lambda over=over, work=identifier.identify: over(work), repeat
            ),
        }
    warc = DATA / "warc" / "made__gold_pages.warc.gz"
    result["warc"] = {"html to text (text out)": speed(lambda: read(warc), 1)}
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
