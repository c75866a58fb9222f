"""One run at a time in a directory; a killed one does not block its own resume."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.lease import Lease
from schemas.errors import RunDirectoryError

HOLD = """
import sys, time
from pipeline.lease import Lease
with Lease(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_second_run_is_refused_until_the_first_is_killed(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", HOLD, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RunDirectoryError, match=f"in use by process {holder.pid} on "):
            Lease(str(tmp_path)).__enter__()
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        with Lease(str(tmp_path)):
            assert (tmp_path / "run.lock").exists()
        assert not (tmp_path / "run.lock").exists()
    finally:
        holder.kill()
        holder.communicate()


def test_lease_of_another_machine_counts_until_it_expires(tmp_path: Path) -> None:
    def held(seconds_ago: float) -> None:
        holder = {"token": "t", "host": "elsewhere", "pid": 1, "started": "1"}
        value = holder | {"renewed": time.time() - seconds_ago}
        (tmp_path / "run.lock").write_text(json.dumps(value))

    held(seconds_ago=30)
    with pytest.raises(RunDirectoryError, match="on elsewhere"):
        Lease(str(tmp_path)).__enter__()
    held(seconds_ago=61)
    with Lease(str(tmp_path)):
        pass


def test_damaged_lease_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / "run.lock").write_text("{")
    with Lease(str(tmp_path)):
        assert json.loads((tmp_path / "run.lock").read_text())["pid"]


def test_a_lease_that_was_taken_over_is_not_written_again(tmp_path: Path) -> None:
    with Lease(str(tmp_path)) as lease:
        lease.check()
        other = {"token": "t", "host": "elsewhere", "pid": 1, "started": "1"}
        content = json.dumps(other | {"renewed": time.time()})
        (tmp_path / "run.lock").write_text(content)
        with pytest.raises(RunDirectoryError, match="taken over by another run"):
            lease.check()
    assert (tmp_path / "run.lock").read_text() == content
