"""Scrubbing speed, beside Presidio's own pattern recognizers on a sample of the same documents.

    taskset -c 0 python tests/benchmarks/bench_pii.py [--megabytes 80] [--sample 200]

Prints one JSON object. MB are 10^6 UTF-8 bytes of text, seconds are CPU time of this process.
"scan" is the cue scan alone; with the hyperscan package installed, its speed on cues of the same
kind is there too.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import zstandard

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from filters import pii, pii_scan  # noqa: E402

BENCH = ROOT.parent / "shared" / "data" / "bench"
BATCH = 1000
# The scan's cues as patterns, to compare speeds; findings need not agree.
HYPERSCAN_CUES = [
    rb"[\w.%+'&=~\x80-\xff-]@[\w\x80-\xff]",
    rb"\+\d(?:[ ./()-]{0,3}\d){7}",
    rb"\b0\d{0,5}[ /().-]{1,3}\d(?:[ ./()-]{0,3}\d){6}",
    rb"\d{3}[ ./()-]{1,3}\d{3,4}[ ./-]\d{4}",
    rb"\b\d{10,12}\b",
    rb"\d{1,3}\.\d{1,3}\.\d{1,3}\.\d",
    rb"\b[23][0-9A-Fa-f]{3}:[0-9A-Fa-f]{0,4}:",
    rb"\b[2-6]\d{3}(?:[ -]?\d){9}",
    rb"\b[A-Z]{2}\d\d(?:[ -]?[A-Z0-9]){11}",
]


def documents(name: str, megabytes: float) -> Iterator[str]:
    left = megabytes * 1e6
    with open(BENCH / f"{name}_docs.jsonl.zst", "rb") as file:
        stream = zstandard.ZstdDecompressor().stream_reader(file)
        for line in io.TextIOWrapper(stream, encoding="utf-8"):
            text = json.loads(line)["text"]
            left -= len(text.encode())
            if left < 0:
                return
            yield text


def speed(run: Callable[[], object], size: int) -> float:
    start = time.process_time()
    run()
    return round(size / 1e6 / (time.process_time() - start), 2)


def hyperscan_speed(data: bytes) -> float | None:
    try:
        import hyperscan
    except ImportError:
        return None
    database = hyperscan.Database()
    flags = [hyperscan.HS_FLAG_DOTALL] * len(HYPERSCAN_CUES)
    database.compile(
        expressions=HYPERSCAN_CUES,
        ids=list(range(len(HYPERSCAN_CUES))),
        elements=len(HYPERSCAN_CUES),
        flags=flags,
    )
    database.scratch = hyperscan.Scratch(database)
    events: list[tuple[int, int]] = []

    def event(cue: int, start: int, end: int, flags: int, context: object) -> None:
        events.append((cue, end))

    return speed(lambda: database.scan(data, match_event_handler=event), len(data))


def presidio(texts: list[str]) -> Callable[[], None]:
    """Presidio's own recognizers of the same entities, on whole documents."""
    import tldextract
    from presidio_analyzer.predefined_recognizers import (
        CreditCardRecognizer,
        EmailRecognizer,
        IbanRecognizer,
        IpRecognizer,
        PhoneRecognizer,
    )

    extract = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)
    email = EmailRecognizer()
    email.validate_result = lambda text: extract(text).fqdn != ""  # without network access
    recognizers = [
        email,
        PhoneRecognizer(),
        IpRecognizer(),
        CreditCardRecognizer(),
        IbanRecognizer(),
    ]

    def run() -> None:
        for text in texts:
            for recognizer in recognizers:
                recognizer.analyze(text, recognizer.supported_entities)

    return run


def measure(name: str, megabytes: float, sample: int) -> dict[str, Any]:
    texts = list(documents(name, megabytes))
    batches = [pa.array(texts[i : i + BATCH]) for i in range(0, len(texts), BATCH)]
    size = sum(len(text.encode()) for text in texts)
    scrubber = pii.Scrubber()
    results: list[pii.Scrubbed] = []
    scrub = speed(lambda: results.extend(scrubber.scrub(batch) for batch in batches), size)
    data = "".join(texts).encode()
    offsets = np.array([0, len(data)], np.int64)
    buffer = np.frombuffer(data, np.uint8)
    found: Counter[str] = Counter()
    for result in results:
        found.update(result.findings["entity"].to_pylist())
    few = texts[:: max(1, len(texts) // sample)]
    few_size = sum(len(text.encode()) for text in few)
    ours = pa.array(few)
    return {
        "documents": len(texts),
        "megabytes": round(size / 1e6, 1),
        "scrub_mb_s": scrub,
        "scan_mb_s": speed(lambda: pii_scan.scan(buffer, offsets, 31), size),
        "hyperscan_mb_s": hyperscan_speed(data),
        "findings": dict(sorted(found.items())),
        "failed": sum(len(result.failed) for result in results),
        "sample_megabytes": round(few_size / 1e6, 2),
        "sample_scrub_mb_s": speed(lambda: scrubber.scrub(ours), few_size),
        "sample_presidio_mb_s": speed(presidio(few), few_size),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=float, default=80.0)
    parser.add_argument("--sample", type=int, default=200)
    options = parser.parse_args()
    if not BENCH.exists():
        sys.exit(f"needs {BENCH}")
    start = time.process_time()
    pii.warm()
    pii.Scrubber()
    result: dict[str, Any] = {"start_seconds": round(time.process_time() - start, 2)}
    for name in ("english", "multilingual"):
        result[name] = measure(name, options.megabytes, options.sample)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
