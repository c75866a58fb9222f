"""Batches that readers yield, and the builder that cuts them to size."""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import cast

import numpy as np
import pyarrow as pa

from schemas.document import BATCH_BYTES, BATCH_DOCUMENTS, RAW_DOCUMENT, RAW_EXCERPT, REJECT
from schemas.text import text_bytes

_MESSAGE_CHARACTERS = 500


@dataclass(frozen=True)
class ReadBatch:
    """Documents (RAW_DOCUMENT) and what was met beside them that is none (REJECT)."""

    documents: pa.RecordBatch
    rejects: pa.RecordBatch


class Sampler:
    """A seeded choice by document id: the same id is in or out wherever it is read."""

    def __init__(self, seed: int, share: float) -> None:
        self._key = seed.to_bytes(8, "little")
        self._below = int(share * 2.0**64)

    def keeps(self, id: str) -> bool:
        """Whether the first 64 bits of BLAKE2b, keyed by the seed, fall below share * 2**64."""
        digest = hashlib.blake2b(id.encode(), digest_size=8, key=self._key).digest()
        return int.from_bytes(digest, "little") < self._below


class BatchBuilder:
    """Collects documents and rejects of one file; `take` cuts a batch when there is enough.

    Rows keep file order. Empty texts become rejects ("empty"), and so do
    sampled-out rows ("not-sampled").
    """

    def __init__(self, source: str, relative: str, sampler: Sampler | None = None) -> None:
        self.source = source
        self.relative = relative
        self._prefix = f"{source}/{relative}#"
        self._sampler = sampler
        self._clear()

    def _clear(self) -> None:
        self._ids: list[str] = []
        self._texts: list[str] = []
        self._positions: list[int] = []
        self._urls: list[str | None] = []
        self._dates: list[str | None] = []
        self._languages: list[str | None] = []
        self._raw_bytes: list[int] = []
        self._repairs: list[int] = []
        self._size = 0
        self._rejects: list[tuple[str, int, str, str, str | None, int, bytes | None]] = []

    def add(
        self,
        position: int,
        text: str,
        raw_bytes: int | None,
        *,
        id: str | None = None,
        url: str | None = None,
        date: str | None = None,
        language: str | None = None,
        repairs: int = 0,
    ) -> None:
        """Add a document without surrogates; `raw_bytes` of None means: as long as its text."""
        id = id or f"{self._prefix}{position}"
        if not text:
            self._reject(id, position, "removed", "empty", None, raw_bytes or 0, None)
            return
        if self._sampler is not None and not self._sampler.keeps(id):
            size = len(text.encode()) if raw_bytes is None else raw_bytes
            self._reject(id, position, "removed", "not-sampled", None, size, None)
            return
        self._ids.append(id)
        self._texts.append(text)
        self._positions.append(position)
        self._urls.append(url)
        self._dates.append(date)
        self._languages.append(language)
        self._raw_bytes.append(-1 if raw_bytes is None else raw_bytes)
        self._repairs.append(repairs)
        self._size += len(text)

    def extend(
        self,
        positions: list[int],
        texts: list[str],
        ids: list[str | None],
        urls: list[str | None],
        dates: list[str | None],
        languages: list[str | None],
    ) -> Iterator[ReadBatch]:
        """`add` for columns of sound rows with `raw_bytes` of None, and the batches they fill."""
        if self._sampler is not None or "" in texts:
            for row in zip(positions, texts, ids, urls, dates, languages, strict=True):
                position, text, id, url, date, language = row
                self.add(position, text, None, id=id, url=url, date=date, language=language)
                yield from self.ready()
            return
        if not all(ids):
            prefix = self._prefix
            ids = [i or f"{prefix}{p}" for i, p in zip(ids, positions, strict=True)]
        named = cast("list[str]", ids)
        sizes = list(accumulate(map(len, texts)))
        start = before = 0
        while start < len(texts):
            # As many as `add` with `ready` would take: batches don't depend on the way rows came.
            full = bisect_left(sizes, BATCH_BYTES - self._size + before, start) + 1
            stop = min(start + BATCH_DOCUMENTS - len(self._ids), full, len(texts))
            self._ids += named[start:stop]
            self._texts += texts[start:stop]
            self._positions += positions[start:stop]
            self._urls += urls[start:stop]
            self._dates += dates[start:stop]
            self._languages += languages[start:stop]
            self._raw_bytes += [-1] * (stop - start)
            self._repairs += [0] * (stop - start)
            self._size += sizes[stop - 1] - before
            before = sizes[stop - 1]
            start = stop
            yield from self.ready()

    def reject(
        self,
        position: int,
        reason: str,
        message: str | None,
        raw: bytes | None,
        *,
        outcome: str = "failed",
        raw_bytes: int | None = None,
        id: str | None = None,
    ) -> None:
        """Add a record that is no document; an excerpt of `raw` is kept."""
        if raw_bytes is None:
            raw_bytes = len(raw) if raw is not None else 0
        id = id or f"{self._prefix}{position}"
        self._reject(id, position, outcome, reason, message, raw_bytes, raw)

    def _reject(
        self,
        id: str,
        position: int,
        outcome: str,
        reason: str,
        message: str | None,
        raw_bytes: int,
        raw: bytes | None,
    ) -> None:
        if message is not None:
            message = message[:_MESSAGE_CHARACTERS].encode("utf-8", "replace").decode()
        raw = raw[:RAW_EXCERPT] if raw is not None else None
        self._rejects.append((id, position, outcome, reason, message, raw_bytes, raw))

    def ready(self) -> Iterator[ReadBatch]:
        """A batch if there is enough for one."""
        if (
            len(self._ids) >= BATCH_DOCUMENTS
            or self._size >= BATCH_BYTES
            or len(self._rejects) >= BATCH_DOCUMENTS
        ):
            yield self._take()

    def rest(self) -> Iterator[ReadBatch]:
        """What is left at the end of the file."""
        if self._ids or self._rejects:
            yield self._take()

    def _take(self) -> ReadBatch:
        n = len(self._ids)
        text = pa.array(self._texts, pa.string())
        raw_sizes = np.array(self._raw_bytes, np.int64)
        raw_sizes = np.where(raw_sizes < 0, text_bytes(text), raw_sizes)
        documents = pa.RecordBatch.from_arrays(
            [
                pa.array(self._ids, pa.string()),
                text,
                pa.array([self.source], pa.string()).take(pa.array(np.zeros(n, np.int32))),
                pa.array([self.relative], pa.string()).take(pa.array(np.zeros(n, np.int32))),
                pa.array(self._positions, pa.int64()),
                pa.array(self._urls, pa.string()),
                pa.array(self._dates, pa.string()),
                pa.array(self._languages, pa.string()),
                pa.array(raw_sizes, pa.int64()),
                pa.array(self._repairs, pa.uint8()),
            ],
            schema=RAW_DOCUMENT,
        )
        columns = list(zip(*self._rejects, strict=True)) or [()] * 7
        id, position, outcome, reason, message, raw_bytes, raw = columns
        m = len(self._rejects)
        rejects = pa.RecordBatch.from_arrays(
            [
                pa.array(id, pa.string()),
                pa.array([self.source] * m, pa.string()),
                pa.array([self.relative] * m, pa.string()),
                pa.array(position, pa.int64()),
                pa.array(outcome, pa.string()),
                pa.array(reason, pa.string()),
                pa.array(message, pa.string()),
                pa.array(raw_bytes, pa.int64()),
                pa.array(raw, pa.binary()),
            ],
            schema=REJECT,
        )
        self._clear()
        return ReadBatch(documents, rejects)
