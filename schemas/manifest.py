"""The manifest and the ledger file: what a run directory promises to contain.

Both are folds over task records in plan order, so they are the same bytes whoever ran the tasks,
and when. Neither holds a clock, a host or a duration.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from schemas.errors import IntegrityError, LedgerError
from schemas.ledger import Counts
from schemas.recipe import Recipe
from schemas.record import Output, TaskRecord

FORMAT = 1  # of the run directory; a reader refuses what it does not know


@dataclass(frozen=True, kw_only=True)
class StepManifest:
    """A finished step: its task names in plan order, and all their outputs, sorted by path."""

    step: str
    stage: str
    tasks: tuple[str, ...]
    outputs: tuple[Output, ...]


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Everything a run has committed, stage by stage."""

    format: int = FORMAT
    gristmill: str  # version
    recipe: str  # name
    recipe_sha256: str
    environment: Mapping[str, str]
    stages: tuple[str, ...]  # finished ones, in order
    steps: tuple[StepManifest, ...]
    ledger_sha256: str  # of the bytes of ledger.json

    def outputs(self, kind: str | None = None) -> Iterator[Output]:
        """Outputs of all steps in step and path order; of one kind if given."""
        for step in self.steps:
            for output in step.outputs:
                if kind is None or output.kind == kind:
                    yield output

    def step(self, name: str) -> StepManifest | None:
        """The step of this name, None if it has not been run."""
        return next((s for s in self.steps if s.step == name), None)

    def dumps(self) -> bytes:
        return _dump(asdict(self))

    @classmethod
    def loads(cls, data: bytes) -> Manifest:
        """Raise IntegrityError if this is no manifest of a known format."""
        try:
            value = json.loads(data)
            if value["format"] != FORMAT:
                raise IntegrityError(
                    f"manifest.json has format {value['format']!r}, this version of Gristmill "
                    f"reads format {FORMAT}; use the version that wrote it ({value['gristmill']})"
                )
            return cls(
                format=value["format"],
                gristmill=value["gristmill"],
                recipe=value["recipe"],
                recipe_sha256=value["recipe_sha256"],
                environment=value["environment"],
                stages=tuple(value["stages"]),
                steps=tuple(
                    StepManifest(
                        step=step["step"],
                        stage=step["stage"],
                        tasks=tuple(step["tasks"]),
                        outputs=tuple(Output(**output) for output in step["outputs"]),
                    )
                    for step in value["steps"]
                ),
                ledger_sha256=value["ledger_sha256"],
            )
        except (ValueError, KeyError, TypeError) as error:
            raise IntegrityError(
                f"manifest.json is not a manifest ({type(error).__name__}: {error})"
            ) from error


def build_manifest(
    *,
    gristmill: str,
    recipe: Recipe,
    environment: Mapping[str, str],
    steps: Sequence[tuple[str, str, Sequence[TaskRecord]]],
    stages: Sequence[str],
    ledger: bytes,
) -> Manifest:
    """The manifest of these finished steps.

    `steps` are (step name, stage, records in plan order) in pipeline order, `stages` the stages
    whose steps are all among them, `ledger` the bytes of ledger.json.
    """
    return Manifest(
        gristmill=gristmill,
        recipe=recipe.name,
        recipe_sha256=recipe.sha256(),
        environment=dict(environment),
        stages=tuple(stages),
        steps=tuple(
            StepManifest(
                step=name,
                stage=stage,
                tasks=tuple(record.task for record in records),
                outputs=tuple(
                    sorted((o for record in records for o in record.outputs), key=_by_path)
                ),
            )
            for name, stage, records in steps
        ),
        ledger_sha256=hashlib.sha256(ledger).hexdigest(),
    )


def fold_ledger(
    steps: Sequence[tuple[str, str, Sequence[TaskRecord]]],
) -> dict[str, Counts]:
    """Ledger by stage, in pipeline order: the sum over the records of each stage's steps."""
    stages: dict[str, Counts] = {}
    for _, stage, records in steps:
        counts = stages.setdefault(stage, Counts())
        for record in records:
            counts.merge(record.counts)
    return stages


def check_ledger(stages: Mapping[str, Counts]) -> None:
    """Raise LedgerError unless each stage balances and takes in what the one before it kept.

    Stages that count no documents (training reads counts) are passed over.
    """
    before: tuple[str, Counts] | None = None
    for stage, counts in stages.items():
        if not counts.flows:
            continue
        counts.check(f"stage {stage}")
        if before is not None:
            kept, came = before[1].total("kept"), counts.total("in")
            if kept.as_tuple() != came.as_tuple():
                raise LedgerError(
                    f"stage {before[0]} kept {kept.documents} documents, {kept.bytes} bytes, id "
                    f"checksum {kept.checksum:032x}, but stage {stage} took in {came.documents}, "
                    f"{came.bytes}, {came.checksum:032x}"
                )
        before = stage, counts


def dump_ledger(stages: Mapping[str, Counts]) -> bytes:
    """The bytes of ledger.json."""
    return _dump({"stages": {stage: counts.to_json() for stage, counts in stages.items()}})


def load_ledger(data: bytes) -> dict[str, Counts]:
    """Read ledger.json; raise IntegrityError if it is none."""
    try:
        stages = json.loads(data)["stages"]
        return {stage: Counts.from_json(counts) for stage, counts in stages.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise IntegrityError(
            f"ledger.json is not a ledger ({type(error).__name__}: {error})"
        ) from error


def _by_path(output: Output) -> str:
    return output.path


def _dump(value: Any) -> bytes:
    # Keys stay in the order written: stages and steps are in pipeline order.
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()
