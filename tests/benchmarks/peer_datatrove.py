"""The same chain in datatrove, run by bench_peer.py with datatrove's own interpreter.

    python peer_datatrove.py INPUT_FOLDER OUTPUT_FOLDER WORKERS TOKENIZER_JSON LID_MODEL

Four executors as its documentation has them: filters and signatures, buckets, clusters, then
removal and tokens. INPUT_FOLDER holds one file a worker, since it cannot divide a file.
"""

import json
import sys
import time
from pathlib import Path

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import (
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
    MinhashDedupSignature,
)
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
    LanguageFilter,
)
from datatrove.pipeline.formatters import PIIFormatter
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.tokens import DocumentTokenizer
from datatrove.pipeline.writers import JsonlWriter
from datatrove.utils import lid


def main() -> None:
    """Run the chain and print its wall time and document counts as JSON."""
    source, folder, workers, tokenizer, model = sys.argv[1:]
    # It would download the large model; both sides are given the small one.
    lid.cached_asset_path_or_download = lambda *_, **__: model
    config = MinhashConfig(n_grams=5, num_buckets=14, hashes_per_bucket=8)
    out = Path(folder)
    tasks = int(workers)

    def execute(name: str, pipeline: list, count: int = tasks) -> None:
        LocalPipelineExecutor(
            pipeline=pipeline,
            tasks=count,
            workers=tasks,
            logging_dir=str(out / "log" / name),
            start_method="fork",  # so that workers have the model's path too
        ).run()

    started = time.perf_counter()
    execute(
        "filter",
        [
            JsonlReader(source),
            LanguageFilter("en", language_threshold=0.65),
            GopherRepetitionFilter(),
            GopherQualityFilter(),
            C4QualityFilter(),
            FineWebQualityFilter(),
            PIIFormatter(),
            JsonlWriter(str(out / "filtered")),
            MinhashDedupSignature(str(out / "signatures"), config),
        ],
    )
    execute(
        "buckets",
        [MinhashDedupBuckets(str(out / "signatures"), str(out / "buckets"), config=config)],
        14,
    )
    execute(
        "clusters",
        [MinhashDedupCluster(str(out / "buckets"), str(out / "remove"), config=config)],
        1,
    )
    execute(
        "tokens",
        [
            JsonlReader(str(out / "filtered")),
            MinhashDedupFilter(str(out / "remove")),
            DocumentTokenizer(
                str(out / "tokens"),
                tokenizer,
                eos_token="<|endoftext|>",
                local_working_dir=str(out / "work"),
                shuffle_documents=False,
            ),
        ],
    )
    seconds = time.perf_counter() - started
    steps = json.loads((out / "log" / "tokens" / "stats.json").read_text())
    dedup = next(step["stats"] for step in steps if "MinHash" in step["name"])
    documents = {"after_filters": dedup["total"], "after_dedup": dedup["forwarded"]}
    print(json.dumps({"wall_seconds": round(seconds, 2), "documents": documents}))


if __name__ == "__main__":
    main()
