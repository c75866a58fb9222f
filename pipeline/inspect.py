"""What a run came to, from its records alone: no shard is read again, however large the run is."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import storage
from pipeline.rundir import StepState, open_run, read_manifest, read_steps
from pipeline.step import Run
from schemas.errors import GristmillError
from schemas.ledger import Counts, Flow, FlowKey
from schemas.manifest import fold_ledger
from schemas.record import TaskRecord

_FAILED_SHARE = 0.01  # of the documents: more is worth a warning
EXAMPLES = 3  # quarantined records shown of each kind
_EXAMPLE_FILES = 20  # quarantine files opened for them at most
_RAW = 200  # bytes shown of each


def collect(directory: str) -> dict[str, Any]:
    """Facts about a run, finished or not, as JSON values; `documents` and `bytes` are of text.

    Keys: directory, recipe, recipe_sha256, gristmill, environment, finished, stages, steps,
    input, funnel, deltas, languages, sources, tokens, lengths, sizes, quarantine, pii, duplicates,
    repairs, tokenizer, warnings. Lists are sorted, shares are of the input. Raises
    RunDirectoryError if this is no run directory, IntegrityError if a record cannot be read.
    """
    run = open_run(directory)
    manifest = read_manifest(run)
    steps = read_steps(run)
    ledger = fold_ledger([(s.step, s.stage, s.records) for s in steps])
    info = {s.step: fold_info(r.info for r in s.records) for s in steps}
    came = next(iter(ledger.values()), Counts()).total("in")
    # Training counts no documents, so the last state of the corpus may be an earlier stage's.
    counted = [stage for stage, counts in ledger.items() if counts.flows]
    last = ledger[counted[-1]] if counted else Counts()
    encoded = info.get("encode", {})
    facts: dict[str, Any] = {
        "directory": directory,
        "recipe": run.recipe.name,
        "recipe_sha256": run.recipe_sha256,
        "gristmill": None if manifest is None else manifest.gristmill,
        "environment": {} if manifest is None else dict(manifest.environment),
        "finished": manifest is not None,
        "stages": [] if manifest is None else list(manifest.stages),
        "steps": [
            {"step": s.step, "stage": s.stage, "tasks_done": len(s.records), "tasks": len(s.tasks)}
            for s in steps
        ],
        "input": _flow(came),
        "funnel": [row for stage, counts in ledger.items() for row in _funnel(stage, counts, came)],
        "deltas": {
            stage: dict(sorted(c.deltas.items())) for stage, c in ledger.items() if c.deltas
        },
        "languages": _by(("language",), [last], ("kept",)),
        "sources": _sources(list(ledger.values()), last),
        "tokens": _tokens(encoded),
        "lengths": [
            {"up_to": int(up_to), "documents": count}
            for up_to, count in sorted(
                encoded.get("lengths", {}).items(), key=lambda item: int(item[0])
            )
        ],
        "sizes": _sizes(r for s in steps for r in s.records),
        "quarantine": _quarantine(run, steps, ledger),
        "pii": _pii(info.get("scrub", {})),
        "duplicates": _duplicates(info, ledger.get("dedup", Counts())),
        "repairs": info.get("clean", {}).get("repairs", {}),
        "tokenizer": _tokenizer(run, steps),
    }
    return facts | {"warnings": _warnings(facts)}


def _warnings(facts: Mapping[str, Any]) -> list[str]:
    """What a run that succeeded may have got wrong all the same."""
    found = []
    came = facts["input"]["documents"]
    failed = sum(row["documents"] for row in facts["quarantine"]["kinds"])
    if failed > _FAILED_SHARE * came:
        found.append(f"{failed:,} of {came:,} documents failed; see quarantine/")
    for source in facts["sources"]:
        if not source["kept"]["documents"]:
            found.append(f"nothing is left of source {source['source']}")
    repeated = facts["duplicates"].get("dedup.survivors", {}).get("repeated_ids", {})
    if repeated.get("documents"):
        found.append(
            f"{repeated['documents']:,} documents have the id of an earlier one, "
            f"for example {', '.join(repeated['examples'][:3])}"
        )
    return found


def fold_info(values: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Task facts added up: integers summed, mappings folded; of all else the first value stays."""
    total: dict[str, Any] = {}
    for value in values:
        for key, this in value.items():
            before = total.get(key)
            if isinstance(this, Mapping):
                total[key] = fold_info([before, this] if isinstance(before, dict) else [this])
            elif isinstance(this, int) and not isinstance(this, bool):
                total[key] = this + (before if isinstance(before, int) else 0)
            else:
                total.setdefault(key, this)
    return total


def _flow(flow: Flow) -> dict[str, int]:
    return {"documents": flow.documents, "bytes": flow.bytes, "tokens": flow.tokens}


def _funnel(stage: str, counts: Counts, came: Flow) -> list[dict[str, Any]]:
    """Lines of one stage: in, removed and failed by reason, kept. Shares are of the run's input."""
    if not counts.flows:
        return []
    rows: list[dict[str, Any]] = []
    for outcome in ("in", "removed", "failed", "kept"):
        grouped: dict[str, Flow] = {}
        for key, flow in counts.flows.items():
            if key.outcome == outcome:
                grouped.setdefault(key.reason, Flow()).add(flow)
        if outcome == "kept":
            grouped = {"": counts.total("kept")}
        largest_first = sorted(grouped.items(), key=lambda item: (-item[1].documents, item[0]))
        for reason, flow in largest_first:
            share = flow.documents / came.documents if came.documents else 0.0
            rows.append(
                {
                    "stage": stage,
                    "outcome": outcome,
                    "reason": reason,
                    **_flow(flow),
                    "share": round(share, 6),
                }
            )
    return rows


