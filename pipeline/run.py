"""One run: the steps chained into one Beam pipeline, from plan to manifest.

Between steps travels only a count of committed tasks. It releases the next step's planner, which
reads the records themselves.
"""

from __future__ import annotations

import json
import logging
import os
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import apache_beam as beam

from pipeline import storage
from pipeline.clean import Clean
from pipeline.dedup import Pairs, Survivors
from pipeline.encode import Encode
from pipeline.environment import fingerprint
from pipeline.lease import Lease
from pipeline.logs import log_file
from pipeline.recipe_file import dump_recipe, load_resolved
from pipeline.runners import RunnerOptions, make_pipeline
from pipeline.scrub import Scrub
from pipeline.step import Run, Step, clear_scratch, planned, run_task
from pipeline.train import Train
from pipeline.warm import is_warm, warm
from pipeline.worker import prepare_worker
from schemas import errors
from schemas.errors import GristmillError, RecipeError, RunDirectoryError, TaskError
from schemas.ledger import Counts
from schemas.manifest import (
    Manifest,
    build_manifest,
    check_ledger,
    dump_ledger,
    fold_ledger,
)
from schemas.recipe import STAGES, Recipe
from schemas.record import Task

STEPS: tuple[Step, ...] = (Clean(), Pairs(), Survivors(), Scrub(), Train(), Encode())
# A worker that died, or storage that failed, is worth another try; committed tasks are skipped.
_ATTEMPTS = 3


@dataclass(frozen=True)
class Summary:
    """What a run came to."""

    directory: str
    manifest: Manifest
    ledger: dict[str, Counts]  # by stage


def steps_until(until: str) -> tuple[Step, ...]:
    """The steps up to and including a stage."""
    if until not in STAGES:
        raise RecipeError(f"--until: expected one of {', '.join(STAGES)}, got {until!r}")
    wanted = STAGES[: STAGES.index(until) + 1]
    return tuple(step for step in STEPS if step.stage in wanted)


def execute(
    recipe: Recipe, directory: str, *, options: RunnerOptions, until: str = STAGES[-1]
) -> Summary:
    """Run, or resume, all stages up to `until` in `directory`.

    Raises RunDirectoryError when the directory is in use or was made with another recipe, the
    error of a failed task, and LedgerError when the books do not balance.
    """
    steps = steps_until(until)
    run = Run(directory if storage.is_remote(directory) else os.path.abspath(directory), recipe)
    with Lease(run.directory) as lease, log_file(run) as log:
        _claim(run)
        clear_scratch(run)  # of a run that was killed
        if storage.exists(run.path("manifest.json")):  # never commit to less than before
            done = Manifest.loads(storage.read_bytes(run.path("manifest.json"))).stages
            steps = max(steps, steps_until(done[-1]), key=len)
        planned(run, STEPS[0])  # fails on bad input before any worker starts
        if not is_warm():
            warm(options.worker_count())
        for attempt in range(1, _ATTEMPTS + 1):
            lease.check()
            try:
                _submit(run, steps, options, log)
                break
            except GristmillError:
                raise
            except Exception as error:  # a lost worker, seen through Beam
                if attempt == _ATTEMPTS:
                    raise TaskError(
                        f"the runner failed {attempt} times, last: {error}. Committed tasks are "
                        "kept: the same command resumes. If they ran out of memory, use fewer "
                        "--workers."
                    ) from error
                logging.getLogger(__name__).warning("resubmitting after: %s", error)
        lease.check()
        summary = _conclude(run, steps)
        clear_scratch(run)
        return summary


def _claim(run: Run) -> None:
    """Make the directory this recipe's, or find that it is another's."""
    path = run.path("recipe.yaml")
    if storage.exists(path):
        found = load_resolved(storage.read_bytes(path), path).canonical()
        if found == run.recipe.canonical():
            return
        raise RunDirectoryError(
            f"{run.directory} was made with another recipe; these keys differ: "
            f"{', '.join(_differences(found, run.recipe.canonical()))}. "
            "Choose another --output, or use the recipe as it was."
        )
    if not storage.is_remote(run.directory):
        foreign = sorted(set(os.listdir(run.directory)) - {"log", "run.lock"})
        if foreign:
            raise RunDirectoryError(
                f"{run.directory} is not empty and no run directory: found {foreign[0]!r}. "
                "Choose another --output."
            )
    storage.write_bytes(path, dump_recipe(run.recipe))


