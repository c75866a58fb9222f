"""Stage dedup: candidate pairs by partitions of the hash space, then survivors of the whole corpus.

Only band files, signatures and a few columns of document shards are read; texts stay where they
are. Documents are addressed as in `filters.clusters`, with the ordinal of the clean task in its
plan.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from filters import clusters
from filters.bands import HASHES, BandFile, SignatureFile
from filters.clusters import Edges, Removals
from pipeline import storage
from pipeline.repeated import repeated_ids
from pipeline.step import Outputs, Result, Run
from pipeline.tally import tally
from schemas.errors import IntegrityError
from schemas.ledger import CHECKSUM_MODULUS, Counts, Flow, FlowKey
from schemas.record import Task, TaskRecord

PARTITION_BYTES = 256 << 20  # band rows of one pairs task
SLICE_BYTES = 64 << 20  # band rows in memory at once
COMPARE_PAIRS = 1 << 15  # pairs whose signatures are in memory at once
MAPPED_BYTES = 256 << 20  # more signatures than this wait in a temporary file

# Verified edges, sorted by (member, centre); addresses are task ordinal << 32 | row.
EDGES = pa.schema(
    [
        pa.field("member", pa.uint64(), nullable=False),
        pa.field("centre", pa.uint64(), nullable=False),
        pa.field("equal", pa.int32(), nullable=False),  # agreeing signature slots
        pa.field("exact", pa.bool_(), nullable=False),
    ]
)

# Removed documents of one clean task, by row. `survivor_id` is the document of the same cluster
# that stays and that this one was compared with, in row `survivor_row` of clean task
# `survivor_task`. `similarity` is the estimated Jaccard similarity of the two (agreeing slots /
# slots; 1 for kind "exact"); `cluster_size` counts the survivor and all it stands for. `kind`
# is the relation to the survivor: copies of a document that went as "near" are "near" as well.
REMOVAL = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("survivor_id", pa.string(), nullable=False),
        pa.field("survivor_task", pa.string(), nullable=False),
        pa.field("survivor_row", pa.int64(), nullable=False),
        pa.field("similarity", pa.float64(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),  # "exact" or "near"
        pa.field("cluster_size", pa.int64(), nullable=False),
    ]
)

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
_ROW = np.uint64(0xFFFFFFFF)


@dataclass(frozen=True)
class _Corpus:
    """The band, signature and document files of all clean tasks, by ordinal."""

    run: Run
    records: tuple[TaskRecord, ...]

    @classmethod
    def of(cls, run: Run) -> _Corpus:
        return cls(run, tuple(run.records("clean")))

    def path(self, ordinal: int, kind: str) -> str:
        return self.run.path(self.records[ordinal].output(kind).path)

    def bands(self) -> Iterator[tuple[int, BandFile]]:
        for ordinal, record in enumerate(self.records):
            path = self.path(ordinal, "bands")
            yield ordinal, BandFile(partial(storage.read_range, path), record.output("bands").path)

    def signatures(self, addresses: U64) -> U64:
        """uint64[n, slots] of ascending addresses; mapped from a temporary file if large."""
        settings = self.run.recipe.dedup.minhash
        assert settings is not None, "no signatures without MinHash"
        shape = len(addresses), settings.bands * settings.rows
        out: U64
        if shape[0] * shape[1] * 8 > MAPPED_BYTES:
            with tempfile.TemporaryFile() as file:  # the mapping outlives its name
                out = np.asarray(np.memmap(file, np.uint64, "w+", shape=shape))
        else:
            out = np.empty(shape, np.uint64)
        for ordinal, begin, end in _by_task(addresses):
            name = self.records[ordinal].output("signatures").path
            with storage.open_read(self.path(ordinal, "signatures")) as file:
                source = SignatureFile(partial(_read_at, file), name)
                if source.slots != shape[1]:
                    raise IntegrityError(
                        f"{name}: expected signatures of {shape[1]} slots, got {source.slots}"
                    )
                out[begin:end] = source.take((addresses[begin:end] & _ROW).astype(np.int64))
        return out

    def compare(self, member: U64, centre: U64) -> npt.NDArray[np.int32]:
        """Equal slots of each pair, a bounded number of pairs at a time."""
        equal = np.empty(len(member), np.int32)
        for begin in range(0, len(member), COMPARE_PAIRS):
            cut = slice(begin, begin + COMPARE_PAIRS)
            both = np.concatenate([member[cut], centre[cut]])
            documents, at = np.unique(both, return_inverse=True)
            half = len(both) // 2
            equal[cut] = clusters.count_equal(self.signatures(documents), at[:half], at[half:])
        return equal


class Pairs:
    """Verified edges between duplicates, one task a partition of the hash space.

    The key space is the sections of the band files one after the other (the exact one first), each
    with hashes 0 to 2**64; task i of n takes the i-th n-th of it.
    """

    name = "dedup.pairs"
    stage = "dedup"

    def plan(self, run: Run) -> list[Task]:
        total = 0
        if _enabled(run):
            total = sum(record.output("bands").bytes for record in run.records("clean"))
        count = max(1, -(-total // PARTITION_BYTES))
        return [
            Task(
                step=self.name,
                name=f"pairs-{i:05d}",
                size=total // count,
                params={"partition": i, "partitions": count},
            )
            for i in range(count)
        ]

    def process(self, run: Run, task: Task, outputs: Outputs) -> Result:
        exact: list[Edges] = []
        near: list[Edges] = []
        totals = {"rows": 0, "candidates": 0, "unresolved": 0}
        if _enabled(run):
            corpus = _Corpus.of(run)
            files = list(corpus.bands())
            sections = int(run.recipe.dedup.exact)
            if run.recipe.dedup.minhash is not None:
                sections += run.recipe.dedup.minhash.bands
            for _, file in files:
                if file.sections != sections or file.has_exact != run.recipe.dedup.exact:
                    raise IntegrityError(f"{file.name}: made with other dedup settings")
            i, n = task.params["partition"], task.params["partitions"]
            begin, end = i * sections * HASHES // n, (i + 1) * sections * HASHES // n
            parts = max(1, -(-task.size // SLICE_BYTES))
            for part in range(parts):
                start = begin + part * (end - begin) // parts
                stop = begin + (part + 1) * (end - begin) // parts
                _find_pairs(corpus, files, start, stop, exact, near, totals)
        found = Edges.join(exact), Edges.join(near)
        totals["edges"] = len(found[0]) + len(found[1])
        path = outputs.path("edges", f"duplicates/pairs/{task.name}.arrow")
        with pa.ipc.new_stream(path, EDGES) as writer:
            for edges, is_exact in zip(found, (True, False), strict=True):
                columns = [edges.member, edges.centre, edges.equal, np.full(len(edges), is_exact)]
                arrays = [pa.array(c) for c in columns]
                writer.write_batch(pa.record_batch(arrays, schema=EDGES))
        return Result(Counts(), dict(totals))


def _find_pairs(
    corpus: _Corpus,
    files: list[tuple[int, BandFile]],
    start: int,
    stop: int,
    exact: list[Edges],
    near: list[Edges],
    totals: dict[str, int],
) -> None:
    """Append the edges of one slice of the key space."""
    settings = corpus.run.recipe.dedup.minhash
    slots = 0 if settings is None else settings.bands * settings.rows
    bands = []
    for section in range(start // HASHES, -(-stop // HASHES)):
        low, high = max(0, start - section * HASHES), min(HASHES, stop - section * HASHES)
        parts = [(ordinal, file.rows_between(section, low, high)) for ordinal, file in files]
        address = np.concatenate(
            [np.uint64(ordinal << 32) | rows["row"].astype(np.uint64) for ordinal, rows in parts]
        )
        columns = {
            name: np.concatenate([rows[name] for _, rows in parts])
            for name in (parts[0][1].dtype.names or ())
            if name != "row"
        }
        totals["rows"] += len(address)
        if "low" in columns:
            exact.append(
                clusters.exact_edges(
                    columns["hash"], columns["low"], columns["priority"], address, slots
                )
            )
        else:
            bands.append((columns["hash"], columns["priority"], address))
    if settings is not None and bands:
        least = clusters.least_equal(settings.threshold, slots)
        edges, counted = clusters.near_edges(bands, corpus.compare, least)
        near.append(edges)
        for name, value in counted.items():
            totals[name] += value


class Survivors:
    """The removal list of every clean task, and the stage's ledger.

    `in` is what the clean step kept; what is kept here is that less the removals, by source and
    language, counted from the documents' own columns.
    """

    name = "dedup.survivors"
    stage = "dedup"

    def plan(self, run: Run) -> list[Task]:
        size = sum(r.output("edges").bytes for r in run.records("dedup.pairs"))
        return [Task(step=self.name, name="survivors", size=size)]

    def process(self, run: Run, task: Task, outputs: Outputs) -> Result:
        corpus = _Corpus.of(run)
        settings = run.recipe.dedup.minhash
        slots = 0 if settings is None else settings.bands * settings.rows
        exact, near = _read_edges(run)
        if settings is None:
            least, signatures_of = 0, _no_signatures
        else:
            least = clusters.least_equal(settings.threshold, slots)
            signatures_of = corpus.signatures
        files = dict(corpus.bands()) if _enabled(run) else {}
        removals, info = clusters.choose_survivors(
            exact, near, partial(_priorities, files), signatures_of, least
        )
        survivors = np.unique(removals.survivor)
        survivor_ids = pa.chunked_array(
            [
                _columns(corpus, ordinal, ["id"])["id"].take(_rows(survivors[begin:end]))
                for ordinal, begin, end in _by_task(survivors)
            ],
            pa.string(),
        ).combine_chunks()

        counts = _came(corpus, files)
        at = 0
        for ordinal, record in enumerate(corpus.records):
            end = int(np.searchsorted(removals.address, np.uint64((ordinal + 1) << 32)))
            part = _cut(removals, at, end)
            at = end
            table = REMOVAL.empty_table()
            if len(part.address):
                columns = _columns(corpus, ordinal, ["id", "source", "language"])
                documents = columns.take(_rows(part.address))
                sizes = files[ordinal].documents_table()["bytes"][_rows(part.address)]
                kinds = pa.array(np.where(part.exact, "exact", "near").tolist(), pa.string())
                (batch,) = documents.combine_chunks().to_batches()
                tally(counts, "removed", batch, sizes, kinds)
                ids = survivor_ids.take(np.searchsorted(survivors, part.survivor))
                table = _removal_table(corpus, part, documents["id"], ids, slots)
            path = outputs.path("removals", f"duplicates/{record.task}.parquet")
            pq.write_table(table, path, compression="zstd", compression_level=3, version="2.6")
        _count_kept(counts)
        told: dict[str, Any] = {
            **info,
            "exact": int(removals.exact.sum()),
            "near": int((~removals.exact).sum()),
            "clusters": len(survivors),
            "largest_cluster": int(removals.size.max(initial=0)),
            "slots": slots,
            "repeated_ids": repeated_ids(partial(_ids, corpus)),
        }
        return Result(counts, told)


def _enabled(run: Run) -> bool:
    return run.recipe.dedup.exact or run.recipe.dedup.minhash is not None


def _read_at(file: BinaryIO, start: int, length: int) -> bytes:
    file.seek(start)
    return file.read(length)


def _rows(addresses: U64) -> I64:
    rows: I64 = (addresses & _ROW).astype(np.int64)
    return rows


def _by_task(addresses: U64) -> Iterator[tuple[int, int, int]]:
    """(task ordinal, begin, end) of each task's run in ascending addresses."""
    if len(addresses):
        ordinals = (addresses >> np.uint64(32)).astype(np.int64)
        starts = np.flatnonzero(np.diff(ordinals, prepend=-1))
        stops = np.append(starts[1:], len(addresses))
        yield from zip(ordinals[starts].tolist(), starts.tolist(), stops.tolist(), strict=True)


