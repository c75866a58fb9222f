"""Language identification on one core, beside fastText's own extension on the same texts.

    taskset -c 0 python tests/benchmarks/bench_language.py [--whole] [--model PATH]

Prints a line of JSON for each set of texts in ../shared/data: documents and bytes that were
classified (the first 1,024 bytes of each text), the best of several runs in MB/s of CPU time, their
ratio, and how many labels, rounded and exact scores differ. fastText gets Python strings made
beforehand, one a call; Gristmill the Arrow array. Samples, unless --whole: then all sentences and
paragraphs, and 5,000 documents of each benchmark corpus. Trust ratios.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import fasttext_pybind
import numpy as np
import pyarrow as pa
import zstandard

from filters import language
from filters.fasttext_model import FastTextModel
from schemas.text import utf8

DATA = Path(__file__).parents[3] / "shared" / "data"
MAX_BYTES = 1024
SETS = {  # documents of a sample, and of the whole
    "langid/lingua_sentences.jsonl.gz": (4000, 39_064),
    "langid/udhr_paragraphs.jsonl.gz": (4000, 1 << 40),
    "bench/english_docs.jsonl.zst": (2000, 5000),
    "bench/multilingual_docs.jsonl.zst": (2000, 5000),
}


def cpu(function: Callable[[], Any], repeat: int) -> tuple[float, Any]:
    """Least CPU seconds of several calls, and what the last returned."""
    best = float("inf")
    for _ in range(repeat):
        start = time.process_time()
        found = function()
        best = min(best, time.process_time() - start)
    return best, found


def read(path: Path, count: int) -> list[str]:
    texts = []
    with path.open("rb") as raw:
        stream: Any = (
            gzip.GzipFile(fileobj=raw)
            if path.suffix == ".gz"
            else zstandard.ZstdDecompressor().stream_reader(raw)
        )
        for line in io.TextIOWrapper(stream, "utf-8"):
            if len(texts) == count:
                break
            texts.append(json.loads(line)["text"])
    return texts


def versions() -> dict[str, str]:
    found = {}
    for name in ("fasttext", "fasttext-predict", "numba", "numpy", "pyarrow"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--model", default=language.PACKAGED)
    chosen = parser.parse_args()
    path = language.model_path(chosen.model)
    model, library = FastTextModel(path), fasttext_pybind.fasttext()
    library.loadModel(path)
    identifier = language.LanguageIdentifier(chosen.model, MAX_BYTES)
    repeat = 1 if chosen.whole else 5
    for name, counts in SETS.items():
        whole = read(DATA / name, counts[chosen.whole])
        texts = [text.encode()[:MAX_BYTES].decode(errors="ignore") for text in whole]
        lines = [text.replace("\n", " ").replace("\0", " ") + "\n" for text in texts]
        rows = pa.array(whole, pa.string())
        data, offsets = utf8(pa.array(texts, pa.string()))
        model.predict(data, offsets[:2][:-1], offsets[1:2])  # compiled
        kernel, (labels, scores) = cpu(
            lambda data=data, offsets=offsets: model.predict(data, offsets[:-1], offsets[1:]),
            repeat,
        )
        identify, _ = cpu(lambda rows=rows: identifier.identify(rows), repeat)
        theirs, expected = cpu(
            lambda lines=lines: [library.predict(line, 1, 0.0, "strict") for line in lines], repeat
        )
        size = len(data)
        label = rounded = exact = straddling = 0
        for k, found in enumerate(expected):
            if labels[k] < 0:  # right where there is no letter
                label += bool(found) and any(character.isalpha() for character in texts[k])
                continue
            score, name_of = found[0] if found else (0.0, "")
            label += model.labels[labels[k]] != name_of
            exact += bool(np.float32(score) != scores[k])
            if round(score, 4) != round(float(scores[k]), 4):
                rounded += 1
                straddling += abs(score - float(scores[k])) < 1e-6
        print(
            json.dumps(
                {
                    "texts": name,
                    "documents": len(texts),
                    "bytes": size,
                    "kernel_mb_s": round(size / kernel / 1e6, 2),
                    "identify_mb_s": round(size / identify / 1e6, 2),
                    "fasttext_pybind_mb_s": round(size / theirs / 1e6, 2),
                    "ratio": round(theirs / identify, 2),
                    "labels_differ": label,
                    "rounded_scores_differ": rounded,
                    "of_these_straddling": straddling,
                    "exact_scores_differ": exact,
                    "model_bytes": Path(path).stat().st_size,
                    "versions": versions(),
                }
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
