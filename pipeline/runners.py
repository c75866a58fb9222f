"""How a run is executed: on which Beam runner, how many workers. None of it changes a result."""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.transforms.environments import SubprocessSDKEnvironment

from schemas.errors import RecipeError

RUNNERS = ("local", "DirectRunner")  # two names of the same

# Below this planned input, starting worker processes costs more than they save.
_IN_PROCESS_BYTES = 8 << 20


@dataclass(frozen=True, kw_only=True)
class RunnerOptions:
    """`workers` None means one for each CPU this process may use."""

    runner: str = "local"
    workers: int | None = None
    bundle_repeat: int = 0  # process each bundle this many extra times; for tests

    def __post_init__(self) -> None:
        if self.runner not in RUNNERS:
            raise RecipeError(
                f"--runner: expected one of {', '.join(RUNNERS)}, got {self.runner!r}"
            )
        if self.workers is not None and self.workers < 1:
            raise RecipeError(f"--workers: expected 1 or more, got {self.workers}")

    def worker_count(self) -> int:
        if self.workers is not None:
            return self.workers
        if hasattr(os, "sched_getaffinity"):  # not on macOS
            return len(os.sched_getaffinity(0))
        return os.cpu_count() or 1


def make_pipeline(options: RunnerOptions, planned_bytes: int, log: Path) -> beam.Pipeline:
    """A pipeline on Beam's local runner, named explicitly: the default first tries to download
    another one. Processes rather than threads, since language identification holds the GIL.

    What worker processes print goes to `log`.
    """
    workers = options.worker_count()
    environment = None
    if workers == 1 or planned_bytes < _IN_PROCESS_BYTES:
        workers = 1
    else:
        # Beam's own multi_processing mode is this command without the log; exec, so that the
        # worker and no shell is the driver's child.
        environment = SubprocessSDKEnvironment.from_command_string(
            f"exec {shlex.quote(sys.executable)} -m apache_beam.runners.worker.sdk_worker_main "
            f"2>>{shlex.quote(str(log))}"
        )
    arguments = [
        f"--direct_num_workers={workers}",
        "--direct_running_mode=in_memory",  # that is: where the environment says
        f"--direct_runner_bundle_repeat={options.bundle_repeat}",
    ]
    runner = FnApiRunner(default_environment=environment)
    return beam.Pipeline(runner=runner, options=PipelineOptions(arguments))
