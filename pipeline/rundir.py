"""Reading a run directory from outside: what was planned, committed and promised."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from pipeline import storage
from pipeline.recipe_file import load_resolved
from pipeline.step import Run
from schemas.errors import IntegrityError, RunDirectoryError
from schemas.manifest import Manifest
from schemas.record import TaskRecord

# Names of all steps with their stages, in pipeline order; known without importing what they do.
STEPS = (
    ("clean", "clean"),
    ("dedup.pairs", "dedup"),
    ("dedup.survivors", "dedup"),
    ("scrub", "scrub"),
    ("train", "train"),
    ("encode", "encode"),
)


@dataclass(frozen=True, kw_only=True)
class StepState:
    """A planned step: its task names in plan order, and the records of those that are done."""

    step: str
    stage: str
    tasks: tuple[str, ...]
    records: tuple[TaskRecord, ...]

    @property
    def finished(self) -> bool:
        return len(self.records) == len(self.tasks)


def open_run(directory: str) -> Run:
    """The run in a directory; RunDirectoryError if there is none."""
    path = storage.join(directory, "recipe.yaml")
    if not storage.exists(path):
        raise RunDirectoryError(
            f"{directory} is not a run directory: it has no recipe.yaml. Expected the --output of "
            "gristmill run"
        )
    return Run(directory, load_resolved(storage.read_bytes(path), path))


def read_manifest(run: Run) -> Manifest | None:
    """The manifest, None while the run has not come to an end; IntegrityError if it is damaged."""
    path = run.path("manifest.json")
    return Manifest.loads(storage.read_bytes(path)) if storage.exists(path) else None


def read_plan(run: Run, step: str) -> list[dict[str, Any]] | None:
    """The step's tasks as planned, None before it was; IntegrityError if the plan is damaged."""
    path = run.path("plan", f"{step}.json")
    if not storage.exists(path):
        return None
    try:
        plan: list[dict[str, Any]] = json.loads(storage.read_bytes(path))["tasks"]
        names = [str(task["name"]) for task in plan]
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"plan/{step}.json is not a plan ({error!r})") from error
    if len(set(names)) != len(names):
        raise IntegrityError(f"plan/{step}.json names a task twice")
    return plan


def read_record(run: Run, step: str, task: str) -> TaskRecord | None:
    """The task's record, None if it has none yet; IntegrityError if it is damaged."""
    path = run.record_path(step, task)
    if not storage.exists(path):
        return None
    try:
        return TaskRecord.loads(storage.read_bytes(path))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise IntegrityError(f"records/{step}/{task}.json is not a record ({error!r})") from error


def read_steps(run: Run) -> list[StepState]:
    """State of every planned step, in pipeline order."""
    states = []
    for step, stage in STEPS:
        plan = read_plan(run, step)
        if plan is None:
            continue
        names = tuple(task["name"] for task in plan)
        found = (read_record(run, step, name) for name in names)
        records = tuple(record for record in found if record is not None)
        states.append(StepState(step=step, stage=stage, tasks=names, records=records))
    return states
