"""The whole run, stage by stage: MB/s per core and wall time, as one JSON object.

    python tests/benchmarks/bench_run.py english --tokenizer tokenizer.json
    python tests/benchmarks/bench_run.py multilingual
    python tests/benchmarks/bench_run.py memory

`english` is language, Gopher, C4, FineWeb, PII, MinHash and a given 32k tokenizer;
`multilingual` is all five stages, training included. `memory` compares the peak RSS of a worker
over 1x and 8x of the multilingual file, ids made unique. Cost per stage is CPU seconds, which count
once per core.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson
import yaml
import zstandard

from pipeline.environment import fingerprint

ROOT = Path(__file__).parents[2]
BENCH = ROOT.parent / "shared" / "data" / "bench"


def source(*paths: Path) -> dict[str, Any]:
    return {"name": "bench", "paths": [str(p) for p in paths], "fields": {"id": "id"}}


def english(tokenizer: Path) -> dict[str, Any]:
    """The chain that EVIDENCE.md timed for datatrove: 105.9 s with two workers."""
    return {
        "name": "english",
        "sources": [source(BENCH / "english_docs.jsonl.zst")],
        "clean": {
            "language": {"keep": ["en"], "min_score": 0.65},
            "passes": [
                {"name": "gopher", "rules": ["gopher-repetition", "gopher-quality"]},
                {"name": "c4", "transform": "c4-lines", "rules": ["c4", "fineweb"]},
            ],
        },
        "tokenizer": {"kind": "given", "path": str(tokenizer)},
    }


def multilingual(*paths: Path) -> dict[str, Any]:
    """All languages, no filters: every document goes through every stage."""
    return {"name": "multilingual", "sources": [source(*paths)]}


def repeated(path: Path, times: int, folder: Path) -> Path:
    """The file `times` times over, in one zstd frame, with ids and texts made unique.

    Words get a suffix a copy, else deduplication would spare later stages the work.
    """
    target = folder / f"x{times}.jsonl.zst"
    compressor = zstandard.ZstdCompressor(level=1)
    with open(target, "wb") as raw, compressor.stream_writer(raw) as out:
        for copy in range(times):
            with io.BufferedReader(zstandard.open(path, "rb")) as lines:
                for line in lines:
                    value = orjson.loads(line)
                    value["id"] = f"{value['id']}-{copy}"
                    if copy:
                        value["text"] = (
                            value["text"].replace(" ", f" {copy}", 1).replace("e", f"e{copy}")
                        )
                    out.write(orjson.dumps(value) + b"\n")
    return target


class PeakMemory:
    """Samples the resident memory of a process and all its descendants."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._stop = threading.Event()
        self.by_process: dict[int, int] = {}  # KiB
        self.total = 0
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._stop.wait(0.1):
            now = {pid: _rss(pid) for pid in _descendants(self._pid)}
            for pid, rss in now.items():
                self.by_process[pid] = max(rss, self.by_process.get(pid, 0))
            self.total = max(self.total, sum(now.values()))


def _descendants(pid: int) -> list[int]:
    found = [pid]
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as file:
                for child in file.read().split():
                    found += _descendants(int(child))
    except OSError:  # gone meanwhile
        pass
    return found


def _rss(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/status") as file:
            return next((int(line.split()[1]) for line in file if line.startswith("VmRSS")), 0)
    except OSError:
        return 0


def run(recipe: dict[str, Any], workers: int) -> dict[str, Any]:
    """Run the recipe as a user would, in a fresh directory, and say what it cost."""
    with tempfile.TemporaryDirectory(prefix="gristmill-bench-") as name:
        folder = Path(name)
        (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
        out = folder / "run"
        command = [sys.executable, "-m", "pipeline", "run", str(folder / "recipe.yaml")]
        command += ["--output", str(out), "--workers", str(workers), "--quiet"]
        started = time.perf_counter()
        process = subprocess.Popen(command, cwd=ROOT)
        memory = PeakMemory(process.pid)
        code = process.wait()
        wall = time.perf_counter() - started
        memory.stop()
        if code:
            raise SystemExit(f"gristmill run ended with {code}")
        return {
            "workers": workers,
            "wall_seconds": round(wall, 2),
            "peak_rss_mb_largest_process": max(memory.by_process.values()) // 1024,
            "peak_rss_mb_all_processes": memory.total // 1024,
            "stages": _stages(out),
            "bytes_on_disk": sum(p.stat().st_size for p in out.rglob("*") if p.is_file()),
        }


def _stages(out: Path) -> dict[str, Any]:
    ledger = json.loads((out / "ledger.json").read_bytes())["stages"]
    steps: dict[str, Any] = {}
    for path in sorted((out / "log" / "tasks").glob("*.json")):
        cost = json.loads(path.read_bytes())
        step = steps.setdefault(cost["step"], {"tasks": 0, "cpu_seconds": 0.0, "peak_rss_mb": 0})
        step["tasks"] += 1
        step["cpu_seconds"] = round(step["cpu_seconds"] + cost["cpu_seconds"], 3)
        step["peak_rss_mb"] = max(step["peak_rss_mb"], cost["peak_rss_kib"] // 1024)
    for name, step in steps.items():
        flows = ledger[name.split(".")[0]]["flows"]
        came = [f for f in flows if f["outcome"] == "in"]
        kept = [f for f in flows if f["outcome"] == "kept"]
        step["documents_in"] = sum(f["documents"] for f in came)
        step["documents_kept"] = sum(f["documents"] for f in kept)
        step["megabytes_in"] = round(sum(f["bytes"] for f in came) / 1e6, 2)
        step["tokens"] = sum(f["tokens"] for f in kept)
        if step["megabytes_in"] and step["cpu_seconds"]:
            step["mb_per_core_second"] = round(step["megabytes_in"] / step["cpu_seconds"], 1)
    return steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["english", "multilingual", "memory"])
    parser.add_argument("--tokenizer", type=Path, help="a 32k tokenizer.json, for english")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    multilingual_file = BENCH / "multilingual_docs.jsonl.zst"
    result: dict[str, Any] = {"benchmark": f"run-{arguments.what}"}
    if arguments.what == "english":
        if arguments.tokenizer is None:
            parser.error("english needs --tokenizer (see make_tokenizer.py)")
        result |= run(english(arguments.tokenizer.resolve()), arguments.workers)
    elif arguments.what == "multilingual":
        result |= run(multilingual(multilingual_file), arguments.workers)
    else:
        folder = Path(tempfile.mkdtemp(prefix="gristmill-memory-"))
        try:
            for times in (1, 8):
                recipe = multilingual(repeated(multilingual_file, times, folder))
                result[f"x{times}"] = run(recipe, arguments.workers)
        finally:
            shutil.rmtree(folder)
        steps = {t: result[f"x{t}"]["stages"] for t in (1, 8)}
        result["peak_rss_ratio"] = {
            name: round(steps[8][name]["peak_rss_mb"] / steps[1][name]["peak_rss_mb"], 3)
            for name in steps[1]
        }
    result["environment"] = fingerprint() | {"apache-beam": version("apache-beam")}
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
