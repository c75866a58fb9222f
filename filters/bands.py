"""Band and signature files: what a clean task leaves for finding duplicates.

Little-endian throughout. A reader needs nothing but `read(start, length) -> bytes`, so that a
partition task fetches only its slice of every file, from any storage.

`<task>.bands`, version 1:

    header    48 bytes: magic "GMBANDS1", uint32 documents, uint32 exact (0 or 1), uint32 bands,
              uint32 prefix bits p, uint64 rows in the exact section, uint64 rows in each band
              (the same in all), uint32 reserved, uint32 CRC-32 of header and index
    index     for each section 2**p entries (uint32 rows, uint32 CRC-32): the block of rows whose
              hash begins with these p bits; then one entry for the document table
    documents `documents` x (uint64 priority, uint32 UTF-8 bytes of the text)
    sections  the exact section if there is one, then the bands; each sorted by hash, low, row

The exact section has EXACT_ROW rows: the 128-bit text hash as (hash, low), the survivor priority
and the row of the document. A band has BAND_ROW rows: hash of the band's slots, priority, row.
Priority decides who survives among duplicates: larger is better; by default it is the UTF-8 bytes
of the text, so that the longest document stays.

White-space-only documents are not in the exact section, documents without a word in no band. Where
both sections exist, of the documents of one task with the same text hash only the best (priority,
then first row) is in the bands: the others have the same signature and follow it.

`<task>.sig`, version 1: 32 bytes of header (magic "GMSIGNS1", uint64 documents, uint32 slots,
uint32 seed, uint32 reserved, uint32 CRC-32 of the header before it), then documents x slots uint64,
in row order. Signatures are those of `filters.minhash`.
"""

from __future__ import annotations

import shutil
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from filters import minhash
from schemas.errors import IntegrityError
from schemas.recipe import Dedup

Read = Callable[[int, int], bytes]
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
Rows = npt.NDArray[np.void]  # structured: EXACT_ROW or BAND_ROW

EXACT_ROW = np.dtype([("hash", "<u8"), ("low", "<u8"), ("priority", "<u8"), ("row", "<u4")])
BAND_ROW = np.dtype([("hash", "<u8"), ("priority", "<u8"), ("row", "<u4")])
DOCUMENT_ROW = np.dtype([("priority", "<u8"), ("bytes", "<u4")])
INDEX_ENTRY = np.dtype([("rows", "<u4"), ("crc", "<u4")])
HASHES = 1 << 64  # hashes are 0 <= hash < HASHES

_BANDS_MAGIC, _SIGNATURES_MAGIC = b"GMBANDS1", b"GMSIGNS1"
_BANDS_HEADER = struct.Struct("<8sIIIIQQI")  # and a CRC
_SIGNATURES_HEADER = struct.Struct("<8sQIII")  # and a CRC
_CRC = struct.Struct("<I")
_BLOCK_ROWS = 512  # aimed at: 10 kB, so that slices waste little at their ends
_SPOOL_BYTES = 32 << 20  # signatures kept in memory before they go to a temporary file
_MOST_ROWS = 8192  # signatures in one read at most: 7 MB at 112 slots
_NEAR_ROWS = 64  # signatures this close are fetched in one read


@dataclass(frozen=True, kw_only=True)
class BandTotals:
    """What a writer wrote; JSON-ready numbers for a task record."""

    documents: int
    exact_rows: int
    band_rows: int  # over all bands


