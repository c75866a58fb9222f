"""Verify notices every defect: changed bytes, and changed content with matching checksums."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import small_corpus
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.verify import verify
from schemas.errors import RunDirectoryError

KINDS = (
    "documents",
    "signals",
    "bands",
    "signatures",
    "quarantine",
    "edges",
    "removals",
    "clean",
    "pii",
    "counts",
    "tokenizer",
    "tokenizer-info",
    "tokens",
    "token-documents",
)


@pytest.fixture
def run(small_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small_run, tmp_path / "run"))


def outputs(run: Path, kind: str) -> list[str]:
    manifest = json.loads((run / "manifest.json").read_bytes())
    found = [o for step in manifest["steps"] for o in step["outputs"] if o["kind"] == kind]
    return [str(output["path"]) for output in found]


def edit(path: Path, change: Callable[[Any], object]) -> None:
    """Change a JSON file and write it as Gristmill would."""
    value = json.loads(path.read_bytes())
    change(value)
    sort = path.parent.parent.name == "records"
    text = json.dumps(value, sort_keys=sort, indent=1, ensure_ascii=False) + "\n"
    path.write_text(text, encoding="utf-8")


def reseal(run: Path, relative: str) -> None:
    """Give a changed file its new size and hash in its record and in the manifest."""
    data = (run / relative).read_bytes()

    def change(outputs: list[dict[str, Any]]) -> None:
        for output in outputs:
            if output["path"] == relative:
                output["bytes"], output["sha256"] = len(data), hashlib.sha256(data).hexdigest()

    for path in run.glob("records/*/*.json"):
        edit(path, lambda record: change(record["outputs"]))

    def change_all(manifest: Any) -> None:
        for step in manifest["steps"]:
            change(step["outputs"])

    edit(run / "manifest.json", change_all)


def reseal_ledger(run: Path) -> None:
    digest = hashlib.sha256((run / "ledger.json").read_bytes()).hexdigest()
    edit(run / "manifest.json", lambda manifest: manifest.update(ledger_sha256=digest))


def problems(run: Path) -> list[str]:
    return verify(str(run)).problems


def one_problem(run: Path) -> str:
    (problem,) = problems(run)
    return problem


def test_an_untouched_run_is_sound(run: Path) -> None:
    report = verify(str(run))
    assert report.problems == []
    assert report.warnings == []
    assert report.documents == small_corpus.PROSE + small_corpus.MAIL
    assert report.tokens > report.documents
    committed = [p for kind in KINDS for p in outputs(run, kind)]
    assert report.files == len(committed)
    assert report.bytes == sum((run / path).stat().st_size for path in committed)
    result = CliRunner().invoke(app, ["verify", str(run), "--no-json"])
    assert result.exit_code == 0
    assert f"is sound: {report.files} files" in result.stdout
    # The manifest names every file there is, so the kinds above are all kinds.
    rest = {"recipe.yaml", "manifest.json", "ledger.json"}
    on_disk = {p.relative_to(run).as_posix() for p in run.rglob("*") if p.is_file()}
    assert {p for p in on_disk if p.split("/")[0] not in ("plan", "records", "log")} == {
        *committed,
        *rest,
    }


@pytest.mark.parametrize("kind", KINDS)
def test_one_changed_byte_in_any_output_is_found(run: Path, kind: str) -> None:
    relative = outputs(run, kind)[-1]
    data = bytearray((run / relative).read_bytes())
    data[len(data) // 2] ^= 1
    (run / relative).write_bytes(data)
    assert one_problem(run).startswith(f"{relative} has sha256 ")


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_short_or_gone_is_found(run: Path, kind: str) -> None:
    relative = outputs(run, kind)[0]
    data = (run / relative).read_bytes()
    (run / relative).write_bytes(data[:-1])
    assert one_problem(run) == f"{relative} has {len(data) - 1} bytes, expected {len(data)}"
    (run / relative).unlink()
    assert one_problem(run) == f"{relative} is missing"


def _without_first_row(path: Path) -> None:
    table = pq.read_table(path)
    pq.write_table(table.slice(1), path)


@pytest.mark.parametrize("kind", ["documents", "clean"])
def test_a_document_taken_out_with_matching_checksums_is_found(run: Path, kind: str) -> None:
    relative = outputs(run, kind)[0]
    _without_first_row(run / relative)
    reseal(run, relative)
    assert f"{relative}: holds " in one_problem(run)


@pytest.mark.parametrize("kind", ["documents", "clean"])
@pytest.mark.parametrize("column", ["id", "text"])
def test_an_exchanged_id_or_text_with_matching_checksums_is_found(
    run: Path, kind: str, column: str
) -> None:
    relative = outputs(run, kind)[0]
    table = pq.read_table(run / relative)
    values = table.column(column).to_pylist()
    values[0] += "x"
    index = table.schema.get_field_index(column)
    field = table.schema.field(column)
    pq.write_table(table.set_column(index, field, pa.array(values)), run / relative)
    reseal(run, relative)
    assert f"{relative}: holds " in one_problem(run)


def test_another_schema_is_found(run: Path) -> None:
    for kind, column in (("documents", "url"), ("quarantine", "message")):
        relative = outputs(run, kind)[0]
        pq.write_table(pq.read_table(run / relative).drop_columns([column]), run / relative)
        reseal(run, relative)
    assert [p.split(": ")[1] for p in problems(run)] == [
        "has no column url",
        "has no column message",
    ]


def test_lost_rows_of_side_tables_are_found(run: Path) -> None:
    quarantine = outputs(run, "quarantine")[0]
    signals = outputs(run, "signals")[0]
    removals = next(p for p in outputs(run, "removals") if pq.read_metadata(run / p).num_rows)
    for relative in (quarantine, signals, removals):
        _without_first_row(run / relative)
        reseal(run, relative)
    first, second, third = sorted(problems(run))
    assert first.startswith("duplicates/ lists ")
    assert second.startswith(f"{quarantine}: holds ")
    assert third.startswith(f"{signals}: has signals of ")


def _rewrite_tokens(path: Path, change: Callable[[np.ndarray], None]) -> None:
    """Change ids in a token shard, and leave it a well-formed shard of the same size."""
    with pa.ipc.open_stream(path.read_bytes()) as stream:
        schema, batches = stream.schema, list(stream)
    ids = np.array(batches[0].column(0).flatten())
    change(ids)
    column = pa.FixedSizeListArray.from_arrays(pa.array(ids), type=schema.field(0).type)
    batches[0] = pa.RecordBatch.from_arrays([column, *batches[0].columns[1:]], schema=schema)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema) as stream:
        for batch in batches:
            stream.write_batch(batch)


def test_a_token_outside_the_vocabulary_is_found(run: Path) -> None:
    relative = outputs(run, "tokens")[0]

    def change(ids: np.ndarray) -> None:
        ids[5] = 400  # the recipe's vocabulary ends at 399 or before

    _rewrite_tokens(run / relative, change)
    reseal(run, relative)
    assert "token id 400" in one_problem(run)


def test_another_token_of_the_vocabulary_is_found(run: Path) -> None:
    relative = outputs(run, "tokens")[0]

    def change(ids: np.ndarray) -> None:
        ids[5] = 65 if ids[5] != 65 else 66

    _rewrite_tokens(run / relative, change)
    reseal(run, relative)
    assert relative in one_problem(run)
    assert "hash" in one_problem(run)


def test_a_lost_batch_of_tokens_is_found(run: Path) -> None:
    relative = outputs(run, "tokens")[0]
    path = run / relative
    with pa.ipc.open_stream(path.read_bytes()) as stream:
        schema, batches = stream.schema, list(stream)
    assert len(batches) > 1
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema) as stream:
        for batch in batches[:-1]:
            stream.write_batch(batch)
    reseal(run, relative)
    assert relative.removesuffix(".arrow") in one_problem(run)


def test_another_tokenizer_is_found(run: Path) -> None:
    (relative,) = outputs(run, "tokenizer")
    path = run / relative
    path.write_bytes(path.read_bytes() + b"\n")
    reseal(run, relative)
    found = problems(run)
    assert len(found) == len(outputs(run, "tokens"))
    assert all("was made with tokenizer" in problem for problem in found)
    path.write_bytes(b"{}")
    reseal(run, relative)
    assert any(p.startswith(f"{relative}: ") for p in problems(run))


def test_records(run: Path) -> None:
    clean = run / "records" / "clean" / "clean-00000.json"
    before = clean.read_bytes()

    edit(clean, lambda record: record.update(key="0" * 64))
    assert "was made from another task, recipe or environment" in one_problem(run)

    edit(clean, lambda record: record.update(task="clean-00001"))
    assert any("is the record of clean clean-00001" in p for p in problems(run))

    clean.write_bytes(before[:-20])
    assert any("records/clean/clean-00000.json is not a record" in p for p in problems(run))

    clean.unlink()
    assert "records/clean/clean-00000.json is missing" in problems(run)

    clean.write_bytes(before)
    assert problems(run) == []


def test_a_record_that_forgets_an_output_is_found(run: Path) -> None:
    clean = run / "records" / "clean" / "clean-00000.json"

    def forget(record: dict[str, Any]) -> None:
        record["outputs"] = [o for o in record["outputs"] if o["kind"] != "signals"]

    edit(clean, forget)
    found = problems(run)
    assert "records/clean/clean-00000.json names no signals file" in found
    assert any("manifest.json and the records of clean disagree about signals/" in p for p in found)


def test_a_record_that_does_not_balance_is_found(run: Path) -> None:
    path = run / "records" / "scrub" / "scrub-00000.json"

    def change(record: dict[str, Any]) -> None:
        next(f for f in record["counts"]["flows"] if f["outcome"] == "kept")["documents"] += 1

    edit(path, change)
    found = problems(run)
    assert any(p.startswith("records/scrub/scrub-00000.json: the ledger of task") for p in found)
    assert "ledger.json is not the sum of the task records" in found


def test_the_ledger(run: Path) -> None:
    path = run / "ledger.json"
    before = path.read_bytes()
    manifest = (run / "manifest.json").read_bytes()

    def lose(outcome: str, stage: str = "dedup") -> Callable[[Any], None]:
        def change(ledger: Any) -> None:
            flows = ledger["stages"][stage]["flows"]
            next(f for f in flows if f["outcome"] == outcome)["documents"] -= 1

        return change

    edit(path, lose("removed"))
    assert any(p.startswith("ledger.json has sha256") for p in problems(run))
    reseal_ledger(run)
    found = problems(run)
    assert any("ledger.json: the ledger of stage dedup does not balance" in p for p in found)
    assert "ledger.json is not the sum of the task records" in found

    path.write_bytes(before)  # balances in itself, but not with the stage before
    edit(path, lambda ledger: [lose(outcome)(ledger) for outcome in ("in", "kept")])
    reseal_ledger(run)
    assert any("stage clean kept" in p and "stage dedup took in" in p for p in problems(run))

    path.unlink()
    assert "ledger.json is missing" in problems(run)
    path.write_bytes(b"[]")
    assert any("ledger.json is not a ledger" in p for p in problems(run))

    path.write_bytes(before)
    (run / "manifest.json").write_bytes(manifest)
    assert problems(run) == []


def test_the_manifest_and_the_recipe(run: Path) -> None:
    path = run / "manifest.json"
    before = path.read_bytes()

    def drop(manifest: Any) -> None:
        del manifest["steps"][0]["outputs"][0]

    edit(path, drop)
    assert "manifest.json and the records of clean disagree about" in one_problem(run)

    path.write_bytes(before[: len(before) // 2])
    assert any("manifest.json is not a manifest" in p for p in problems(run))
    path.write_bytes(before.replace(b'"format": 1', b'"format": 99'))
    assert any("manifest.json has format 99" in p for p in problems(run))
    path.unlink()
    assert one_problem(run).startswith("manifest.json is missing: the run did not end")
    path.write_bytes(before)

    recipe = run / "recipe.yaml"
    text = recipe.read_text()
    recipe.write_text(text.replace("vocab_size: 400", "vocab_size: 401"))
    found = problems(run)
    assert any(p.startswith("recipe.yaml has sha256") for p in found)
    recipe.unlink()
    with pytest.raises(RunDirectoryError):
        verify(str(run))


def test_plans(run: Path) -> None:
    path = run / "plan" / "scrub.json"
    before = path.read_bytes()
    edit(path, lambda plan: plan["tasks"].pop())
    assert "plan/scrub.json has other tasks than manifest.json" in problems(run)
    path.write_bytes(b"{")
    assert any("plan/scrub.json is not a plan" in p for p in problems(run))
    path.unlink()
    assert "plan/scrub.json is missing" in problems(run)
    path.write_bytes(before)
    assert problems(run) == []


def test_files_that_belong_to_no_record_are_only_warned_of(run: Path) -> None:
    (run / "clean" / "stray.parquet").write_bytes(b"")
    (run / "log" / "more.log").parent.mkdir(exist_ok=True)
    (run / "log" / "more.log").write_bytes(b"")
    report = verify(str(run))
    assert report.problems == []
    assert report.warnings == ["clean/stray.parquet belongs to no task record"]
    result = CliRunner().invoke(app, ["verify", str(run), "--no-json"])
    assert result.exit_code == 0
    assert "warning: clean/stray.parquet belongs to no task record" in result.stdout


def test_the_command_ends_with_6_and_a_line_for_each_problem(run: Path) -> None:
    gone = [outputs(run, "clean")[0], outputs(run, "tokens")[0]]
    for relative in gone:
        (run / relative).unlink()
    result = CliRunner().invoke(app, ["verify", str(run), "--quiet"])
    assert result.exit_code == 6
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        f"gristmill: {run} has 2 problems:",
        *(f"{relative} is missing" for relative in gone),
    ]
    events = CliRunner().invoke(app, ["verify", str(run), "--json"]).stdout.splitlines()
    first = json.loads(events[0])
    assert (first["event"], first["ok"]) == ("result", False)
    assert first["problems"] == [f"{relative} is missing" for relative in gone]