def _priorities(files: dict[int, BandFile], addresses: U64) -> U64:
    out = np.empty(len(addresses), np.uint64)
    for ordinal, begin, end in _by_task(addresses):
        table = files[ordinal].documents_table()["priority"]
        out[begin:end] = table[_rows(addresses[begin:end])]
    return out


def _no_signatures(addresses: U64) -> U64:
    return np.empty((len(addresses), 0), np.uint64)


def _read_edges(run: Run) -> tuple[Edges, Edges]:
    """Exact and near edges of all partitions, each pair once."""
    exact: list[Edges] = []
    near: list[Edges] = []
    for record in run.records("dedup.pairs"):
        with storage.open_read(run.path(record.output("edges").path)) as file:
            table = pa.ipc.open_stream(file).read_all()
        is_exact = table["exact"].to_numpy()
        columns = [table[name].to_numpy() for name in ("member", "centre", "equal")]
        exact.append(Edges(*(c[is_exact] for c in columns)))
        near.append(Edges(*(c[~is_exact] for c in columns)))
    return Edges.join(exact), Edges.join(near)


def _columns(corpus: _Corpus, ordinal: int, names: list[str]) -> pa.Table:
    with storage.open_read(corpus.path(ordinal, "documents")) as file:
        return pq.ParquetFile(file).read(columns=names, use_threads=False)


