"""Speed of the counting signals on one core, and what each suite keeps; prints JSON.

    taskset -c 0 python tests/benchmarks/bench_signals.py

Speeds are megabytes of UTF-8 text a second of CPU time, best of several runs: `cheap` without
word n-grams, `all` with them. `kept` is how many documents of the English file are left when the
suites run one after the other, as datatrove's filters do; its funnel is beside it.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from filters import counts, lines, rules, signals
from schemas.document import BATCH_DOCUMENTS

BENCH = Path(__file__).parents[3] / "shared" / "data" / "bench"
RUNS = 3
ALL = [spec.name for spec in signals.SIGNALS]
CHEAP = [spec.name for spec in signals.SIGNALS if spec.count < counts.FIRST_NGRAM_COLUMN]

# Documents left after language identification and each of datatrove's filters (EVIDENCE.md).
DATATROVE = {
    "all": 25_709,
    "language": 16_306,
    "gopher-quality + gopher-repetition": 7_134,
    "c4": 5_658,
    "fineweb": 5_459,
}


def batches(path: Path) -> list[pa.StringArray]:
    """The texts of a bench file, BATCH_DOCUMENTS at a time."""
    with pa.input_stream(str(path), compression="zstd") as stream:
        text = pa.array([json.loads(line)["text"] for line in stream.read().splitlines()])
    return [text[k : k + BATCH_DOCUMENTS] for k in range(0, len(text), BATCH_DOCUMENTS)]


def speed(texts: list[pa.StringArray], work: Callable[[pa.StringArray], Any]) -> float:
    """MB/s of CPU time, the best of RUNS."""
    size = sum(int(signals.count(text, ngrams=False)[:, counts.BYTES].sum()) for text in texts)
    best = float("inf")
    for _ in range(RUNS):
        start = time.process_time()
        for text in texts:
            work(text)
        best = min(best, time.process_time() - start)
    return round(size / best / 1e6, 1)


def funnel(texts: list[pa.StringArray]) -> dict[str, int]:
    """Documents left after each suite, English stop words for all."""
    kept: dict[str, int] = {"all": sum(map(len, texts))}
    for suite in ("gopher-quality", "gopher-repetition", "c4", "fineweb"):
        chosen = rules.resolve([suite])
        left = []
        for text in texts:
            if suite == "c4":
                text = lines.TRANSFORMS["c4-lines"](text)
            batch = signals.compute_signals(text, None, rules.needed_signals(chosen))
            left.append(text.filter(pa.array(rules.apply(chosen, batch, None).first < 0)))
        texts = left
        kept[suite] = sum(map(len, texts))
    return kept


def main() -> None:
    """Measure both files."""
    signals.warm()
    lines.warm()
    report: dict[str, Any] = {}
    for name in ("english_docs", "multilingual_docs"):
        path = BENCH / f"{name}.jsonl.zst"
        if not path.exists():
            sys.exit(f"{path} is absent")
        texts = batches(path)
        report[name] = {
            "cheap": speed(texts, lambda t: signals.compute_signals(t, None, CHEAP)),
            "all": speed(texts, lambda t: signals.compute_signals(t, None, ALL)),
            "c4-lines": speed(texts, lines.c4_lines),
        }
        if name == "english_docs":
            report["kept"] = funnel(texts)
            report["kept by datatrove"] = DATATROVE
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