class BandWriter:
    """Collects a task's documents batch by batch, in row order, and writes its two files.

        writer = BandWriter(recipe.dedup)
        for batch in batches: writer.add(batch["text"])
        totals = writer.close(bands_path, signatures_path)

    Memory: 8 bytes a band and 28 bytes a document; signatures beyond 32 MB wait on disk.
    """

    def __init__(self, settings: Dedup) -> None:
        self._settings = settings
        self._exact: list[U64] = []
        self._bands: list[U64] = []
        self._empty: list[npt.NDArray[np.bool_]] = []
        self._priority: list[U64] = []
        self._bytes: list[npt.NDArray[np.uint32]] = []
        # Deleted by the system when the process ends, however it ends.
        self._spool = tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES)  # noqa: SIM115

    def add(self, text: pa.StringArray, priority: U64 | None = None) -> None:
        """Append documents; `priority` uint64[len(text)], by default their UTF-8 bytes."""
        size = pc.binary_length(text).to_numpy(zero_copy_only=False).astype(np.uint32)
        priority = size.astype(np.uint64) if priority is None else priority.astype(np.uint64)
        if len(priority) != len(text):
            raise ValueError(f"expected {len(text)} priorities, got {len(priority)}")
        self._bytes.append(size)
        self._priority.append(priority)
        if self._settings.exact:
            self._exact.append(minhash.text_hashes(text))
        if self._settings.minhash is not None:
            signature = minhash.signatures(text, self._settings.minhash)
            self._empty.append((signature == np.uint64(minhash.EMPTY_SLOT)).all(axis=1))
            self._bands.append(minhash.band_hashes(signature, self._settings.minhash))
            self._spool.write(np.ascontiguousarray(signature, "<u8").data)

    def discard(self) -> None:
        """Give up what was collected; harmless after `close`."""
        self._spool.close()

    def close(self, bands_path: Path | str, signatures_path: Path | str) -> BandTotals:
        """Write both files; local paths. The writer cannot be used afterwards."""
        settings = self._settings.minhash
        priority = np.concatenate([np.empty(0, np.uint64), *self._priority])
        size = np.concatenate([np.empty(0, np.uint32), *self._bytes])
        slots = 0 if settings is None else settings.bands * settings.rows
        _write_signatures(Path(signatures_path), len(priority), slots, self._spool)
        self._spool.close()

        sections: list[Rows] = []
        member = np.ones(len(priority), np.bool_)  # of the bands
        if self._settings.exact:
            exact = np.concatenate([np.empty((0, 2), np.uint64), *self._exact])
            present = np.flatnonzero(exact.any(axis=1))
            order = present[
                np.lexsort((present, ~priority[present], exact[present, 1], exact[present, 0]))
            ]
            again = np.zeros(len(order), np.bool_)
            again[1:] = (exact[order[1:]] == exact[order[:-1]]).all(axis=1)
            member[order[again]] = False
            rows = np.empty(len(order), EXACT_ROW)
            rows["hash"], rows["low"] = exact[order, 0], exact[order, 1]
            rows["priority"], rows["row"] = priority[order], order
            sections.append(rows)
        exact_rows = len(sections[0]) if sections else 0
        band_rows = 0
        if settings is not None:
            member &= ~np.concatenate([np.empty(0, np.bool_), *self._empty])
            chosen = np.flatnonzero(member)
            hashes = np.concatenate([np.empty((0, settings.bands), np.uint64), *self._bands])
            for band in range(settings.bands):
                value = hashes[chosen, band]
                order = np.argsort(value, kind="stable")
                rows = np.empty(len(order), BAND_ROW)
                rows["hash"], rows["row"] = value[order], chosen[order]
                rows["priority"] = priority[chosen[order]]
                sections.append(rows)
                band_rows += len(rows)
        table = np.empty(len(priority), DOCUMENT_ROW)
        table["priority"], table["bytes"] = priority, size
        _write_bands(Path(bands_path), self._settings, table, sections)
        return BandTotals(documents=len(priority), exact_rows=exact_rows, band_rows=band_rows)