def _by(
    names: Sequence[str], ledgers: Iterable[Counts], outcomes: Sequence[str]
) -> list[dict[str, Any]]:
    """Totals of some outcomes grouped by ledger keys, most bytes first."""
    grouped: dict[tuple[str, ...], Flow] = {}
    for counts in ledgers:
        for key, flow in counts.flows.items():
            if key.outcome in outcomes:
                grouped.setdefault(_group(key, names), Flow()).add(flow)
    rows = sorted(grouped.items(), key=lambda item: (-item[1].bytes, item[0]))
    return [{**dict(zip(names, key, strict=True)), **_flow(flow)} for key, flow in rows]


def _group(key: FlowKey, names: Sequence[str]) -> tuple[str, ...]:
    return tuple(getattr(key, name) for name in names)


def _sources(ledgers: Sequence[Counts], last: Counts) -> list[dict[str, Any]]:
    """What each source gave, lost and has left."""
    if not ledgers:
        return []
    came = {row["source"]: row for row in _by(("source",), ledgers[:1], ("in",))}
    lost = {row["source"]: row for row in _by(("source",), ledgers, ("removed",))}
    failed = {row["source"]: row for row in _by(("source",), ledgers, ("failed",))}
    kept = {row["source"]: row for row in _by(("source",), [last], ("kept",))}
    none = _flow(Flow())
    return [
        {
            "source": name,
            "in": {k: row[k] for k in ("documents", "bytes")},
            "removed": {k: lost.get(name, none)[k] for k in ("documents", "bytes")},
            "failed": {k: failed.get(name, none)[k] for k in ("documents", "bytes")},
            "kept": {k: kept.get(name, none)[k] for k in ("documents", "bytes", "tokens")},
        }
        for name, row in came.items()
    ]


def _tokens(encoded: Mapping[str, Any]) -> dict[str, Any] | None:
    if "tokens" not in encoded:
        return None
    tokens, size = encoded["tokens"], encoded.get("bytes", 0)
    return {
        "tokens": tokens,
        "rows": encoded.get("rows", 0),
        "padding": encoded.get("padding", 0),
        "documents": encoded.get("documents", 0),
        "bytes_per_token": round(size / tokens, 4) if tokens else None,
    }


def _sizes(records: Iterable[TaskRecord]) -> list[dict[str, Any]]:
    """Outputs on disk by kind, in the order in which they first come."""
    files: Counter[str] = Counter()
    size: Counter[str] = Counter()
    for record in records:
        for output in record.outputs:
            files[output.kind] += 1
            size[output.kind] += output.bytes
    return [{"kind": kind, "files": files[kind], "bytes": size[kind]} for kind in files]


def _quarantine(
    run: Run, steps: Sequence[StepState], ledger: Mapping[str, Counts]
) -> dict[str, Any]:
    """Failed documents by stage and kind, with the place and the error of some of them."""
    kinds = [
        row
        for stage, counts in ledger.items()
        for row in _funnel(stage, counts, Flow())
        if row["outcome"] == "failed"
    ]
    paths = [
        output.path
        for state in steps
        for record in state.records
        for output in record.outputs
        if output.kind == "quarantine"
    ]
    examples: dict[str, list[dict[str, Any]]] = {}
    for path in paths[:_EXAMPLE_FILES]:
        for row in _rejects(run, path):
            some = examples.setdefault(row["reason"], [])
            if len(some) < EXAMPLES:
                some.append(row)
    for kind in kinds:
        del kind["share"], kind["tokens"], kind["outcome"]
    return {"kinds": kinds, "examples": dict(sorted(examples.items())), "files": len(paths)}


def _excerpt(raw: bytes | None) -> str | None:
    """The beginning of a rejected record; bytes that are no text are shown as escapes."""
    return None if raw is None else raw[:_RAW].decode("utf-8", "backslashreplace")


def _rejects(run: Run, path: str) -> list[dict[str, Any]]:
    """The first row group of a quarantine file; nothing if it cannot be read (verify says why)."""
    try:
        with storage.open_read(run.path(path)) as opened:
            rows = pq.ParquetFile(opened).read_row_group(0).to_pylist()
    except (OSError, pa.ArrowException, GristmillError):
        return []
    return [
        {
            "reason": row["reason"],
            "source": row["source"],
            "path": row["path"],
            "position": row["position"],
            "message": row["message"],
            "raw": _excerpt(row["raw"]),
        }
        for row in rows
    ]


def _pii(info: Mapping[str, Any]) -> dict[str, Any]:
    """Findings by type."""
    return {"findings": info["findings"]} if "findings" in info else {}


def _duplicates(info: Mapping[str, Any], counts: Counts) -> dict[str, Any]:
    """Removed documents by kind, and the facts of the dedup steps."""
    removed = {
        row["reason"]: row["documents"]
        for row in _funnel("dedup", counts, Flow())
        if row["outcome"] == "removed"
    }
    return {
        "removed": removed,
        **{step: info[step] for step in ("dedup.pairs", "dedup.survivors") if step in info},
    }


def _tokenizer(run: Run, steps: Sequence[StepState]) -> dict[str, Any] | None:
    """Facts of the trained or given tokenizer, with the paths of its files."""
    records = [r for s in steps if s.step == "train" for r in s.records]
    if not records:
        return None
    facts: dict[str, Any] = {**records[0].info}
    for output in records[0].outputs:
        if output.kind == "tokenizer-info":
            try:
                facts = {**json.loads(storage.read_bytes(run.path(output.path))), **facts}
            except (OSError, ValueError):
                continue  # verify says what is wrong with it
    facts["files"] = {o.kind: o.path for o in records[0].outputs}
    return facts