def _ids(corpus: _Corpus) -> Iterator[pa.StringArray]:
    for ordinal in range(len(corpus.records)):
        yield _columns(corpus, ordinal, ["id"])["id"].combine_chunks()


def _cut(removals: Removals, begin: int, end: int) -> Removals:
    return Removals(
        removals.address[begin:end],
        removals.survivor[begin:end],
        removals.equal[begin:end],
        removals.exact[begin:end],
        removals.size[begin:end],
    )


def _removal_table(
    corpus: _Corpus, part: Removals, ids: pa.ChunkedArray, survivor_ids: pa.Array, slots: int
) -> pa.Table:
    names = pa.array([record.task for record in corpus.records], pa.string())
    similarity = np.where(part.exact, 1.0, part.equal / max(1, slots))
    return pa.table(
        [
            pa.array(_rows(part.address)),
            ids,
            survivor_ids,
            names.take(pa.array((part.survivor >> np.uint64(32)).astype(np.int64))),
            pa.array(_rows(part.survivor)),
            pa.array(similarity),
            pa.array(np.where(part.exact, "exact", "near").tolist(), pa.string()),
            pa.array(part.size),
        ],
        schema=REMOVAL,
    )


def _came(corpus: _Corpus, files: dict[int, BandFile]) -> Counts:
    """What the clean step kept, as `in`; IntegrityError if band files count other documents."""
    counts = Counts()
    for ordinal, record in enumerate(corpus.records):
        documents = 0
        for key, flow in record.counts.flows.items():
            if key.outcome == "kept":
                documents += flow.documents
                came = FlowKey("in", key.source, key.language)
                counts.flows.setdefault(came, Flow()).add(
                    Flow(flow.documents, flow.bytes, 0, flow.checksum)
                )
        if ordinal in files and files[ordinal].documents != documents:
            raise IntegrityError(
                f"{files[ordinal].name} has {files[ordinal].documents} documents, "
                f"the record of {record.task} says {documents}"
            )
    return counts


def _count_kept(counts: Counts) -> None:
    """Add what is left of each source and language."""
    removed: dict[tuple[str, str], Flow] = {}
    for key, flow in counts.flows.items():
        if key.outcome == "removed":
            removed.setdefault((key.source, key.language), Flow()).add(flow)
    for key, flow in list(counts.flows.items()):
        if key.outcome == "in":
            gone = removed.pop((key.source, key.language), Flow())
            kept = Flow(
                flow.documents - gone.documents,
                flow.bytes - gone.bytes,
                0,
                (flow.checksum - gone.checksum) % CHECKSUM_MODULUS,
            )
            if kept.documents < 0 or kept.bytes < 0:
                raise IntegrityError(f"more documents of {key.source} removed than came")
            if kept.documents:
                counts.flows[FlowKey("kept", key.source, key.language)] = kept
    if removed:
        raise IntegrityError(f"documents removed of sources that did not come: {sorted(removed)}")