class BandFile:
    """Reads a band file through `read(start, length)`; `name` is for error messages.

    Raises IntegrityError for anything that is not what the format promises.
    """

    def __init__(self, read: Read, name: str) -> None:
        self._read, self.name = read, name
        head = _BANDS_HEADER.size + _CRC.size
        start = self._fetch(0, head)
        magic, documents, exact, bands, bits, exact_rows, band_rows, _ = _BANDS_HEADER.unpack_from(
            start
        )
        if magic != _BANDS_MAGIC or exact > 1 or bits > 32:
            raise IntegrityError(f"{name}: not a band file of version 1 (it begins with {magic!r})")
        self.documents, self.has_exact, self.bands = documents, bool(exact), bands
        entries = ((exact + bands) << bits) + 1
        index = self._fetch(head, entries * INDEX_ENTRY.itemsize)
        (crc,) = _CRC.unpack_from(start, _BANDS_HEADER.size)
        if zlib.crc32(index, zlib.crc32(start[: _BANDS_HEADER.size])) != crc:
            raise IntegrityError(f"{name}: header or index is damaged (CRC-32 differs)")
        found = np.frombuffer(index, INDEX_ENTRY)
        self._bits = bits
        self._table_crc = int(found["crc"][-1])
        self._table_at = head + len(index)
        self._crc = found["crc"][:-1].reshape(exact + bands, 1 << bits)
        counts = found["rows"][:-1].reshape(exact + bands, 1 << bits).astype(np.int64)
        # self._first[s, j]: rows of section s before its block j
        self._first = np.zeros((exact + bands, (1 << bits) + 1), np.int64)
        np.cumsum(counts, axis=1, out=self._first[:, 1:])
        expected = [exact_rows] * exact + [band_rows] * bands
        if self._first[:, -1].tolist() != expected:
            raise IntegrityError(f"{name}: the index counts other rows than the header")
        self._section_at = []
        at = self._table_at + documents * DOCUMENT_ROW.itemsize
        for section in range(exact + bands):
            self._section_at.append(at)
            at += expected[section] * self.dtype(section).itemsize

    @property
    def sections(self) -> int:
        """Number of sections: the exact one, if there is one, then the bands."""
        return len(self._section_at)

    def dtype(self, section: int) -> np.dtype[np.void]:
        return EXACT_ROW if self.has_exact and section == 0 else BAND_ROW

    def documents_table(self) -> Rows:
        """DOCUMENT_ROW[documents]: survivor priority and text bytes, by row."""
        data = self._fetch(self._table_at, self.documents * DOCUMENT_ROW.itemsize)
        if zlib.crc32(data) != self._table_crc:
            raise IntegrityError(f"{self.name}: the document table is damaged (CRC-32 differs)")
        return np.frombuffer(data, DOCUMENT_ROW)

    def rows_between(self, section: int, start: int, stop: int) -> Rows:
        """Rows of a section with start <= hash < stop, 0 <= start, stop <= HASHES; one read."""
        if stop <= start:
            return np.empty(0, self.dtype(section))
        shift = 64 - self._bits
        first, last = start >> shift, ((stop - 1) >> shift) + 1  # blocks
        before, after = int(self._first[section, first]), int(self._first[section, last])
        dtype = self.dtype(section)
        at = self._section_at[section] + before * dtype.itemsize
        data = self._fetch(at, (after - before) * dtype.itemsize)
        view = memoryview(data)
        for block in range(first, last):
            begin = (int(self._first[section, block]) - before) * dtype.itemsize
            end = (int(self._first[section, block + 1]) - before) * dtype.itemsize
            if zlib.crc32(view[begin:end]) != self._crc[section, block]:
                raise IntegrityError(
                    f"{self.name}: block {block} of section {section} is damaged (CRC-32 differs)"
                )
        rows = np.frombuffer(data, dtype)
        begin = int(np.searchsorted(rows["hash"], np.uint64(start)))
        end = len(rows)
        if stop < HASHES:
            end = int(np.searchsorted(rows["hash"], np.uint64(stop)))
        return rows[begin:end]

    def _fetch(self, start: int, length: int) -> bytes:
        return _fetch(self._read, self.name, start, length)


