"""Signing and the dedup stage, on one core: MB/s of text, and CPU seconds of the stage.

    taskset -c 0 python tests/benchmarks/bench_minhash.py [FILE.jsonl.zst ...]

Prints, for each file (by default both benchmark corpora in ../shared/data): signatures (14 x 8,
word 5-grams) with both word rules, text hashes and band hashes, the best of several runs in CPU
time; datasketch on the same shingles, which it gets for nothing, on a sample; then writing band
files, pairs and survivors over the whole file. Trust ratios; absolute figures are the machine's.
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import zstandard
from datasketch import MinHash as Datasketch

from filters import bands, clusters, minhash, shingles
from schemas.recipe import Dedup, MinHash

BENCH = Path(__file__).parents[3] / "shared" / "data" / "bench"
SAMPLE_BYTES = 8_000_000
DATASKETCH_DOCUMENTS = 200


def cpu(function: Callable[[], object], repeat: int = 7) -> float:
    """Least CPU seconds of several calls."""
    times = []
    for _ in range(repeat):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times)


def read(path: Path) -> list[str]:
    with path.open("rb") as raw, zstandard.ZstdDecompressor().stream_reader(raw) as stream:
        return [json.loads(line)["text"] for line in io.TextIOWrapper(stream, "utf-8")]


def kernels(texts: list[str]) -> None:
    size, count = 0, 0
    while count < len(texts) and size < SAMPLE_BYTES:
        size += len(texts[count].encode())
        count += 1
    sample = pa.array(texts[:count], pa.string())
    settings = MinHash()
    signatures = minhash.signatures(sample, settings)
    rows: list[tuple[str, Callable[[], object]]] = [
        ("signatures, gristmill words", lambda: minhash.signatures(sample, settings)),
        ("signatures, regex words", lambda: minhash.signatures(sample, MinHash(words="regex"))),
        ("text hashes", lambda: minhash.text_hashes(sample)),
        ("band hashes", lambda: minhash.band_hashes(signatures, settings)),
    ]
    for name, function in rows:
        print(f"  {name:40} {size / cpu(function) / 1e6:8.1f} MB/s")

    some = texts[:DATASKETCH_DOCUMENTS]
    cut = [[shingles.shingle_hash(s) for s in shingles.shingles(text)] for text in some]

    def peer() -> None:
        for hashes in cut:
            sketch = Datasketch(num_perm=112, scheme="affine64", hashfunc=lambda value: value)
            sketch.update_batch(hashes)

    seconds = cpu(peer, repeat=3)
    peer_size = sum(len(text.encode()) for text in some)
    print(f"  {'datasketch, shingle hashes given':40} {peer_size / seconds / 1e6:8.1f} MB/s")


def stage(texts: list[str]) -> None:
    """Band files and edges of one task over the whole file, without document shards."""
    settings = Dedup()
    assert settings.minhash is not None
    with tempfile.TemporaryDirectory() as folder:
        paths = Path(folder, "a.bands"), Path(folder, "a.sig")
        start = time.process_time()
        writer = bands.BandWriter(settings)
        for i in range(0, len(texts), 1000):
            writer.add(pa.array(texts[i : i + 1000], pa.string()))
        totals = writer.close(*paths)
        wrote = time.process_time()
        data, signed = (path.read_bytes() for path in paths)
    file = bands.BandFile(lambda at, length: data[at : at + length], "a.bands")
    signatures = bands.SignatureFile(lambda at, length: signed[at : at + length], "a.sig")
    rows = [file.rows_between(s, 0, bands.HASHES) for s in range(file.sections)]
    slots = signatures.slots
    exact = clusters.exact_edges(
        *(rows[0][name] for name in ("hash", "low", "priority")), rows[0]["row"].astype("u8"), slots
    )
    everything = signatures.take(pa.array(range(totals.documents)).to_numpy())
    least = clusters.least_equal(settings.minhash.threshold, slots)
    near, counted = clusters.near_edges(
        [(r["hash"], r["priority"], r["row"].astype("u8")) for r in rows[1:]],
        lambda a, b: clusters.count_equal(everything, a.astype("i8"), b.astype("i8")),
        least,
    )
    priority = file.documents_table()["priority"]
    removals, info = clusters.choose_survivors(
        exact, near, lambda a: priority[a.astype("i8")], lambda a: everything[a.astype("i8")], least
    )
    done = time.process_time()
    print(f"  {'sign and write band files':40} {wrote - start:8.2f} s")
    print(f"  {'pairs and survivors':40} {done - wrote:8.2f} s")
    print(
        f"  {totals.documents} documents, {len(removals.address)} removed, "
        f"{int(removals.exact.sum())} exact, {counted | info}"
    )


def main() -> None:
    minhash.warm()
    clusters.warm()
    paths = [Path(arg) for arg in sys.argv[1:]] or sorted(BENCH.glob("*.jsonl.zst"))
    for path in paths:
        texts = read(path)
        print(
            f"{path.name}: {len(texts)} documents, {sum(len(t.encode()) for t in texts) / 1e6} MB"
        )
        kernels(texts)
        stage(texts)


if __name__ == "__main__":
    main()
