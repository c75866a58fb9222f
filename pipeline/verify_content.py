"""The content of committed files against their schemas and their task's ledger lines."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline import storage
from pipeline.rundir import StepState
from pipeline.step import Run
from schemas.document import DOCUMENT, REJECT
from schemas.errors import GristmillError
from schemas.ledger import CHECKSUM_MODULUS, Flow, id_checksum
from schemas.record import Output, TaskRecord

Check = Callable[[Run, TaskRecord, Output], Iterator[str]]


def check_content(run: Run, state: StepState, record: TaskRecord) -> list[str]:
    """Problems in the files of one task, which all have the right size and hash."""
    problems = []
    for output in record.outputs:
        check = _CHECKS.get(output.kind)
        if check is None:
            continue
        try:
            problems += [f"{output.path}: {message}" for message in check(run, record, output)]
        except GristmillError as error:
            message = str(error)
            problems.append(message if output.path in message else f"{output.path}: {message}")
        except (OSError, ValueError, KeyError, pa.ArrowException) as error:
            problems.append(f"{output.path}: cannot be read ({type(error).__name__}: {error})")
    if state.step == "dedup.survivors" and not problems:
        problems += _removed(run, record)
    for kind in _ALWAYS.get(state.step, ()):
        if sum(output.kind == kind for output in record.outputs) != 1:
            problems.append(f"records/{record.step}/{record.task}.json names no {kind} file")
    return problems


def _documents(run: Run, record: TaskRecord, output: Output) -> Iterator[str]:
    """A document shard: its schema, and documents, bytes and ids as the ledger says it kept."""
    kept = record.counts.total("kept")
    with storage.open_read(run.path(output.path)) as opened:
        file = pq.ParquetFile(opened)
        if not file.schema_arrow.equals(DOCUMENT):
            yield _schema_differs(DOCUMENT, file.schema_arrow)
            return
        found = Flow()
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, columns=["id", "text"], use_threads=False)
            size = pc.sum(pc.binary_length(table.column("text"))).as_py() or 0
            checksum = id_checksum(table.column("id").to_pylist())
            found.add(Flow(documents=table.num_rows, bytes=size, checksum=checksum))
    if found.as_tuple() != kept.as_tuple():
        yield (
            f"holds {found.documents} documents, {found.bytes} bytes, id checksum "
            f"{found.checksum:032x}; its ledger says {kept.documents}, {kept.bytes}, "
            f"{kept.checksum:032x}"
        )


def _signals(run: Run, record: TaskRecord, output: Output) -> Iterator[str]:
    """A signal table: those without a reason for removal are the documents that were kept."""
    kept = record.counts.total("kept")
    with storage.open_read(run.path(output.path)) as opened:
        table = pq.read_table(opened, use_threads=False)
    ids = table.filter(pc.is_null(table.column("reason"))).column("id").to_pylist()
    if (len(ids), id_checksum(ids)) != (kept.documents, kept.checksum):
        yield f"has signals of {len(ids)} kept documents, its ledger says {kept.documents}"


def _removed(run: Run, record: TaskRecord) -> Iterator[str]:
    """All removal lists together against the ledger's removed documents."""
    removed = record.counts.total("removed")
    found = Flow()
    for output in record.outputs:
        if output.kind == "removals":
            with storage.open_read(run.path(output.path)) as opened:
                ids = pq.read_table(opened, columns=["id"], use_threads=False).column("id")
            found.add(Flow(documents=len(ids), checksum=id_checksum(ids.to_pylist())))
    if (found.documents, found.checksum) != (removed.documents, removed.checksum):
        yield (
            f"duplicates/ lists {found.documents} removed documents, the ledger of "
            f"{record.task} says {removed.documents}"
        )


