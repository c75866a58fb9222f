"""Band and signature files: what is written comes back, by any slice, and damage is noticed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters import minhash
from filters.bands import HASHES, BandFile, BandTotals, BandWriter, Read, SignatureFile
from schemas.errors import IntegrityError
from schemas.recipe import Dedup, MinHash

SMALL = MinHash(bands=3, rows=2)
TEXTS = ["", " \n", "!?", "a", "a b", "A  b", "a b c d e f g", "a b c d e f h", "中文", "a  b"]


def reader(path: Path) -> Read:
    data = path.read_bytes()
    return lambda start, length: data[start : start + length]


def write(
    folder: Path, batches: list[list[str]], dedup: Dedup, priority: list[int] | None = None
) -> tuple[Path, Path, BandTotals]:
    writer = BandWriter(dedup)
    at = 0
    for batch in batches:
        given = None
        if priority is not None:
            given = np.array(priority[at : at + len(batch)], np.uint64)
        writer.add(pa.array(batch, pa.string()), given)
        at += len(batch)
    paths = folder / "task.bands", folder / "task.sig"
    return (*paths, writer.close(*paths))


def expected_rows(
    texts: list[str], dedup: Dedup, priority: list[int]
) -> list[list[tuple[int, ...]]]:
    """Sections by plain grouping: sorted tuples (hash, [low,] priority, row)."""
    array = pa.array(texts, pa.string())
    sections: list[list[tuple[int, ...]]] = []
    chosen = set(range(len(texts)))
    if dedup.exact:
        exact = [tuple(pair) for pair in minhash.text_hashes(array).tolist()]
        rows = [(*exact[i], priority[i], i) for i in range(len(texts)) if exact[i] != (0, 0)]
        best: dict[tuple[int, ...], int] = {}
        for *key, _, i in sorted(rows, key=lambda row: (-row[2], row[3])):
            best.setdefault(tuple(key), i)
        chosen = {best.get(exact[i], i) for i in range(len(texts))}
        sections.append(sorted(rows))
    if dedup.minhash is not None:
        signature = minhash.signatures(array, dedup.minhash)
        hashes = minhash.band_hashes(signature, dedup.minhash)
        chosen -= set(np.flatnonzero((signature == minhash.EMPTY_SLOT).all(axis=1)).tolist())
        for band in range(dedup.minhash.bands):
            sections.append(sorted((int(hashes[i, band]), priority[i], i) for i in chosen))
    return sections


def row_order(rows: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
    return sorted(rows)


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("minhash_settings", [SMALL, None])
@settings(max_examples=30)
@given(data=st.data())
def test_any_slice_equals_plain_grouping(
    tmp_path_factory: pytest.TempPathFactory,
    exact: bool,
    minhash_settings: MinHash | None,
    data: st.DataObject,
) -> None:
    dedup = Dedup(exact=exact, minhash=minhash_settings)
    texts = data.draw(st.lists(st.sampled_from(TEXTS), max_size=30))
    priority = data.draw(
        st.lists(st.integers(0, 3), min_size=len(texts), max_size=len(texts))
        if data.draw(st.booleans())
        else st.just([len(t.encode()) for t in texts])
    )
    cut = data.draw(st.integers(0, len(texts)))
    bands, _, totals = write(
        tmp_path_factory.mktemp("b"), [texts[:cut], texts[cut:]], dedup, priority
    )
    file = BandFile(reader(bands), "b")
    expected = expected_rows(texts, dedup, priority)
    assert file.sections == len(expected)
    assert totals.documents == file.documents == len(texts)
    assert totals.exact_rows + totals.band_rows == sum(map(len, expected))
    table = file.documents_table()
    assert table["priority"].tolist() == priority
    assert table["bytes"].tolist() == [len(t.encode()) for t in texts]
    for section, rows in enumerate(expected):
        assert row_order(file.rows_between(section, 0, HASHES).tolist()) == rows
        hashes = [0, HASHES, *(row[0] for row in rows), *(row[0] + 1 for row in rows)]
        start, stop = data.draw(st.sampled_from(hashes)), data.draw(st.sampled_from(hashes))
        found = file.rows_between(section, start, stop)
        assert row_order(found.tolist()) == [r for r in rows if start <= r[0] < stop]
        assert found["hash"].tolist() == sorted(found["hash"].tolist())


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """20,000 documents, so that sections have many blocks."""
    texts = [f"document {i} has these {i * i} words and some {i % 7} more" for i in range(20_000)]
    batches = [texts[i : i + 1000] for i in range(0, len(texts), 1000)]
    bands, signatures, _ = write(tmp_path_factory.mktemp("large"), batches, Dedup(minhash=SMALL))
    return bands, signatures


def test_slices_of_a_large_file_tile_it_and_read_little(large: tuple[Path, Path]) -> None:
    data = large[0].read_bytes()
    fetched: list[int] = []

    def read(start: int, length: int) -> bytes:
        fetched.append(length)
        return data[start : start + length]

    file = BandFile(read, "b")
    for section in range(file.sections):
        whole = file.rows_between(section, 0, HASHES)
        assert len(whole) == 20_000
        bounds = [i * HASHES // 7 for i in range(8)]
        fetched.clear()
        parts = [file.rows_between(section, a, b) for a, b in zip(bounds, bounds[1:])]  # noqa: B905
        np.testing.assert_array_equal(np.concatenate(parts), whole)
        assert len(fetched) == 7
        assert sum(fetched) < 1.5 * whole.nbytes


def test_every_damaged_byte_of_a_band_file_is_noticed(large: tuple[Path, Path]) -> None:
    data = large[0].read_bytes()

    def everything(content: bytes) -> None:
        file = BandFile(lambda start, length: content[start : start + length], "damaged")
        file.documents_table()
        for section in range(file.sections):
            file.rows_between(section, 0, HASHES)

    everything(data)
    positions = np.random.default_rng(5).integers(0, len(data), 40)
    for at in [*range(48), *positions.tolist()]:
        damaged = bytearray(data)
        damaged[at] ^= 0x10
        with pytest.raises(IntegrityError):
            everything(bytes(damaged))
    for length in (0, 47, 100, len(data) - 1):
        with pytest.raises(IntegrityError, match="damaged"):
            everything(data[:length])


def test_signatures_come_back_by_row(large: tuple[Path, Path]) -> None:
    file = SignatureFile(reader(large[1]), "s")
    texts = [f"document {i} has these {i * i} words and some {i % 7} more" for i in range(20_000)]
    expected = minhash.signatures(pa.array(texts), SMALL)
    assert (file.documents, file.slots) == (20_000, 6)
    rows = np.unique(np.random.default_rng(3).integers(0, 20_000, 500))
    np.testing.assert_array_equal(file.take(rows), expected[rows])
    np.testing.assert_array_equal(file.take(np.arange(20_000)), expected)
    assert file.take(np.empty(0, np.int64)).shape == (0, 6)
    with pytest.raises(IntegrityError):
        file.take(np.array([20_000]))
    with pytest.raises(IntegrityError):
        SignatureFile(reader(large[0]), "bands")


def test_files_do_not_depend_on_batches(tmp_path: Path) -> None:
    texts = [f"{t} {i}" for i in range(50) for t in TEXTS]
    contents = []
    for size in (1, 7, 500):
        folder = tmp_path / str(size)
        folder.mkdir()
        batches = [texts[i : i + size] for i in range(0, len(texts), size)]
        bands, signatures, _ = write(folder, batches, Dedup())
        contents.append((bands.read_bytes(), signatures.read_bytes()))
    assert contents[0] == contents[1] == contents[2]
