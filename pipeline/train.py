"""The train step: a tokenizer from all pretoken counts, or a given one checked and taken over."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline import storage
from pipeline.step import Outputs, Result, Run, sha256_file
from schemas.errors import InputError, RecipeError
from schemas.ledger import Counts
from schemas.recipe import GivenTokenizer, TrainBPE, TrainSentencePiece
from schemas.record import Task
from tokenizer.counts import merge_counts

JSON, MODEL = "tokenizer/tokenizer.json", "tokenizer/tokenizer.model"
INFO = "tokenizer/info.json"


class Train:
    """One task: count files of all scrub tasks in, one tokenizer and its facts out.

    No document flows through it, so its ledger is empty.
    """

    name = "train"
    stage = "train"

    def plan(self, run: Run) -> list[Task]:
        settings = run.recipe.tokenizer
        params: dict[str, Any] = {"kind": settings.kind}
        if isinstance(settings, GivenTokenizer):
            try:
                found = storage.stat(settings.path)
            except InputError as error:
                raise RecipeError(f"tokenizer.path: {error}") from error
            size = found.size
            params |= {"path": found.path, "bytes": found.size, "etag": found.etag}
        else:
            size = sum(
                output.bytes
                for record in run.records("scrub")
                for output in record.outputs
                if output.kind == "counts"
            )
        return [Task(step=self.name, name="train", size=size, params=params)]

    def process(self, run: Run, task: Task, outputs: Outputs) -> Result:
        settings = run.recipe.tokenizer
        if isinstance(settings, GivenTokenizer):
            info = _take(settings, outputs)
        else:
            with ExitStack() as stack:
                paths = [
                    stack.enter_context(storage.local_copy(run.path(output.path)))
                    for record in run.records("scrub")
                    for output in record.outputs
                    if output.kind == "counts"
                ]
                info = _train(settings, paths, outputs)
        text = json.dumps(info, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        outputs.path("tokenizer-info", INFO).write_text(text, encoding="utf-8")
        return Result(Counts(), info)


def _train(
    settings: TrainBPE | TrainSentencePiece, paths: Sequence[Path], outputs: Outputs
) -> dict[str, Any]:
    """Train from count files, write the tokenizer, and tell what came out."""
    seen = _Seen(paths)
    info: dict[str, Any] = {"kind": settings.kind, "requested_vocab_size": settings.vocab_size}
    end: str | None
    if isinstance(settings, TrainBPE):
        from tokenizer.train import train_bpe

        model = train_bpe(seen.batches(), settings)
        path = outputs.path("tokenizer", JSON)
        model.save(path)
        info["merges"] = len(model.merges)
        info["vocab_size"] = model.vocab_size
        end = _end_of_document(settings.special_tokens)
    else:
        from tokenizer.train_sentencepiece import END_DOCUMENT, train_sentencepiece, vocabulary

        data = train_sentencepiece(seen.batches(), settings)
        path = outputs.path("tokenizer", MODEL)
        path.write_bytes(data)
        lines = vocabulary(data)
        outputs.path("tokenizer-vocabulary", "tokenizer/tokenizer.vocab").write_bytes(
            lines.encode()
        )
        info["merges"] = None
        info["vocab_size"] = lines.count("\n")
        end = END_DOCUMENT
    info |= {"pretokens": seen.distinct, "pretokens_counted": seen.total}
    if end is None:  # fine for a tokenizer that is trained for its own sake
        with open(path, "rb") as file:
            ids = {"sha256": sha256_file(file), "end_of_document_id": None, "bos_id": None}
        return info | ids | {"end_of_document": None}
    return info | _ids(path, end)


def _take(settings: GivenTokenizer, outputs: Outputs) -> dict[str, Any]:
    """Copy a given tokenizer, if it is one."""
    with storage.local_copy(settings.path) as local:
        with open(local, "rb") as file:
            is_json = file.read(4096).lstrip()[:1] == b"{"
        try:
            facts = _ids(local, settings.end_of_document)
        except InputError as error:
            raise RecipeError(
                f"tokenizer.path: expected a tokenizer.json or a SentencePiece .model at "
                f"{settings.path}, got a file that cannot be loaded: {error}"
            ) from error
        shutil.copyfile(local, outputs.path("tokenizer", JSON if is_json else MODEL))
    return {
        "kind": "given",
        "requested_vocab_size": None,
        "merges": None,
        "pretokens": None,
        "pretokens_counted": None,
    } | facts


def _ids(path: Path, end: str | None) -> dict[str, Any]:
    """What the encoder makes of the file: which proves that it can be loaded."""
    from tokenizer.encode import load_tokenizer
    from tokenizer.encoders import SentencePiece

    loaded = load_tokenizer(path, end_of_document=end)
    if isinstance(loaded.reference, SentencePiece):
        end = loaded.reference.processor.id_to_piece(loaded.eos_id)
    else:
        end = loaded.reference.tokenizer.id_to_token(loaded.eos_id)
    return {
        "vocab_size": loaded.vocab_size,
        "end_of_document": end,
        "end_of_document_id": loaded.eos_id,
        "bos_id": loaded.bos_id,
        "sha256": loaded.sha256,
    }


def _end_of_document(special: Sequence[str]) -> str | None:
    """The special token that ends documents: one known by name, else the first."""
    from tokenizer.encode import END_NAMES

    return next((name for name in END_NAMES if name in special), special[0] if special else None)


class _Seen:
    """Merged counts, once through, with their number and sum."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self.distinct = 0
        self.total = 0

    def batches(self) -> Iterator[pa.RecordBatch]:
        for batch in merge_counts(self._paths):
            self.distinct += batch.num_rows
            self.total += int(np.sum(batch["count"].to_numpy(), dtype=np.int64))
            yield batch
