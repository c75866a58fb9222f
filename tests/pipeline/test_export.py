"""Exports hold exactly the clean documents, in order, as other people's readers see them."""

import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import small_corpus
import zstandard
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.export import export
from schemas.document import DOCUMENT
from schemas.errors import IntegrityError, RecipeError, RunDirectoryError


@pytest.fixture(scope="module")
def expected(small_run: Path) -> list[dict[str, Any]]:
    shards = sorted(small_run.glob("clean/*.parquet"))
    assert len(shards) > 1
    rows: list[dict[str, Any]] = pa.concat_tables(map(pq.read_table, shards)).to_pylist()
    assert len(rows) == small_corpus.PROSE + small_corpus.MAIL
    return rows


def test_jsonl(small_run: Path, expected: list[dict[str, Any]], tmp_path: Path) -> None:
    target = tmp_path / "new" / "clean.jsonl"
    done = export(str(small_run), str(target), format="jsonl", zstd=False)
    rows = [json.loads(line) for line in target.read_bytes().split(b"\n")[:-1]]
    assert rows == expected
    assert done["documents"] == len(rows)
    assert done["bytes"] == target.stat().st_size
    assert [p.name for p in target.parent.iterdir()] == ["clean.jsonl"]


def test_compressed_jsonl_is_one_zstd_frame_of_the_same_bytes(
    small_run: Path, tmp_path: Path
) -> None:
    plain, packed = tmp_path / "a.jsonl", tmp_path / "a.jsonl.zst"
    export(str(small_run), str(plain), format="jsonl", zstd=False)
    export(str(small_run), str(packed), format="jsonl", zstd=True)
    with zstandard.open(packed, "rb") as file:
        assert file.read() == plain.read_bytes()
    assert packed.stat().st_size < plain.stat().st_size


@pytest.mark.parametrize("zstd", [False, True])
def test_parquet(
    small_run: Path, expected: list[dict[str, Any]], tmp_path: Path, zstd: bool
) -> None:
    target = tmp_path / "clean.parquet"
    export(str(small_run), str(target), format="parquet", zstd=zstd)
    assert pl.read_parquet(target).to_dicts() == expected
    file = pq.ParquetFile(target)
    assert file.schema_arrow.equals(DOCUMENT)
    column = file.metadata.row_group(0).column(1)
    assert column.compression == ("ZSTD" if zstd else "UNCOMPRESSED")


def test_the_same_export_twice_is_the_same_bytes(small_run: Path, tmp_path: Path) -> None:
    for format in ("jsonl", "parquet"):
        paths = [tmp_path / f"{n}.{format}" for n in range(2)]
        for path in paths:
            export(str(small_run), str(path), format=format, zstd=True)
        assert paths[0].read_bytes() == paths[1].read_bytes()


def test_a_damaged_shard_leaves_no_half_export(small_run: Path, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    shutil.copytree(small_run, directory)
    shard = sorted(directory.glob("clean/*.parquet"))[-1]
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(IntegrityError, match=rf"clean/{shard.name}: cannot read the clean shard"):
        export(str(directory), str(tmp_path / "x.jsonl"), format="jsonl", zstd=False)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run"]


def test_refusals(small_run: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r'expected jsonl or parquet; got "json"\. Did you mean'):
        export(str(small_run), str(tmp_path / "x"), format="json", zstd=False)
    directory = tmp_path / "run"
    shutil.copytree(small_run, directory)
    (directory / "plan" / "scrub.json").unlink()
    with pytest.raises(RunDirectoryError, match="has no clean documents yet"):
        export(str(directory), str(tmp_path / "x"), format="jsonl", zstd=False)


def test_command(small_run: Path, tmp_path: Path) -> None:
    arguments = ["export", str(small_run), "--format", "jsonl", "-o", str(tmp_path / "x.jsonl")]
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert result.exit_code == 0
    event = json.loads(result.stdout)
    assert (event["event"], event["documents"]) == (
        "result",
        small_corpus.PROSE + small_corpus.MAIL,
    )
    assert str(event["documents"]) in CliRunner().invoke(app, [*arguments, "--no-json"]).stdout
    assert CliRunner().invoke(app, [*arguments, "--quiet"]).stdout == ""