def _rejects(run: Run, record: TaskRecord, output: Output) -> Iterator[str]:
    """A quarantine file: its schema, and one row for each failed document."""
    failed = record.counts.total("failed")
    with storage.open_read(run.path(output.path)) as opened:
        file = pq.ParquetFile(opened)
        if not file.schema_arrow.equals(REJECT):
            yield _schema_differs(REJECT, file.schema_arrow)
            return
        ids = file.read(columns=["id"], use_threads=False).column("id").to_pylist()
    if (len(ids), id_checksum(ids)) != (failed.documents, failed.checksum % CHECKSUM_MODULUS):
        yield f"holds {len(ids)} records, its ledger says {failed.documents} failed"


def _tokens(run: Run, record: TaskRecord, output: Output) -> Iterator[str]:
    """A token shard: readable, ids in the vocabulary, and totals as ledger and record say."""
    from tokenizer.shards import open_shard

    kept = record.counts.total("kept")
    model = run.record("train", "train").output("tokenizer")
    with (
        storage.local_copy(run.path(output.path)) as tokens,
        storage.local_copy(run.path(record.output("token-documents").path)) as documents,
    ):
        shard = open_shard(tokens, str(documents))
        shard.check()
        if shard.tokens != kept.tokens:
            yield f"holds {shard.tokens} tokens, its ledger says {kept.tokens}"
        table = shard.documents
        found = Flow(
            documents=table.num_rows,
            bytes=pc.sum(table.column("bytes")).as_py() or 0,
            checksum=id_checksum(table.column("id").to_pylist()),
        )
        if found.as_tuple() != kept.as_tuple():
            yield (
                f"its document table has {found.documents} documents of {found.bytes} bytes, id "
                f"checksum {found.checksum:032x}; its ledger says {kept.documents}, {kept.bytes}, "
                f"{kept.checksum:032x}"
            )
        rows = record.info.get("rows", len(shard))
        if len(shard) != rows:
            yield f"has {len(shard)} rows, its record says {rows}"
        if shard.info.tokenizer_sha256 != model.sha256:
            yield (
                f"was made with tokenizer {shard.info.tokenizer_sha256[:16]}, the run has "
                f"{model.sha256[:16]}"
            )
        if shard.info.recipe_sha256 != run.recipe_sha256:
            yield f"was made with recipe {shard.info.recipe_sha256[:16]}"
        expected = run.recipe.encode.sequence_length
        if shard.info.sequence_length != expected:
            yield f"has rows of {shard.info.sequence_length} tokens, the recipe says {expected}"


def _tokenizer(run: Run, record: TaskRecord, output: Output) -> Iterator[str]:
    """A tokenizer that loads."""
    from tokenizer.encode import load_tokenizer

    info = run.path(record.output("tokenizer-info").path)
    facts = json.loads(storage.read_bytes(info))
    with storage.local_copy(run.path(output.path)) as local:
        load_tokenizer(local, facts.get("end_of_document"))
    yield from ()


def _parquet(run: Run, record: TaskRecord, output: Output) -> Iterator[str]:
    """A side table that can be read."""
    with storage.open_read(run.path(output.path)) as opened:
        file = pq.ParquetFile(opened)
        for group in range(file.num_row_groups):
            file.read_row_group(group, use_threads=False)
    yield from ()


def _schema_differs(expected: pa.Schema, found: pa.Schema) -> str:
    for name in expected.names:
        if name not in found.names:
            return f"has no column {name}"
        if not found.field(name).equals(expected.field(name)):
            return f"expected the column {expected.field(name)}, got {found.field(name)}"
    return f"expected the columns {', '.join(expected.names)}, got {', '.join(found.names)}"


_CHECKS: dict[str, Check] = {
    "documents": _documents,
    "clean": _documents,
    "quarantine": _rejects,
    "signals": _signals,
    "pii": _parquet,
    "removals": _parquet,
    "tokens": _tokens,
    "tokenizer": _tokenizer,
}
_ALWAYS = {
    "clean": ("documents", "signals"),
    "scrub": ("clean",),
    "train": ("tokenizer", "tokenizer-info"),
    "encode": ("tokens", "token-documents"),
}
