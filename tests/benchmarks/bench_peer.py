"""End to end beside datatrove, on the same file in the same run, as one JSON object.

    python -m venv PEER && PEER/bin/pip install "datatrove[io,processing]==0.10.1" spacy \
        tokenizers orjson zstandard fasttext-numpy2-wheel
    python tests/benchmarks/bench_peer.py --peer PEER/bin/python --tokenizer tokenizer.json

Both do language (lid.176.ftz, English at 0.65 or more), Gopher repetition and quality, C4, FineWeb,
personal data, MinHash (5-grams, 14 x 8) and tokens with the given tokenizer, with two workers.
datatrove gets the file divided in two beforehand, untimed, since it cannot divide one itself.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import tempfile
from pathlib import Path

import zstandard
from bench_run import BENCH, english, run

from filters.language import model_path


def halves(path: Path, folder: Path, parts: int) -> None:
    """Deal the lines of a .zst file to `parts` .zst files."""
    writers = []
    for part in range(parts):
        raw = open(folder / f"{part}.jsonl.zst", "wb")  # noqa: SIM115 - closed with its writer
        writers.append(zstandard.ZstdCompressor(level=3).stream_writer(raw))
    with io.BufferedReader(zstandard.open(path, "rb")) as lines:
        for number, line in enumerate(lines):
            writers[number % parts].write(line)
    for writer in writers:
        writer.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", type=Path, required=True, help="python with datatrove")
    parser.add_argument("--tokenizer", type=Path, required=True, help="a 32k tokenizer.json")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    ours = run(english(arguments.tokenizer.resolve()), arguments.workers)
    with tempfile.TemporaryDirectory(prefix="gristmill-peer-") as name:
        source = Path(name) / "in"
        source.mkdir()
        halves(BENCH / "english_docs.jsonl.zst", source, arguments.workers)
        script = Path(__file__).with_name("peer_datatrove.py")
        command = [arguments.peer, script, source, Path(name) / "out", str(arguments.workers)]
        command += [arguments.tokenizer.resolve(), model_path("lid.176")]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr[-3000:])
        peer = json.loads(done.stdout.splitlines()[-1])
    ratio = round(peer["wall_seconds"] / ours["wall_seconds"], 2)
    print(json.dumps({"gristmill": ours, "datatrove": peer, "times_faster": ratio}, indent=1))


if __name__ == "__main__":
    main()
