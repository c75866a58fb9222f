"""The scrub step: leave out duplicates, replace personal data, count pretokens for training."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from filters.pii import FINDING, Scrubbed, Scrubber
from pipeline import storage
from pipeline.files import ParquetShard, Quarantine, read_batches
from pipeline.step import Outputs, Result, Run
from pipeline.tally import tally
from schemas.document import DOCUMENT, REJECT
from schemas.ledger import Counts
from schemas.record import Task
from schemas.text import text_bytes
from tokenizer.pretokens import PretokenCounter, pretokenizer_of

# What was found where; offsets are bytes in the text before scrubbing, values are never stored.
PII = pa.schema([DOCUMENT.field("id"), *(f for f in FINDING if f.name != "document")])

_REASON = "pii-bound"


class Scrub:
    """One task per clean task: document shard and removal list in, clean shard out."""

    name = "scrub"
    stage = "scrub"

    def plan(self, run: Run) -> list[Task]:
        return [
            Task(
                step=self.name,
                name=f"scrub-{number:05d}",
                size=record.counts.total("kept").bytes,
                params={"clean": record.task},
            )
            for number, record in enumerate(run.records("clean"))
        ]

    def process(self, run: Run, task: Task, outputs: Outputs) -> Result:
        clean = str(task.params["clean"])
        removed = _removed_rows(run, clean)
        scrubber = Scrubber(run.recipe.scrub.entities)
        pretokenizer = pretokenizer_of(run.recipe.tokenizer)
        counter = None if pretokenizer is None else PretokenCounter(pretokenizer)
        counts = Counts()
        tallied = _Tally()
        source = run.path(run.record("clean", clean).output("documents").path)
        clean_path = outputs.path("clean", f"clean/{task.name}.parquet")
        pii_path = outputs.path("pii", f"pii/{task.name}.parquet")
        with ExitStack() as stack:
            documents = stack.enter_context(ParquetShard(clean_path, DOCUMENT))
            findings = stack.enter_context(ParquetShard(pii_path, PII))
            quarantine = stack.enter_context(Quarantine(outputs, task))
            local = stack.enter_context(storage.local_copy(source))
            row = 0
            for batch in read_batches(local):
                alive = np.ones(batch.num_rows, bool)
                here = removed[(removed >= row) & (removed < row + batch.num_rows)]
                alive[here - row] = False
                row += batch.num_rows
                batch = batch.filter(pa.array(alive))
                if not batch.num_rows:
                    continue
                scrubbed = scrubber.scrub(batch.column("text"))
                kept, rejects = _split(batch, scrubbed, counts)
                documents.write(kept)
                quarantine.write(rejects)
                tallied.add(batch, scrubbed.findings)
                findings.write(_with_ids(batch, scrubbed.findings))
                if counter is not None and kept.num_rows:
                    counter.add(kept.column("text"))
        if counter is not None:
            counter.write(outputs.path("counts", f"counts/{task.name}.arrow"))
        info = {"documents": documents.rows, **tallied.info()}
        if quarantine.rows:
            info["quarantined"] = quarantine.rows
        return Result(counts, info)


def _removed_rows(run: Run, clean: str) -> np.ndarray:
    """Rows of a clean task's document shard that deduplication removed, int64, sorted."""
    wanted = f"duplicates/{clean}.parquet"
    for output in run.record("dedup.survivors", "survivors").outputs:
        if output.kind == "removals" and output.path == wanted:
            with storage.local_copy(run.path(wanted)) as local:
                table = pq.read_table(local, columns=["row"], use_threads=False)
            return np.unique(table.column("row").to_numpy().astype(np.int64))
    return np.zeros(0, np.int64)


def _split(
    batch: pa.RecordBatch, scrubbed: Scrubbed, counts: Counts
) -> tuple[pa.RecordBatch, pa.RecordBatch]:
    """Scrubbed documents (DOCUMENT) and failed ones (REJECT), entered in the ledger."""
    before, after = text_bytes(batch.column("text")), text_bytes(scrubbed.text)
    failed = np.zeros(batch.num_rows, bool)
    failed[list(scrubbed.failed)] = True
    index = batch.schema.get_field_index("text")
    kept = batch.set_column(index, DOCUMENT.field("text"), scrubbed.text).cast(DOCUMENT)
    kept = kept.filter(pa.array(~failed))
    bad = batch.filter(pa.array(failed))
    tally(counts, "in", batch, before)
    counts.add_delta("pii", int((after - before)[~failed].sum()))
    tally(counts, "kept", kept, after[~failed])
    tally(counts, "failed", bad, before[failed], _REASON)
    n = bad.num_rows
    rejects = pa.record_batch(
        [
            bad.column("id"),
            bad.column("source"),
            bad.column("path"),
            bad.column("position"),
            pa.array(["failed"] * n, pa.string()),
            pa.array([_REASON] * n, pa.string()),
            pa.array([scrubbed.failed[row] for row in sorted(scrubbed.failed)], pa.string()),
            pa.array(before[failed], pa.int64()),
            pa.nulls(n, pa.binary()),  # an unscrubbed text does not go into a file
        ],
        schema=REJECT,
    )
    return kept, rejects


def _with_ids(batch: pa.RecordBatch, findings: pa.RecordBatch) -> pa.RecordBatch:
    """Findings of a batch with document ids instead of rows (PII)."""
    ids = batch.column("id").take(findings.column("document"))
    return pa.record_batch([ids, *findings.columns[1:]], schema=PII)


class _Tally:
    """Counts findings of a task by entity, rule, source and language."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str, str, str]] = Counter()

    def add(self, batch: pa.RecordBatch, findings: pa.RecordBatch) -> None:
        rows = findings.column("document")
        self._counts.update(
            zip(
                findings.column("entity").to_pylist(),
                findings.column("rule").to_pylist(),
                batch.column("source").take(rows).to_pylist(),
                batch.column("language").take(rows).fill_null("").to_pylist(),
                strict=True,
            )
        )

    def info(self) -> dict[str, Any]:
        """`findings` by entity, `pii` as rows of entity, rule, source, language and findings."""
        entities: Counter[str] = Counter()
        for (entity, *_), number in self._counts.items():
            entities[entity] += number
        keys = ("entity", "rule", "source", "language")
        return {
            "findings": dict(sorted(entities.items())),
            "pii": [
                {**dict(zip(keys, key, strict=True)), "findings": number}
                for key, number in sorted(self._counts.items())
            ],
        }
