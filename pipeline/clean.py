"""The clean step: read, normalise, identify language, measure, apply rules, sign."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from typing import Any

import numpy as np
import pyarrow as pa

from filters.bands import BandWriter
from filters.language import LanguageIdentifier, model_sha256
from filters.lines import TRANSFORMS
from filters.normalise import normalise
from filters.rules import apply, needed_signals, resolve
from filters.signals import SIGNALS, compute_signals
from pipeline.files import ParquetShard, Quarantine
from pipeline.read import InputSlice, group, plan_inputs, read_slices
from pipeline.step import Outputs, Result, Run
from pipeline.tally import tally
from schemas.document import DOCUMENT, Repair
from schemas.errors import InputError
from schemas.ledger import Counts
from schemas.recipe import Pass, Recipe
from schemas.record import Task
from schemas.text import text_bytes


class Clean:
    """One task reads a list of input slices and writes one shard of each kind."""

    name = "clean"
    stage = "clean"

    def plan(self, run: Run) -> list[Task]:
        groups = group(plan_inputs(run.recipe), run.recipe)
        model = _model(run.recipe)
        return [
            Task(
                step=self.name,
                name=f"clean-{number:05d}",
                size=sum(s.text_bytes for s in slices),
                params={"slices": [s.to_json() for s in slices], "language_model": model},
            )
            for number, slices in enumerate(groups)
        ]

    def process(self, run: Run, task: Task, outputs: Outputs) -> Result:
        if task.params["language_model"] != _model(run.recipe):
            raise InputError(
                "clean.language.model has changed since the run was planned. "
                "Put the old file back, or start a new run directory."
            )
        cleaner = _Cleaner(run.recipe)
        counts = Counts()
        repairs: Counter[str] = Counter()
        dedup = run.recipe.dedup
        bands = BandWriter(dedup) if dedup.exact or dedup.minhash else None
        documents_path = outputs.path("documents", f"documents/{task.name}.parquet")
        signals_path = outputs.path("signals", f"signals/{task.name}.parquet")
        with ExitStack() as stack:
            documents = stack.enter_context(ParquetShard(documents_path, DOCUMENT))
            quarantine = stack.enter_context(Quarantine(outputs, task))
            signals = stack.enter_context(ParquetShard(signals_path, cleaner.signal_schema))
            if bands is not None:
                stack.callback(bands.discard)
            slices = [InputSlice.from_json(value) for value in task.params["slices"]]
            for batch in read_slices(slices, run.recipe):
                sizes = batch.rejects.column("raw_bytes").to_numpy()
                tally(counts, "in", batch.rejects, sizes)
                outcomes = batch.rejects.column("outcome").to_numpy(zero_copy_only=False)
                for outcome in ("removed", "failed"):
                    chosen = outcomes == outcome
                    some = batch.rejects.filter(pa.array(chosen))
                    tally(counts, outcome, some, sizes[chosen], some.column("reason"))
                    if outcome == "failed":
                        quarantine.write(some)
                kept, measured = cleaner.clean(batch.documents, counts, repairs)
                documents.write(kept)
                signals.write(measured)
                if bands is not None:
                    bands.add(kept.column("text"))
            if bands is not None:
                bands.close(
                    outputs.path("bands", f"bands/{task.name}.bands"),
                    outputs.path("signatures", f"bands/{task.name}.sig"),
                )
        info: dict[str, Any] = {"documents": documents.rows}
        info["repairs"] = dict(sorted(repairs.items()))
        if quarantine.rows:
            info["quarantined"] = quarantine.rows
        return Result(counts, info)


def _model(recipe: Recipe) -> str | None:
    """Hash of the language model, so that a resume does not mix two."""
    language = recipe.clean.language
    return None if language is None else model_sha256(language.model)


class _Cleaner:
    """Applies the recipe's passes to batches, and keeps what costs time to set up."""

    def __init__(self, recipe: Recipe) -> None:
        settings = recipe.clean
        self._language = settings.language
        if settings.language is not None:
            self._identifier = LanguageIdentifier(
                settings.language.model, settings.language.max_bytes
            )
        self._passes = [_Pass(settings_of_pass) for settings_of_pass in settings.passes]
        self.signal_schema = pa.schema(
            [
                DOCUMENT.field("id"),
                DOCUMENT.field("source"),
                DOCUMENT.field("path"),
                DOCUMENT.field("position"),
                DOCUMENT.field("language"),
                DOCUMENT.field("language_score"),
                pa.field("bytes", pa.int64(), nullable=False),
                pa.field("repairs", pa.uint8(), nullable=False),
                pa.field("reason", pa.string()),  # null: kept
                pa.field("failing", pa.list_(pa.string()), nullable=False),
                *(field for one in self._passes for field in one.fields),
            ]
        )

    def clean(
        self, raw: pa.RecordBatch, counts: Counts, repairs: Counter[str]
    ) -> tuple[pa.RecordBatch, pa.RecordBatch]:
        """Documents that stay (DOCUMENT), and the signals of all (`signal_schema`)."""
        raw_sizes = raw.column("raw_bytes").to_numpy()
        tally(counts, "in", raw.drop_columns(["language"]), raw_sizes)
        counts.add_delta("read", int(text_bytes(raw.column("text")).sum() - raw_sizes.sum()))
        text, mended = normalise(raw.column("text"))
        counts.add_delta("normalise", _growth(raw.column("text"), text))
        mended = mended | raw.column("repairs").to_numpy()
        for flag in Repair:
            repairs[str(flag.name).lower()] += int(np.count_nonzero(mended & flag))

        language, score, failing = self._identify(raw, text)
        removed = _Removed(text_bytes(text), failing)
        removed.mark_empty(text)
        columns: list[pa.Array] = []
        for one in self._passes:
            edited = one.transform(text)
            alive = removed.alive()
            # A document that is out already stays as it was when it went.
            counts.add_delta(
                one.delta_name, int((text_bytes(edited) - text_bytes(text))[alive].sum())
            )
            removed.sizes[alive] = text_bytes(edited)[alive]
            text = edited
            measured = one.measure(text, language)
            judged = pa.RecordBatch.from_arrays(
                [*measured.columns, score], [*measured.schema.names, "language_score"]
            )
            verdicts = apply(one.rules, judged, language)
            removed.mark(verdicts.failing.to_pylist())
            removed.mark_empty(text)
            columns.extend(measured.columns)

        alive = removed.alive()
        shared = {name: raw.column(name) for name in ("id", "source", "path", "position")}
        shared |= {"language": language, "language_score": score}
        reason = pa.array(removed.reasons, pa.string())
        measured_batch = pa.RecordBatch.from_arrays(
            [
                *shared.values(),
                pa.array(removed.sizes),
                pa.array(mended),
                reason,
                pa.array(removed.failing, pa.list_(pa.string())),
                *columns,
            ],
            schema=self.signal_schema,
        )
        documents = pa.RecordBatch.from_arrays(
            [
                text if name == "text" else shared[name] if name in shared else raw.column(name)
                for name in DOCUMENT.names
            ],
            schema=DOCUMENT,
        )
        kept = documents.filter(pa.array(alive))
        gone = documents.filter(pa.array(~alive))
        tally(counts, "kept", kept, removed.sizes[alive])
        tally(counts, "removed", gone, removed.sizes[~alive], reason.filter(pa.array(~alive)))
        return kept, measured_batch

    def _identify(
        self, raw: pa.RecordBatch, text: pa.StringArray
    ) -> tuple[pa.StringArray, pa.FloatArray, list[list[str]]]:
        """Language, its score, and the language rules that each document fails."""
        if self._language is None:
            return raw.column("language"), pa.nulls(len(text), pa.float32()), [[] for _ in text]
        language, score = self._identifier.identify(text)
        failing: list[list[str]] = []
        keep = None if self._language.keep is None else frozenset(self._language.keep)
        for name, value in zip(language.to_pylist(), score.to_pylist(), strict=True):
            fails = []
            if keep is not None and name not in keep:
                fails.append("language")
            # Rounded again: 0.65 as a float32 is less than 0.65.
            if value is not None and round(value, 4) < self._language.min_score:
                fails.append("language-score")
            failing.append(fails)
        return language, score, failing