def _differences(old: object, new: object, at: str = "") -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(set(old) | set(new)):
            yield from _differences(old.get(key), new.get(key), f"{at}.{key}" if at else key)
    elif old != new:
        yield at or "the whole file"


def _submit(run: Run, steps: Iterable[Step], options: RunnerOptions, log: Path) -> None:
    """Run one Beam pipeline over the steps; raise the error of the task that failed first."""
    attempt = uuid.uuid4().hex
    size = sum(task.size for task in run.tasks(STEPS[0].name))
    pipeline = make_pipeline(options, size, log)
    done = pipeline | "start" >> beam.Create([0])
    before: Step | None = None
    for step in steps:
        done = (
            done
            | f"plan {step.name}" >> beam.ParDo(PlanTasks(run, step, before, attempt))
            | f"deal {step.name}" >> beam.Reshuffle()
            | step.name >> beam.ParDo(RunTask(run, step, attempt))
            | f"await {step.name}" >> beam.combiners.Count.Globally()
        )
        before = step
    try:
        pipeline.run().wait_until_finish()
    except Exception:
        _Failure(run, attempt).raise_if_set()
        raise
    finally:
        _Failure(run, attempt).clear()


class PlanTasks(beam.DoFn):
    """Count of the step before -> the tasks of this step, largest first."""

    def __init__(self, run: Run, step: Step, before: Step | None, attempt: str) -> None:
        self._run, self._step, self._before, self._attempt = run, step, before, attempt

    def process(self, completed: int) -> Iterator[Task]:
        try:
            tasks = self._plan(completed)
        except Exception as error:
            _Failure(self._run, self._attempt).set(error)
            raise
        yield from sorted(tasks, key=lambda task: (-task.size, task.name))

    def _plan(self, completed: int) -> list[Task]:
        if self._before is not None:
            expected = len(self._run.tasks(self._before.name))
            # A bundle that is processed twice may count a task twice, never less than once.
            if completed < expected:
                raise TaskError(f"{self._before.name}: {completed} of {expected} tasks finished")
        return planned(self._run, self._step)


class RunTask(beam.DoFn):
    """Task -> its name, once it is committed."""

    def __init__(self, run: Run, step: Step, attempt: str) -> None:
        self._run, self._step, self._attempt = run, step, attempt

    def setup(self) -> None:
        prepare_worker()

    def process(self, task: Task) -> Iterator[str]:
        failure = _Failure(self._run, self._attempt)
        failure.raise_if_set()  # the local runner would start every other task all the same
        try:
            yield run_task(self._run, self._step, task).task
        except Exception as error:
            failure.set(error)
            raise


class _Failure:
    """The first error of an attempt, where other workers and the driver see it.

    Errors of files and networks come out as OSError, and the attempt is worth another.
    """

    def __init__(self, run: Run, attempt: str) -> None:
        self._path = run.path("log", f"failure-{attempt}.json")

    def set(self, error: Exception) -> None:
        if not storage.exists(self._path):
            # An InputError has a cause of that kind too, but names what the user has to mend.
            cause = error.__cause__ if isinstance(error, TaskError) else error
            transient = isinstance(cause, OSError)
            kind = "OSError" if transient else type(error).__name__
            value = {"kind": kind, "message": str(error)}
            storage.write_bytes(self._path, json.dumps(value).encode())

    def raise_if_set(self) -> None:
        if storage.exists(self._path):
            value = json.loads(storage.read_bytes(self._path))
            if value["kind"] == "OSError":
                raise OSError(value["message"])
            kind: type[GristmillError] = getattr(errors, value["kind"], TaskError)
            raise kind(value["message"])

    def clear(self) -> None:
        storage.remove(self._path)


def _conclude(run: Run, steps: tuple[Step, ...]) -> Summary:
    """Fold the records into the ledger, check it, and commit the run with its manifest."""
    finished = [(step.name, step.stage, run.records(step.name)) for step in steps]
    ledger = fold_ledger(finished)
    check_ledger(ledger)
    ledger_bytes = dump_ledger(ledger)
    manifest = build_manifest(
        gristmill=fingerprint()["gristmill"],
        recipe=run.recipe,
        environment=fingerprint(),
        steps=finished,
        stages=tuple(ledger),
        ledger=ledger_bytes,
    )
    storage.write_bytes(run.path("ledger.json"), ledger_bytes)
    storage.write_bytes(run.path("manifest.json"), manifest.dumps())
    return Summary(run.directory, manifest, ledger)