class SignatureFile:
    """Reads signatures by row through `read(start, length)`; IntegrityError on damage."""

    def __init__(self, read: Read, name: str) -> None:
        self._read, self.name = read, name
        head = _SIGNATURES_HEADER.size + _CRC.size
        start = _fetch(read, name, 0, head)
        magic, self.documents, self.slots, _, _ = _SIGNATURES_HEADER.unpack_from(start)
        (crc,) = _CRC.unpack_from(start, _SIGNATURES_HEADER.size)
        if magic != _SIGNATURES_MAGIC or zlib.crc32(start[: _SIGNATURES_HEADER.size]) != crc:
            raise IntegrityError(f"{name}: not a signature file of version 1, or damaged")
        self._at = head

    def take(self, rows: I64) -> U64:
        """uint64[len(rows), slots]: signatures of ascending rows."""
        out = np.empty((len(rows), self.slots), np.uint64)
        for first, last in _runs(rows):
            begin, end = int(rows[first]), int(rows[last - 1]) + 1
            if not 0 <= begin < end <= self.documents:
                raise IntegrityError(
                    f"{self.name}: rows {begin} to {end} of {self.documents} asked for"
                )
            width = self.slots * 8
            data = _fetch(self._read, self.name, self._at + begin * width, (end - begin) * width)
            block = np.frombuffer(data, "<u8").reshape(end - begin, self.slots)
            out[first:last] = block[rows[first:last] - begin]
        return out


def _runs(rows: I64) -> Iterator[tuple[int, int]]:
    """Slices of ascending rows that are worth one read each."""
    if len(rows):
        far = (np.diff(rows) > _NEAR_ROWS) | (np.diff(rows // _MOST_ROWS) > 0)
        cuts = np.flatnonzero(far) + 1
        edges = [0, *cuts.tolist(), len(rows)]
        yield from pairwise(edges)


def _fetch(read: Read, name: str, start: int, length: int) -> bytes:
    data = read(start, length) if length else b""
    if len(data) != length:
        raise IntegrityError(
            f"{name} is cut short: expected {length} bytes from {start}, got {len(data)}"
        )
    return data


def _write_bands(path: Path, settings: Dedup, table: Rows, sections: list[Rows]) -> None:
    largest = max((len(rows) for rows in sections), default=0)
    bits = max(0, (largest // _BLOCK_ROWS).bit_length() - 1)
    index = np.zeros((len(sections) << bits) + 1, INDEX_ENTRY)
    for s, rows in enumerate(sections):
        edges = np.arange(1, 1 << bits, dtype=np.uint64) << np.uint64(64 - bits)
        cuts = np.searchsorted(rows["hash"], edges)
        bounds = [0, *cuts.tolist(), len(rows)]
        for j in range(1 << bits):
            block = rows[bounds[j] : bounds[j + 1]]
            index[(s << bits) + j] = (len(block), zlib.crc32(block.tobytes()))
    index[-1] = (0, zlib.crc32(table.tobytes()))
    exact = int(settings.exact)
    header = _BANDS_HEADER.pack(
        _BANDS_MAGIC,
        len(table),
        exact,
        len(sections) - exact,
        bits,
        len(sections[0]) if exact else 0,
        len(sections[-1]) if len(sections) > exact else 0,
        0,
    )
    with open(path, "wb") as file:
        file.write(header)
        file.write(_CRC.pack(zlib.crc32(index.tobytes(), zlib.crc32(header))))
        file.write(index.tobytes())
        file.write(table.tobytes())
        for rows in sections:
            file.write(rows.tobytes())


def _write_signatures(path: Path, documents: int, slots: int, spool: IO[bytes]) -> None:
    header = _SIGNATURES_HEADER.pack(_SIGNATURES_MAGIC, documents, slots, minhash.SEED, 0)
    with open(path, "wb") as file:
        file.write(header)
        file.write(_CRC.pack(zlib.crc32(header)))
        spool.seek(0)
        shutil.copyfileobj(spool, file, 1 << 20)