class _Removed:
    """Which documents of a batch are out, why, and how large they were when they went."""

    def __init__(self, sizes: np.ndarray, failing: list[list[str]]) -> None:
        self.sizes = sizes
        self.failing = failing
        self.reasons = [fails[0] if fails else None for fails in failing]

    def alive(self) -> np.ndarray:
        return np.array([reason is None for reason in self.reasons], dtype=bool)

    def mark(self, failing: list[list[str]]) -> None:
        for row, fails in enumerate(failing):
            if fails:
                self.failing[row].extend(fails)
                if self.reasons[row] is None:
                    self.reasons[row] = fails[0]

    def mark_empty(self, text: pa.StringArray) -> None:
        """A text that repairs or edits left without a byte is removed by name."""
        empty = text_bytes(text) == 0
        if empty.any():
            self.mark([["empty"] if is_empty else [] for is_empty in empty])


class _Pass:
    """One pass of the recipe, with its rules resolved and its signals chosen."""

    def __init__(self, settings: Pass) -> None:
        self.rules = resolve(settings.rules)
        self.transform = TRANSFORMS[settings.transform] if settings.transform else _unchanged
        self.delta_name = settings.transform or settings.name
        needed = needed_signals(self.rules)
        chosen = [s for s in SIGNALS if settings.signals == "all" or s.name in needed]
        self._names = [s.name for s in chosen]
        self.fields = [pa.field(f"{settings.name}.{s.name}", s.dtype) for s in chosen]

    def measure(self, text: pa.StringArray, language: pa.StringArray) -> pa.RecordBatch:
        return compute_signals(text, language, self._names)


def _unchanged(text: pa.StringArray) -> pa.StringArray:
    return text


def _growth(before: pa.StringArray, after: pa.StringArray) -> int:
    return int(text_bytes(after).sum() - text_bytes(before).sum())
