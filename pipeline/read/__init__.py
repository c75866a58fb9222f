"""Reading: input files to batches of documents, with every defect quarantined in its place.

`plan_inputs(recipe)` says what there is to read, in slices cut from the input alone;
`group(slices, recipe)` which of them make a task; `read_slices(group, recipe)` yields batches of
documents and of rejects.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pipeline import storage
from pipeline.read.batches import BatchBuilder, ReadBatch, Sampler
from pipeline.read.plan import InputSlice, group, plan_inputs
from schemas.errors import InputError
from schemas.recipe import Recipe, Source

__all__ = ["InputSlice", "ReadBatch", "group", "plan_inputs", "read_slice", "read_slices"]


def read_slices(slices: Iterable[InputSlice], recipe: Recipe) -> Iterator[ReadBatch]:
    """Batches of all slices in order; stops after `input.limit` documents of a source."""
    limit = recipe.input.limit
    read: dict[str, int] = {}
    for one in slices:
        if limit is None:
            yield from read_slice(one, recipe)
            continue
        if read.get(one.source, 0) >= limit:
            continue
        for batch in read_slice(one, recipe):
            left = limit - read.get(one.source, 0)
            if left <= 0:
                break
            yield _first(batch, left)
            read[one.source] = read.get(one.source, 0) + batch.documents.num_rows


def read_slice(one: InputSlice, recipe: Recipe) -> Iterator[ReadBatch]:
    """Batches of at most BATCH_DOCUMENTS documents or about BATCH_BYTES of text, in file order.

    Defects in the content never raise: they are in `rejects`. Raises InputError if the file is not
    the one that was planned.
    """
    found = storage.stat(one.path)
    if (found.size, found.etag) != (one.size, one.etag):
        raise InputError(
            f"{one.path} has changed since the run was planned: expected {one.size} bytes "
            f"(version {one.etag}), found {found.size} (version {found.etag}). "
            "Put the old file back, or start a new run directory."
        )
    (source,) = (s for s in recipe.sources if s.name == one.source)
    share = recipe.input.sample
    sampler = Sampler(recipe.seed, share) if share is not None else None
    builder = BatchBuilder(one.source, one.relative, sampler)
    yield from _read(one, source, builder)


def _read(one: InputSlice, source: Source, builder: BatchBuilder) -> Iterator[ReadBatch]:
    # Imported here: a process that reads JSON lines needs no HTML parser.
    with storage.open_read(one.path) as file:
        if one.kind == "jsonl":
            from pipeline.read.jsonl import JsonLines
            from pipeline.read.lines import line_blocks

            blocks = line_blocks(
                file,
                one.compression,
                start=one.start,
                stop=one.stop,
                stripe=one.stripe,
                stripes=one.stripes,
            )
            yield from JsonLines(source.fields, builder).read(blocks)
        elif one.kind == "warc":
            from pipeline.read.warc import read_warc

            yield from read_warc(file, one.compression, builder)
        elif one.kind in ("parquet", "arrow"):
            from pipeline.read import columnar

            reader = columnar.read_parquet if one.kind == "parquet" else columnar.read_arrow
            yield from reader(file, one, source.fields, builder)
        elif one.kind == "text":
            from pipeline.read.text import read_text

            yield from read_text(file, one, source.text_unit, builder)
        else:
            from pipeline.read.tables import read_csv

            yield from read_csv(file, one, source.fields, builder)


def _first(batch: ReadBatch, documents: int) -> ReadBatch:
    """The batch up to its n-th document."""
    if batch.documents.num_rows <= documents:
        return batch
    import pyarrow.compute as pc

    kept = batch.documents.slice(0, documents)
    last = kept.column("position")[documents - 1].as_py()
    return ReadBatch(
        kept, batch.rejects.filter(pc.less_equal(batch.rejects.column("position"), last))
    )
