"""The run directory's lease: one run at a time, and a killed run does not block its own resume.

The lease is a small file that its holder renews. Another run takes it over when it has expired, or
at once when the holder was a process of this machine that is gone.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from types import TracebackType
from typing import Any

from pipeline import storage
from schemas.errors import RunDirectoryError

_RENEW_SECONDS = 5.0
_EXPIRE_SECONDS = 60.0
_SETTLE_SECONDS = 0.05


class Lease:
    """Context manager that holds `<directory>/run.lock`; RunDirectoryError if another run does."""

    def __init__(self, directory: str) -> None:
        self._path = storage.join(directory, "run.lock")
        self._directory = directory
        self._token = uuid.uuid4().hex
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)

    def __enter__(self) -> Lease:
        holder = self._read()
        if holder is not None and not _abandoned(holder):
            raise RunDirectoryError(
                f"{self._directory} is in use by process {holder['pid']} on {holder['host']}, last "
                f"seen {time.time() - holder['renewed']:.0f} s ago. Wait for it or choose another "
                f"--output; if that process is gone, its lease ends "
                f"{_EXPIRE_SECONDS:.0f} s after it was last seen."
            )
        self._write()
        # Of two that start at the same moment, the last writer holds it.
        time.sleep(_SETTLE_SECONDS)
        holder = self._read()
        if holder is None or holder["token"] != self._token:
            raise RunDirectoryError(f"{self._directory} was taken by another run just now")
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        holder = self._read()
        if holder is not None and holder["token"] == self._token:
            storage.remove(self._path)

    def _renew(self) -> None:
        while not self._stop.wait(_RENEW_SECONDS):
            self._write()

    def _write(self) -> None:
        value = {
            "token": self._token,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": _process_start(os.getpid()),
            "renewed": time.time(),
        }
        storage.write_bytes(self._path, json.dumps(value).encode())

    def _read(self) -> dict[str, Any] | None:
        if not storage.exists(self._path):
            return None
        try:
            value: dict[str, Any] = json.loads(storage.read_bytes(self._path))
        except ValueError:  # written by something else, or cut short by a full disk
            return None
        return value


def _abandoned(holder: dict[str, Any]) -> bool:
    if time.time() - holder["renewed"] > _EXPIRE_SECONDS:
        return True
    if holder["host"] != socket.gethostname():
        return False
    return bool(_process_start(holder["pid"]) != holder["started"])


def _process_start(pid: int) -> str | None:
    """Something that tells a process from a later one with the same id; None if there is none."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:  # no procfs, as on macOS: the process id alone must do
        return "alive"
    state, start = fields[0], fields[19]
    return None if state == "Z" else start
